"""Which image made the records of a results folder."""

import tomllib

import pytest

from assay.bench.case import UsageError
from assay.bench.running.containers import Image
from assay.bench.running.digests import check_digest, keep_digests, read_digests

OLD, NEW = (f"sha256:{digit * 64}" for digit in "ab")


def test_the_first_digest_of_an_image_is_kept_and_said(tmp_path):
    assert read_digests(tmp_path) == {}
    assert keep_digests([Image("assay:cuda", OLD)], tmp_path) == {"assay:cuda": f"assay:cuda is {OLD}; kept in {tmp_path / 'images.toml'}"}
    assert keep_digests([Image("assay:cuda", OLD)], tmp_path) == {}
    assert list(keep_digests([Image("assay:cuda", OLD), Image("assay:triton2", NEW)], tmp_path)) == ["assay:triton2"]
    assert tomllib.loads((tmp_path / "images.toml").read_text()) == {"images": {"assay:cuda": OLD, "assay:triton2": NEW}}
    assert [path.name for path in tmp_path.iterdir()] == ["images.toml"]


def test_another_digest_is_refused_and_can_be_taken(tmp_path):
    keep_digests([Image("assay:cuda", OLD)], tmp_path)
    with pytest.raises(UsageError, match=f"assay:cuda is {NEW}, but records in .* were made with {OLD}.*--allow-new-image"):
        check_digest(Image("assay:cuda", NEW), read_digests(tmp_path), tmp_path)
    check_digest(Image("assay:cuda", OLD), read_digests(tmp_path), tmp_path)
    check_digest(Image("assay:cpu", NEW), read_digests(tmp_path), tmp_path)
    assert read_digests(tmp_path) == {"assay:cuda": OLD}
    keep_digests([Image("assay:cuda", NEW)], tmp_path)
    assert read_digests(tmp_path) == {"assay:cuda": NEW}


@pytest.mark.parametrize("text", ['[images]\n"assay:cuda" = "sha2', "", "[images]\ncuda = 1\n", 'images = "cuda"\n', "\udcff"])
def test_a_file_that_is_not_as_it_was_written_is_told_and_left(tmp_path, text):
    path = tmp_path / "images.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"images.toml .* remove it to begin anew"):
        read_digests(tmp_path)
    assert path.read_bytes() == text.encode(errors="surrogateescape")


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    keep_digests([Image("assay:cuda", OLD)], tmp_path)

    def refuse(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        keep_digests([Image("assay:cuda", NEW)], tmp_path)
    assert read_digests(tmp_path) == {"assay:cuda": OLD}
    assert [path.name for path in tmp_path.iterdir()] == ["images.toml"]
