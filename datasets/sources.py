"""Where real data come from: the list in sources.toml, verified downloads, and a check of what is in the data folder."""

from __future__ import annotations

import errno
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NoReturn, Self
from urllib.parse import urlsplit

import pooch
import requests
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from tqdm import tqdm

from assay.datasets.card import DataError, hash_files

LIST = Path(__file__).with_name("sources.toml")
TIMEOUT_SECONDS = (10, 60)  # to connect; between two pieces of data
RETRIES = 2
CHUNK = 1 << 16
LINE = 70  # nucleotides per line of a FASTA file made here
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _check_path(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text or str(path) != text or text == ".":
        raise ValueError(f"{text!r} is not a plain path below the data folder")
    return text


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not a plain https address")
    return text


RelativePath = Annotated[str, AfterValidator(_check_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: RelativePath
    dataset: Text
    licence: Text
    contract: Text
    note: str = ""


class SourceFile(_Entry):
    """A file that is fetched unchanged: bytes and sha256 are the origin's."""

    kind: Literal["file"] = "file"
    url: Annotated[str, AfterValidator(_check_url)]
    sha256: Sha256
    bytes: PositiveInt
    origin: Text
    rows: PositiveInt | None = None  # of a table, without its header


class DerivedFile(_Entry):
    """A file made from others. With a rule, `fetch` makes it; without one, it must be copied or made by hand as `how` says."""

    kind: Literal["derived"] = "derived"
    sha256: Sha256
    bytes: PositiveInt
    made_from: Annotated[list[Text], Field(min_length=1)]
    how: Text
    rows: PositiveInt | None = None
    rule: Literal["reverse-complement"] | None = None
    header: str = ""  # of the FASTA file that the rule writes


class SuppliedFile(_Entry):
    """A file that only the user can put there."""

    kind: Literal["supplied"] = "supplied"
    where: Text


class Sources(BaseModel):
    """The whole list. Paths are unique, and a rule's source is a fetched file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    file: list[SourceFile] = []
    derived: list[DerivedFile] = []
    supplied: list[SuppliedFile] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        paths = [entry.path for entry in self.entries]
        repeated = sorted({path for path in paths if paths.count(path) > 1})
        if repeated:
            raise ValueError(f"listed twice: {', '.join(repeated)}")
        fetched = {entry.path for entry in self.file}
        for entry in self.derived:
            if entry.rule and (len(entry.made_from) != 1 or entry.made_from[0] not in fetched):
                raise ValueError(f"{entry.path}: a rule needs exactly one source, and that one as a [[file]]")
        return self

    @property
    def entries(self) -> list[SourceFile | DerivedFile | SuppliedFile]:
        """Everything, in the order of the list."""
        return [*self.file, *self.derived, *self.supplied]

    @property
    def fetchable(self) -> list[SourceFile | DerivedFile]:
        """What `fetch` can bring about, sources before what is made from them."""
        return [*self.file, *(entry for entry in self.derived if entry.rule)]


class FileStatus(StrEnum):
    """How a file of the data folder compares with the list."""

    OK = "ok"
    MISSING = "missing"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class FileState:
    """One file as found: `sha256` and `bytes` are None when it is missing."""

    path: str
    status: FileStatus
    expected_sha256: str
    sha256: str | None
    bytes: int | None
    remedy: str  # empty when all is well


def load_sources(path: Path = LIST) -> Sources:
    """The list of data sources. Raises DataError that names the entry and the field."""
    try:
        return Sources.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(path, f"cannot be read: {error}", "Restore it from the repository.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the list"
        raise DataError(path, f"{place}: {first['msg']}", "Correct this entry (entries count from 0).") from error


def describe(name: str, sources: Sources | None = None) -> list[SourceFile | DerivedFile | SuppliedFile]:
    """Every entry of a dataset, or the one entry of a path: licence, rows, origin, contract. Raises DataError for an unknown name."""
    listed = (sources or load_sources()).entries
    found = [entry for entry in listed if name in {entry.dataset, entry.path}]
    if not found:
        known = ", ".join(dict.fromkeys(entry.dataset for entry in listed))
        raise DataError(name, "no such dataset or file in the list of sources", f"Known datasets: {known}.")
    return found


def verify(folder: Path, sources: Sources | None = None) -> list[FileState]:
    """State of every file that has a sha256, fetched or derived, in a data folder. Supplied files have none and are left out."""
    listed = sources or load_sources()
    return [_find_state(entry, folder) for entry in listed.entries if not isinstance(entry, SuppliedFile)]


def fetch(
    files: Iterable[SourceFile | DerivedFile],
    folder: Path,
    base_url: str | None = None,
    *,
    progress: bool = True,
    retries: int = RETRIES,
) -> list[Path]:
    """Brings files into the data folder and returns their paths, in order. What is there and verified is not fetched again.

    A file appears under its name only when it is whole and its sha256 is right; earlier files are never touched. base_url: address of a
    mirror, put in place of each url's scheme and host. Raises DataError (wrong hash, broken connection, no network, missing at
    the origin, full disk, a different file in the way) that names the file and what to do.
    """
    return [_fetch_one(entry, folder, base_url, progress=progress, retries=retries) for entry in files]


def _find_state(entry: SourceFile | DerivedFile, folder: Path) -> FileState:
    path = folder / entry.path
    if not path.is_file():
        remedy = f"made by hand: {entry.how}" if isinstance(entry, DerivedFile) and not entry.rule else "python -m bench data fetch"
        return FileState(entry.path, FileStatus.MISSING, entry.sha256, None, None, remedy)
    size = path.stat().st_size
    digest = hash_files([path])
    if digest == entry.sha256:
        return FileState(entry.path, FileStatus.OK, entry.sha256, digest, size, "")
    return FileState(entry.path, FileStatus.DIFFERS, entry.sha256, digest, size, "move this file away, then python -m bench data fetch")


def _fetch_one(entry: SourceFile | DerivedFile, folder: Path, base_url: str | None, *, progress: bool, retries: int) -> Path:
    final = folder / entry.path
    state = _find_state(entry, folder)
    if state.status is FileStatus.OK:
        return final
    if state.status is FileStatus.DIFFERS:
        raise DataError(final, f"another file is in the way (sha256 {state.sha256}, expected {entry.sha256})", "Move it away, then fetch again.")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, SourceFile):
            _download(entry, final, base_url, progress=progress, retries=retries)
        else:
            _derive(entry, folder, final)
    except requests.RequestException as error:  # an OSError too, so it has to come first
        _explain_network(entry, final, error)
    except OSError as error:
        _explain_disk(entry, final, error)
    return final


def _download(entry: SourceFile, final: Path, base_url: str | None, *, progress: bool, retries: int) -> None:
    url = entry.url if base_url is None else base_url.rstrip("/") + urlsplit(entry.url).path

    def stream(url: str, output: str, keeper: pooch.Pooch) -> None:
        # compressed transfer would hide a cut connection from the length check and falsify the bar
        plain = {"Accept-Encoding": "identity"}
        with tqdm(total=entry.bytes, desc=entry.path, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress) as bar:
            try:
                pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK, timeout=TIMEOUT_SECONDS, headers=plain)(url, output, keeper)
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code < 500:
                    _explain_network(entry, final, error)  # asking again would bring the same answer
                raise
        _check_bytes(entry, final, Path(output), f"from {url}; the origin changed or the download was tampered with")

    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(final.parent, base_url="", registry={final.name: f"sha256:{entry.sha256}"}, urls={final.name: url}, retry_if_failed=retries)
    store.fetch(final.name, downloader=stream)


def _derive(entry: DerivedFile, folder: Path, final: Path) -> None:
    source = folder / entry.made_from[0]
    if not source.is_file():
        raise DataError(final, f"is made from {source}, which is not there", "Fetch that file first.")
    bases = "".join(source.read_text(encoding="ascii").split()).translate(str.maketrans("ACGTacgt", "TGCAtgca"))[::-1]
    lines = [bases[start : start + LINE] for start in range(0, len(bases), LINE)]
    partial = final.with_name(final.name + ".part")
    try:
        partial.write_text(f">{entry.header}\n" + "\n".join(lines) + "\n", encoding="ascii", newline="\n")
        _check_bytes(entry, final, partial, f"made from {source}; the source or the rule changed")
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


def _check_bytes(entry: SourceFile | DerivedFile, final: Path, found: Path, cause: str) -> None:
    digest = hash_files([found])
    if digest != entry.sha256:
        sizes = f"{found.stat().st_size} bytes, expected {entry.bytes}"
        raise DataError(final, f"wrong sha256 {digest}, expected {entry.sha256} ({sizes}; {cause})", "Nothing was kept. Try a mirror, or report it.")


def _explain_network(entry: SourceFile | DerivedFile, final: Path, error: requests.RequestException) -> NoReturn:
    by_hand = f"Or put the file there by hand; its sha256 is {entry.sha256}."
    if isinstance(error, requests.HTTPError) and error.response is not None:
        problem = f"the server answered {error.response.status_code} {error.response.reason} for {error.response.url}"
        remedy = "The file may have moved: try a mirror or a newer version of this program."
    elif isinstance(error, requests.exceptions.ChunkedEncodingError):
        problem, remedy = f"the connection was cut in mid-file ({entry.bytes} bytes expected)", "Nothing was kept; run the command again."
    else:
        problem = f"no connection ({type(error).__name__}: {error})"
        remedy = "Check the network and the proxy (HTTPS_PROXY), or give a mirror."
    raise DataError(final, problem, f"{remedy} {by_hand}") from error


def _explain_disk(entry: SourceFile | DerivedFile, final: Path, error: OSError) -> NoReturn:
    if error.errno in _NO_ROOM:
        free = shutil.disk_usage(next(parent for parent in final.parents if parent.exists())).free
        problem = f"the disk is full or the file-size limit is reached: {entry.bytes} bytes are needed, {free} are free"
        raise DataError(final, problem, "Free some space or choose another folder with --to. Nothing of this file was kept.") from error
    raise DataError(final, f"cannot be written: {error.strerror}", "Choose a folder that you may write to with --to.") from error
