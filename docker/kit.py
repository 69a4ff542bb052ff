#!/usr/bin/env python3
"""A folder of wheels that a GPU host lacks, with a `start` script that installs them there without a network.

    docker/kit.py pip-list.txt --python 3.12          pip-list.txt: what `pip list` prints on the host, in any of its formats

Copy the project and the folder to the host, then there, in the project's folder:

    kit/start python3 -m bench doctor

The host's own torch is used. Versions and hashes are those of docker/cpu/requirements.txt where they fit beside what the host has. Plots, Docker
and MLflow stay behind: nothing that runs or measures a case needs them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from build import TAGS, name_revision
from lock import CUDA, ROOT, Unreachable, Unresolved, compile_lock, split_blocks

LOCK = ROOT / "docker" / "cpu" / "requirements.txt"
START = Path(__file__).with_name("kit-start.sh")
PLATFORM = "x86_64-manylinux_2_28"
ROOMS = ("assay", "bench", "models", "datasets", "benchmarks", "docker", "pyproject.toml", "pytest.ini")  # what a record's commit speaks for
MB = 1_000_000


class CannotPack(Exception):
    """The message says why, and what to do."""


def read_packages(text: str) -> dict[str, str | None]:
    """Normalised name -> version, or None where the list gives none. Takes `pip list` as columns, freeze or JSON, `pip freeze`, and plain names."""
    if text.lstrip().startswith("["):
        try:
            return {_normalise(each["name"]): _shorten(each["version"]) for each in json.loads(text)}
        except (KeyError, TypeError, AttributeError):
            raise ValueError("no list of packages; `pip list --format json` prints names and versions") from None
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        words = re.match(r"([A-Za-z0-9][\w.-]*)(?:\s*==\s*|\s+)?(\d\S*)?", line.partition("#")[0].strip())
        if words and words[1] != "Package" and not line.startswith("-"):
            found[_normalise(words[1])] = _shorten(words[2]) if words[2] else None
    return found


def _shorten(version: str) -> str:
    """The release that a version is of or nearest to: no index has `+cu130`, a vendor's or nightly build of torch, or a Linux distribution's own."""
    release = re.match(r"\d+(\.\d+)*(\.post\d+)?", version)
    return release[0] if release else version


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def find_lacking(host: Mapping[str, str | None], python: str, *, tests: bool) -> list[tuple[str, str]]:
    """Name and locked requirement, with hashes, of what the host lacks. Raises CannotPack for a host without torch, or whose versions do not fit ours."""
    if "torch" not in host:
        raise CannotPack("the list has no torch: a kit is for hosts that bring theirs. Take an image instead (docker/README.md), or install torch there first")
    with tempfile.TemporaryDirectory() as folder:
        output, constraints = Path(folder, "lock.txt"), Path(folder, "host.txt")
        shutil.copy(LOCK, output)  # uv keeps the versions that it finds here
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in host.items() if version))
        more = ["--all-extras", "--group", "test"] if tests else ["--extra", "suite"]
        where = ["--python-version", python, "--python-platform", PLATFORM, "--only-binary", ":all:", "--constraint", str(constraints)]
        try:
            compile_lock(["pyproject.toml", *more, *where, "--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--output-file", str(output)])
        except Unresolved as reason:
            raise CannotPack(f"what the host has does not fit this project:\n{reason}") from None
        # a torch that came without pip, or was compiled there, has its CUDA from elsewhere
        return [(name, block) for name, block in split_blocks(output.read_text()) if name not in host and not CUDA.fullmatch(name)]


def download(blocks: Sequence[tuple[str, str]], python: str, to: Path) -> None:
    """The wheels of these requirements, checked against their hashes. Raises CannotPack."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("".join(block for _, block in blocks))
        requirements.flush()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        pip += ["--python-version", python, *(f"--platform={tag}" for tag in TAGS), "--dest", str(to), "--requirement", requirements.name]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotPack(f"pip cannot download the wheels: {done.stderr.strip().splitlines()[-1]}")


