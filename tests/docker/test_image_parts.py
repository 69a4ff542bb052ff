"""What a build says of itself and puts into an image, without a build."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "docker"


def tell(expression: str, folder: Path = FOLDER, **variables: str) -> str:
    """What an expression over docker/build.py and docker/own_cache.py gives."""
    command = [sys.executable, "-B", "-c", f"import os, sys, pathlib, build, own_cache; print({expression})"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed, as in an image")

    def git(*arguments):
        return subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True, text=True)

    for name in ("build.py", "own_cache.py"):
        (tmp_path / "docker").mkdir(exist_ok=True)
        (tmp_path / "docker" / name).write_text((FOLDER / name).read_text())
    (tmp_path / ".dockerignore").write_text("*\n!bench\n!docker\n!README.md\n**/__pycache__\n**/*.pyc\n")
    (tmp_path / ".gitignore").write_text("*.pyc\n*.safetensors\n__pycache__/\n")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "case.py").write_text("")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    return tmp_path, git("rev-parse", "HEAD").stdout.strip()


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("bench/case.py", "-dirty"), ("bench/new.py", "-dirty"), ("README.md", "-dirty"), ("bench/weights.safetensors", "-dirty"), (".dockerignore", "-dirty"),
        ("notes.txt", ""), ("bench/case.pyc", ""), ("bench/__pycache__/case.pyc", ""), ("results/record.json", ""),
    ],
)  # fmt: skip
def test_the_revision_is_dirty_for_every_file_that_the_image_takes(project, path, suffix):
    folder, commit = project
    assert tell("build.name_revision()", folder / "docker") == commit
    (folder / path).parent.mkdir(exist_ok=True)
    with (folder / path).open("a") as file:
        file.write("\n# more\n")
    assert tell("build.name_revision()", folder / "docker") == commit + suffix


def test_no_checkout_has_no_revision(project):
    folder, _ = project
    assert tell("build.name_revision()", folder / "docker", GIT_DIR=str(folder / "none")) == "unknown"


@pytest.mark.parametrize(
    ("image", "with_flash_attn", "names"),
    [
        ("cpu", False, ["torch.txt", "requirements.txt"]),
        ("cuda", False, ["requirements.txt"]),
        ("cuda", True, ["requirements.txt", "flash-attn.txt"]),
        ("triton2", False, ["requirements.txt"]),
    ],
)
def test_the_hash_of_the_locks_is_of_all_that_are_installed(image, with_flash_attn, names):
    listed = subprocess.run(["sha256sum", *names], cwd=FOLDER / image, capture_output=True, check=True).stdout
    assert tell(f"build.hash_locks(build.find_locks({image!r}, with_flash_attn={with_flash_attn}))") == hashlib.sha256(listed).hexdigest()


SEPARATED = "(setattr(own_cache, 'SHARED', sys.argv[-1]) or own_cache.separate('k'), [os.environ[n] for n in own_cache.NAMES], sys.pycache_prefix)[1:]"


def test_every_user_has_a_cache_of_their_own(tmp_path):
    shared, own = str(tmp_path), f"{tmp_path}/{os.getuid()}"
    places = {"HOME": shared, "XDG_CACHE_HOME": shared, "TRITON_CACHE_DIR": f"{shared}/triton", "TORCHINDUCTOR_CACHE_DIR": "/elsewhere"}
    expression = SEPARATED.replace("sys.argv[-1]", repr(shared))
    expected = ([own, own, f"{own}/triton", "/elsewhere"], f"{own}/pycache/k")
    assert tell(expression, FOLDER, **places) == str(expected)
    assert tell(expression, FOLDER, **(places | {"HOME": own, "XDG_CACHE_HOME": own, "TRITON_CACHE_DIR": f"{own}/triton"})) == str(expected)  # as a child finds it
    assert Path(own).stat().st_mode & 0o777 == 0o700


def test_a_build_leaves_nothing_in_the_cache(tmp_path):
    places = {"HOME": "/root", "XDG_CACHE_HOME": "/x", "TRITON_CACHE_DIR": "/x", "TORCHINDUCTOR_CACHE_DIR": "/x"}
    tell(SEPARATED.replace("sys.argv[-1]", repr(str(tmp_path))), FOLDER, **places)
    assert list(tmp_path.iterdir()) == []
