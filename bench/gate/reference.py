"""The two sides of a comparison: a git ref, a folder or an image digest, and how workers are started in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import assay
from assay.bench.case import UsageError
from assay.bench.gate.pipe import Pipe, ProcessPipe
from assay.bench.gate.verdict import Side
from assay.bench.measure.machine import identify_environment

WORKER = ("-m", "assay.bench.gate.start")
JUDGED = ("models", "datasets")  # what comes from a side; bench/ is the reference's
ROOMS = ("bench", "models", "datasets", "docker/cpu/requirements.txt")  # what decides how a checkout behaves
SPINNING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}  # how long threads without work keep a core, which here is the other side's
IMAGE = re.compile(r"(?:[\w./:-]+@)?sha256:[0-9a-f]{64}")


class Source(Protocol):
    """One side, ready to start workers."""

    @property
    def side(self) -> Side:
        """What it is."""

    def start(self, log: Path, data: Path | None) -> Pipe:
        """A fresh worker; `log` takes what it prints. `data`: folder of real data that it may read. Raises OSError where none can be started."""

    def locate(self, data: Path | None) -> str | None:
        """The data folder's name inside the worker."""

    def copy_harness(self, to: Path) -> Path:
        """Its bench/, copied to that place, which is returned. Nothing is written there later."""

    def lay_out(self, harness: Path, place: Path, *, own_environment: bool) -> Source:
        """The same side, whose workers are run by that copy of a bench/. place: does not exist yet, and may be used."""

    def hash_contents(self) -> str:
        """Of the files that its workers run."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with this project in it. Workers start in `place`: there a package assay holds only the harness and what is judged."""

    side: Side
    folder: Path
    place: Path | None = None
    python: str = sys.executable

    def start(self, log: Path, data: Path | None) -> Pipe:  # noqa: ARG002  # a process sees every folder
        # the interpreter's own variables could bring modules of anybody's along
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") and name not in SPINNING}
        environment["KMP_BLOCKTIME"] = "1"  # ms; Intel's OpenMP would spin for 200
        if not (self.folder / "assay").is_dir():
            raise FileNotFoundError(f"{self.side.name} has no package assay: it is older than this gate, which cannot run it; compare with a later commit")
        return ProcessPipe([self.python, *WORKER], self.place or self.folder, environment, log)

    def copy_harness(self, to: Path) -> Path:
        # times are not copied: byte code that was kept of other sources must look old
        return shutil.copytree(self.folder / "bench", to, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))

    def lay_out(self, harness: Path, place: Path, *, own_environment: bool) -> Source:
        package = place / "assay"
        shutil.copytree(harness, package / "bench", copy_function=shutil.copyfile)
        shutil.copyfile(assay.__file__, package / "__init__.py")  # the gate's: the side's own would be code of the side's
        for room in JUDGED:
            (package / room).symlink_to(self.folder / room)
        for lock in self.folder.glob("docker/*/requirements.txt"):
            (target := package / lock.relative_to(self.folder)).parent.mkdir(parents=True)
            shutil.copyfile(lock, target)
        own = self.folder / ".venv" / "bin" / "python"
        return replace(self, place=place, python=str(own) if own_environment and own.exists() else sys.executable)

    def hash_contents(self) -> str:
        return _hash_rooms(self.place or self.folder)

    def locate(self, data: Path | None) -> str | None:
        return None if data is None else str(data.resolve())


@contextmanager
def open_source(name: str, root: Path, *, gpu: bool) -> Iterator[Source]:
    """The side that `name` names. A git ref gets a worktree of its own, which is removed at the end.

    root: the checkout whose refs are meant. Raises UsageError for a name that is nothing of the three, and for one that is two of them.
    """
    if not name.strip():
        raise UsageError("a side has an empty name; name a git ref, a folder or an image digest")  # Path("") would be this very folder
    folder = Path(name)
    if (folder / "bench").is_dir():
        _refuse_two_meanings(name, root)
        yield Checkout(Side(name=name, identity=_identify_folder(folder)), folder.resolve())
    elif IMAGE.fullmatch(name):
        yield _open_image(name, gpu=gpu)
    else:
        commit = resolve_commit(name, root)
        with _make_worktree(commit, root) as worktree:
            yield Checkout(Side(name=name, identity=commit), worktree)