def weigh(wheels: Path, limit: float) -> list[tuple[str, int]]:
    """Wheel and size [bytes], largest first. Raises CannotPack for more than `limit` MB in all."""
    sizes = sorted(((path.name, path.stat().st_size) for path in wheels.iterdir()), key=lambda each: -each[1])
    total = sum(size for _, size in sizes) / MB
    if total > limit:
        largest = ", ".join(f"{name} {size / MB:.1f}" for name, size in sizes[:3])
        raise CannotPack(f"the wheels have {total:.1f} MB, {total - limit:.1f} over --limit {limit:g}; the largest: {largest}")
    return sizes


def write_start(kit: Path, blocks: Sequence[tuple[str, str]], python: str) -> None:
    """The start script, what it installs, and the hashes by which it knows whether the project beside it is still the commit that the kit is of."""
    (kit / "requirements.txt").write_text("".join(block for _, block in blocks))
    files = sorted(path for room in ROOMS for path in ([ROOT / room] if (ROOT / room).is_file() else (ROOT / room).rglob("*")) if path.is_file())
    listed = [str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"]
    hashes = subprocess.run(["sha256sum", "--", *listed], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (kit / "tree.sha256").write_text(hashes)
    text = START.read_text().replace("@PYTHON@", python).replace("@REVISION@", name_revision()).replace("@ROOMS@", " ".join(ROOMS))
    (kit / "start").write_text(text)
    (kit / "start").chmod(0o755)


def pack(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Makes the kit whole, or not at all; returns its wheels and their sizes [bytes]. Raises CannotPack."""
    blocks = find_lacking(read_packages(options.packages.read_text("utf-8-sig")), options.python, tests=options.tests)
    with tempfile.TemporaryDirectory(dir=options.out.parent, prefix=".kit-") as folder:
        kit = Path(folder, "kit")
        (kit / "wheels").mkdir(parents=True)
        if blocks:
            download(blocks, options.python, kit / "wheels")
        sizes = weigh(kit / "wheels", options.limit)
        write_start(kit, blocks, options.python)
        if options.out.exists():
            shutil.rmtree(options.out)
        kit.rename(options.out)
    return sizes


def _read_python(text: str) -> str:
    if not re.fullmatch(r"3\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no Python version; write 3.12")
    return text


def _read_limit(text: str) -> float:
    limit = float(text)
    if not 0 < limit < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a size in MB above 0")
    return limit


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 done, 2 the kit cannot be made, 3 no index answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, metavar="PIP-LIST", help="what `pip list` prints on the host")
    parser.add_argument("--python", default="3.12", type=_read_python, metavar="X.Y", help="the host's Python (default: %(default)s)")
    parser.add_argument("--limit", type=_read_limit, default=45, metavar="MB", help="of all wheels together (default: %(default)s)")
    parser.add_argument("--tests", action="store_true", help="also what the project's own tests need, plots and Docker's client among it")
    parser.add_argument("--out", type=Path, default=ROOT / "kit", metavar="DIR", help="default: kit in the project's folder; a kit that is there is replaced")
    options = parser.parse_args(arguments)
    if options.out.exists() and not (options.out / "tree.sha256").exists():
        parser.error(f"--out {options.out} is there and no kit; name another folder")
    try:
        sizes = pack(options)
    except (OSError, ValueError) as error:
        print(f"error: {options.packages}: {error}", file=sys.stderr)
        return 2
    except (CannotPack, Unreachable) as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 3 if isinstance(reason, Unreachable) else 2
    for name, size in sizes:
        print(f"{size / MB:8.2f} MB  {name}")
    total = sum(size for _, size in sizes) / MB
    print(f"{total:8.2f} MB in {options.out}; on the host, in the project's folder: {options.out.name}/start python3 -m bench doctor")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
