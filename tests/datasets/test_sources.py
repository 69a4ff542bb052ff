"""Downloads against a real HTTP server on this machine, with the faults that real ones have."""

import hashlib
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from assay.datasets.card import DataError
from assay.datasets.sources import DerivedFile, FileStatus, SourceFile, Sources, describe, fetch, load_sources, verify
from tests.conftest import ROOT

BODY = bytes(range(256)) * 1024
ORIGIN = "https://example.org/owner/repo/0123456789abcdef0123456789abcdef01234567"


@dataclass
class Origin:
    """What the server serves, what it does wrong, and what it was asked."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    failures: list[int] = field(default_factory=list)  # status codes of the next answers
    asked: list[str] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    def __init__(self, origin, *args):
        self.origin = origin
        super().__init__(*args)

    def do_GET(self):
        self.origin.asked.append(self.path)
        if self.origin.failures:
            self.send_error(self.origin.failures.pop(0))
        elif self.path not in self.origin.bodies:
            self.send_error(404)
        else:
            body = self.origin.bodies[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: self.origin.cut_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def origin():
    served = Origin()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, served)) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def entry(path="set/file.bin", body=BODY, **changes):
    fields = {"path": path, "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "url": f"{ORIGIN}/{path}"}
    return SourceFile.model_validate(fields | {"dataset": "set", "licence": "MIT", "origin": "example.org", "contract": "bytes"} | changes)


def serve(origin, *entries, body=BODY):
    origin.bodies |= {e.url.removeprefix("https://example.org"): body for e in entries}
    return entries


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_fetch_brings_whole_files_with_progress(origin, tmp_path, capfd):
    entries = serve(origin, entry("set/a.bin"), entry("set/deep/b.bin"))
    assert fetch(entries, tmp_path, origin.url) == [tmp_path / "set/a.bin", tmp_path / "set/deep/b.bin"]
    assert [(tmp_path / e.path).read_bytes() for e in entries] == [BODY, BODY]
    assert files_in(tmp_path) == ["set/a.bin", "set/deep/b.bin"]
    shown = capfd.readouterr().err
    assert "set/a.bin: 100%" in shown
    assert "256k/256k" in shown


def test_fetch_without_progress_is_silent(origin, tmp_path, capfd):
    fetch(serve(origin, entry()), tmp_path, origin.url, progress=False)
    assert capfd.readouterr() == ("", "")


def test_base_url_keeps_its_path_prefix(origin, tmp_path):
    one = entry()
    origin.bodies["/mirror" + one.url.removeprefix("https://example.org")] = BODY
    fetch([one], tmp_path, origin.url + "/mirror/", progress=False)
    assert (tmp_path / one.path).read_bytes() == BODY


def test_wrong_hash_names_both_hashes_and_keeps_nothing(origin, tmp_path):
    (one,) = serve(origin, entry(), body=b"tampered")
    with pytest.raises(DataError) as caught:
        fetch([one], tmp_path, origin.url, progress=False)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'set/file.bin'}: wrong sha256 {hashlib.sha256(b'tampered').hexdigest()}, expected {one.sha256}")
    assert "the origin changed or the download was tampered with" in message
    assert files_in(tmp_path) == []
    assert len(origin.asked) == 1  # the same bytes would come again


def test_cut_connection_keeps_nothing_and_earlier_files_stay(origin, tmp_path):
    first, second = serve(origin, entry("set/a.bin"), entry("set/b.bin"))
    fetch([first], tmp_path, origin.url, progress=False)
    origin.cut_after = 100_000
    with pytest.raises(DataError, match=r"b\.bin: the connection was cut in mid-file \(262144 bytes expected\).*run the command again"):
        fetch([first, second], tmp_path, origin.url, progress=False, retries=0)
    assert files_in(tmp_path) == ["set/a.bin"]


def test_second_fetch_downloads_only_what_is_missing(origin, tmp_path):
    entries = serve(origin, entry("set/a.bin"), entry("set/b.bin"), entry("set/c.bin"))
    fetch(entries, tmp_path, origin.url, progress=False)
    (tmp_path / "set/b.bin").unlink()
    origin.asked.clear()
    fetch(entries, tmp_path, origin.url, progress=False)
    assert origin.asked == [entries[1].url.removeprefix("https://example.org")]
    assert (tmp_path / "set/b.bin").read_bytes() == BODY


def test_missing_at_the_origin_is_asked_once_and_explained(origin, tmp_path):
    one = entry()
    with pytest.raises(DataError, match=rf"the server answered 404 Not Found for http.*{one.path}.*put the file there by hand; its sha256 is {one.sha256}"):
        fetch([one], tmp_path, origin.url, progress=False)
    assert len(origin.asked) == 1


def test_server_fault_is_tried_again(origin, tmp_path):
    (one,) = serve(origin, entry())
    origin.failures = [503]
    fetch([one], tmp_path, origin.url, progress=False, retries=1)
    assert (tmp_path / one.path).read_bytes() == BODY
    assert len(origin.asked) == 2


def test_no_network_says_so(tmp_path):
    with pytest.raises(DataError, match=r"no connection \(ConnectionError.*HTTPS_PROXY.*by hand"):
        fetch([entry()], tmp_path, "http://127.0.0.1:9", progress=False, retries=0)


def test_a_different_file_in_the_way_is_never_overwritten(origin, tmp_path):
    (one,) = serve(origin, entry())
    path = tmp_path / one.path
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"another file is in the way.*Move it away"):
        fetch([one], tmp_path, origin.url, progress=False)
    assert path.read_bytes() == b"mine"
    assert origin.asked == []


def test_folder_that_cannot_be_made_is_explained(origin, tmp_path):
    (tmp_path / "set").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot be written: File exists.*--to"):
        fetch(serve(origin, entry()), tmp_path, origin.url, progress=False)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 128 KiB, where this process may mount one."""
    point = tmp_path / "disk"
    point.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", point], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs; the file-size limit test covers the same path")
    yield point
    subprocess.run(["umount", point], check=True)