def _refuse_two_meanings(name: str, root: Path) -> None:
    """A folder `main` beside a branch `main`: whichever were taken, half of all users would compare with the wrong one."""
    plain = not Path(name).is_absolute() and name.split("/", maxsplit=1)[0] not in (".", "..")
    if plain and shutil.which("git") is not None and _find_commit(name, root) is not None:
        raise UsageError(f"{name!r} is a folder and a git ref: write ./{name} for the folder, or the commit's hash (git rev-parse {name}) for the ref")


def resolve_commit(name: str, root: Path) -> str:
    """The full hash of the commit that a git ref names. Raises UsageError where it names none."""
    commit = _find_commit(name, root)
    if commit is None:
        raise UsageError(f"{name!r} is no folder of this project, no image digest (sha256:...) and no commit of {root}; git fetch may bring it")
    return commit


def identify_pinnable(name: str, root: Path) -> str:
    """What `gate accept` pins for a name: the full hash of a commit, or the id of an image, which is how sessions know it too.

    A `repository@sha256:...` names a registry's digest, so the engine is asked for the image's id. Raises UsageError for anything else.
    """
    if not IMAGE.fullmatch(name):
        return resolve_commit(name, root)
    if "@" not in name:
        return name
    return _open_image(name, gpu=False).side.identity


def _open_image(name: str, *, gpu: bool) -> Source:
    from assay.bench.gate.container import open_image

    try:
        return open_image(name, gpu=gpu)
    except OSError as error:  # as a time-out of the engine's is
        raise UsageError(f"the container engine does not say what {name} is: {error}; see whether it runs, and try again") from None


def _find_commit(name: str, root: Path) -> str | None:
    done = _run_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return None if done.returncode else done.stdout.strip()


@contextmanager
def _make_worktree(commit: str, root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="assay-gate-") as parent:
        worktree = Path(parent) / commit[:12]
        done = _run_git(root, "worktree", "add", "--detach", "--quiet", str(worktree), commit)
        if done.returncode:
            raise UsageError(f"git makes no worktree of {commit}: {done.stderr.strip()}")
        try:
            yield worktree
        finally:
            _run_git(root, "worktree", "remove", "--force", str(worktree))


def _run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UsageError("a git ref needs git, which is not installed; name a folder instead") from None


def _identify_folder(folder: Path) -> str:
    """The commit of a clean checkout; `commit+dirty:hash` of a changed one; the hash of the files of a plain copy."""
    environment = identify_environment(folder.resolve(), ())
    sha = environment.git_sha  # in an image without git, the image's revision: nobody can tell whether this folder is still as it was
    if sha is None or shutil.which("git") is None or _find_top(folder) != folder.resolve():
        return f"files:{_hash_rooms(folder)}"
    return sha + (f"+dirty:{environment.git_dirty_sha256[:16]}" if environment.git_dirty_sha256 else "")


def _find_top(folder: Path) -> Path | None:
    top = _run_git(folder, "rev-parse", "--show-toplevel").stdout.strip()
    return Path(top) if top else None


def _hash_rooms(folder: Path) -> str:
    return hashlib.sha256("".join(room + hash_files(folder / room) for room in ROOMS).encode()).hexdigest()


def hash_files(start: Path) -> str:
    """sha256 over the names and the contents of all files below a folder, or of one file; byte code is no content."""
    digest = hashlib.sha256()
    for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
        if path.is_file() and path.suffix != ".pyc":
            digest.update(str(path.relative_to(start)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