def test_full_disk_names_file_need_and_remedy(origin, small_disk):
    kept = entry("set/a.bin", b"x" * 1000)
    serve(origin, kept, body=b"x" * 1000)
    (large,) = serve(origin, entry("set/b.bin"))
    with pytest.raises(DataError, match=r"b\.bin: the disk is full.*262144 bytes are needed, \d+ are free.*Free some space"):
        fetch([kept, large], small_disk, origin.url, progress=False)
    assert files_in(small_disk) == ["set/a.bin"]
    assert (small_disk / "set/a.bin").read_bytes() == b"x" * 1000


def test_file_size_limit_is_reported_like_a_full_disk(origin, tmp_path):
    serve(origin, entry())
    script = """
import resource, signal, sys
from pathlib import Path
from assay.datasets.card import DataError
from assay.datasets.sources import SourceFile, fetch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fetch([SourceFile.model_validate_json(sys.argv[1])], Path(sys.argv[2]), sys.argv[3], progress=False)
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, entry().model_dump_json(), tmp_path, origin.url], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"file\.bin: the disk is full or the file-size limit is reached: 262144 bytes are needed", done.stdout)
    assert files_in(tmp_path) == []


def derived(bases, header="chr1:1-8", **changes):
    text = f">{header}\n{bases}\n".encode()
    fields = {"path": "set/plus.fa", "sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text), "made_from": ["set/minus.txt"]}
    rule = {"how": "reverse complement", "rule": "reverse-complement", "header": header}
    return DerivedFile.model_validate(fields | rule | {"dataset": "set", "licence": "MIT", "contract": "FASTA"} | changes)


def test_reverse_complement_is_made_and_verified(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/minus.txt").write_text("AACC\nGTTN\n")
    fetch([derived("NAACGGTT")], tmp_path, progress=False)
    assert (tmp_path / "set/plus.fa").read_text() == ">chr1:1-8\nNAACGGTT\n"


def test_a_rule_that_gives_other_bytes_keeps_nothing(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/minus.txt").write_text("AACC\n")
    with pytest.raises(DataError, match=r"wrong sha256 .* made from .*minus\.txt; the source or the rule changed"):
        fetch([derived("NAACGGTT")], tmp_path, progress=False)
    assert files_in(tmp_path) == ["set/minus.txt"]


def test_reverse_complement_needs_its_source(tmp_path):
    with pytest.raises(DataError, match=r"is made from .*minus\.txt, which is not there"):
        fetch([derived("NAACGGTT")], tmp_path, progress=False)


def test_verify_tells_ok_missing_and_differs(tmp_path):
    ok, missing, differs = entry("set/ok"), entry("set/missing"), entry("set/differs")
    (tmp_path / "set").mkdir()
    (tmp_path / ok.path).write_bytes(BODY)
    (tmp_path / differs.path).write_bytes(BODY[:-1])
    states = verify(tmp_path, Sources(file=[ok, missing, differs]))
    assert [(s.status, s.bytes) for s in states] == [(FileStatus.OK, 262144), (FileStatus.MISSING, None), (FileStatus.DIFFERS, 262143)]
    assert states[2].sha256 == hashlib.sha256(BODY[:-1]).hexdigest()
    assert [s.remedy for s in states] == ["", "python -m bench data fetch", "move this file away, then python -m bench data fetch"]


ZEROS = "0" * 64
GOOD = f"""
[[file]]
path = "set/a"
dataset = "set"
licence = "MIT"
contract = "bytes"
origin = "example.org"
url = "https://example.org/a"
sha256 = "{ZEROS}"
bytes = 1
"""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("set/a", "../a"), r"file\.0\.path.*not a plain path below the data folder"),
        (("set/a", "/etc/passwd"), r"file\.0\.path.*not a plain path"),
        (("set/a", "set/../../a"), r"file\.0\.path.*not a plain path"),
        (("set/a", "set\\\\..\\\\a"), r"file\.0\.path.*not a plain path"),
        (("https://", "http://"), r"file\.0\.url.*not a plain https address"),
        (("https://example.org/a", "file:///etc/passwd"), r"file\.0\.url.*not a plain https address"),
        (("0" * 64, "0" * 63), r"file\.0\.sha256"),
        (("bytes = 1", "bytes = 0"), r"file\.0\.bytes"),
        (("bytes = 1", 'bytes = "1"'), r"file\.0\.bytes"),
        (("origin", "orgin"), r"file\.0\.origin.*Field required"),
        (("bytes = 1", "bytes = 1" + GOOD), "listed twice: set/a"),
        (("bytes = 1", "bytes ="), "cannot be read: Invalid value"),
    ],
)
def test_bad_lists_are_refused_by_entry_and_field(tmp_path, change, problem):
    path = tmp_path / "sources.toml"
    path.write_text(GOOD)
    assert [f.path for f in load_sources(path).file] == ["set/a"]
    path.write_text(GOOD.replace(*change))
    with pytest.raises(DataError, match=problem):
        load_sources(path)


def test_every_origin_is_pinned_to_a_commit():
    sources = load_sources()
    assert len(sources.file) == 28
    for file in sources.file:
        assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{40}/[\w./-]+", file.url), file.path
        assert file.path.startswith(f"{file.dataset}/")
        owner, repository, commit = file.url.split("/")[3:6]
        assert file.origin == f"github.com/{owner}/{repository} @ {commit}"


def test_describe_gives_a_dataset_or_one_file():
    assert [e.model_dump()["rows"] for e in describe("mmsplice_paper/mapsy.txt")] == [4951]
    assert {e.licence for e in describe("mmsplice_paper")} == {"Apache-2.0"}
    (abag,) = describe("abag")
    assert "esm2_pca_149" in abag.contract
    with pytest.raises(DataError, match=r"no such dataset.*Known datasets: mmsplice_paper, mfass, "):
        describe("mmsplice")


def test_the_list_agrees_with_the_real_files(real_data):
    assert {state.path for state in verify(real_data) if state.status is not FileStatus.OK} == set()
    for file in load_sources().file:
        if file.rows:
            lines = (real_data / file.path).read_bytes().count(b"\n")
            assert lines - file.rows in {0, 1}, file.path  # 1: a header


def test_the_whole_list_can_be_fetched_from_a_mirror(origin, tmp_path, real_data):
    sources = load_sources()
    origin.bodies = {f.url.removeprefix("https://raw.githubusercontent.com"): (real_data / f.path).read_bytes() for f in sources.file}
    fetch(sources.fetchable, tmp_path, origin.url, progress=False)
    assert files_in(tmp_path) == sorted(e.path for e in sources.fetchable)
    missing = {state.path for state in verify(tmp_path) if state.status is not FileStatus.OK}
    assert missing == {"abag_mini/abag_skempi_real.csv", "mfass/openspliceai_deltas.csv", "impc_abr/union_unique_mice.csv"}
