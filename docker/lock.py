#!/usr/bin/env python3
"""Every lock file from pyproject.toml: exact versions, and the hashes of all their files.

    docker/lock.py                  refresh all; versions stay where they still fit (--upgrade: take the newest)
    docker/lock.py --check          exit code 1, and the difference, when a lock does not follow from pyproject.toml and the index any more
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GPU = ("--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:")
# in the environment without CUDA, torch has a lock of its own and its CUDA packages stay out
CUDA = re.compile(r"(torch|triton|cuda-.*|nvidia-(?!ml-py$).*)")


# what uv says when no index could be asked at all, or one was asked and did not manage to answer
NO_ANSWER = re.compile(r"error sending request|timed out|HTTP status server error")


class Unresolved(Exception):
    """The requirements contradict each other, or uv cannot read them; the message is uv's."""


class Unreachable(Exception):
    """The index cannot be asked; the message is uv's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One lock file: what uv is asked for, and which of the answer belongs into it."""

    path: str
    inputs: tuple[str, ...]
    leave_out: Callable[[str], bool] = lambda _name: False
    below: str | None = None  # another lock, whose packages are installed already

    def resolve(self, *, upgrade: bool) -> str:
        """The text of the lock as it would be written now."""
        present = ROOT / self.path
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "lock.txt"
            if present.exists() and not upgrade:
                output.write_text(present.read_text())  # uv keeps the versions it finds here
            inputs = [*self.inputs, *(["--constraint", self.below] if self.below else [])]
            options = ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--output-file", str(output)]
            compile_lock([*inputs, *options])
            blocks = split_blocks(output.read_text())
        installed = {name for name, _ in split_blocks((ROOT / self.below).read_text())} if self.below else set()
        return "".join(text for name, text in blocks if name not in installed and not self.leave_out(name))


LOCKS = (
    Lock(
        path="docker/cpu/requirements.txt",
        inputs=("pyproject.toml", "--all-extras", "--group", "test", "--universal"),
        leave_out=lambda name: CUDA.fullmatch(name) is not None,
    ),
    Lock(
        path="docker/cpu/dev.txt",
        inputs=("pyproject.toml", "--all-extras", "--group", "dev", "--universal"),
        leave_out=lambda name: CUDA.fullmatch(name) is not None and name != "triton",  # its compiler works without a GPU
        below="docker/cpu/requirements.txt",
    ),
    Lock(path="docker/cuda/requirements.txt", inputs=("pyproject.toml", "--all-extras", "--group", "test", *GPU)),
    Lock(path="docker/cuda/flash-attn.txt", inputs=("docker/cuda/flash-attn.in", *GPU, "--no-binary", "flash-attn"), below="docker/cuda/requirements.txt"),
    Lock(
        path="docker/triton2/requirements.txt",
        inputs=("pyproject.toml", "docker/triton2/additions.in", "--all-extras", "--group", "test", "--overrides", "docker/triton2/overrides.in", *GPU),
    ),
)


def compile_lock(arguments: Sequence[str]) -> None:
    """`uv pip compile` with these arguments. Raises Unreachable only for an index that does not answer: a conflict must never pass for that."""
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}  # to resolve for another Python needs none
    done = subprocess.run([find_uv(), "pip", "compile", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 2 and NO_ANSWER.search(done.stderr):  # 1: there is no solution; 2: everything else
        raise Unreachable(done.stderr.strip())
    if done.returncode:
        raise Unresolved(done.stderr.strip())


def find_uv() -> str:
    """The uv of this environment, else the one on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise SystemExit("uv is not installed; `make .venv/ready` brings it, then use .venv/bin/python docker/lock.py")
    return found


def split_blocks(text: str) -> list[tuple[str, str]]:
    """Requirements with their hashes, each after its name; a name comes twice where Pythons need different versions."""
    blocks = re.findall(r"^[^\s#-].*?(?<!\\)\n", text, re.MULTILINE | re.DOTALL)
    return [(re.split(r"[=\[ ;]", block, maxsplit=1)[0], block) for block in blocks]


def compare(lock: Lock) -> list[str]:
    """Lines that a refresh would change."""
    present = ROOT / lock.path
    old = present.read_text() if present.exists() else ""
    return list(difflib.unified_diff(old.splitlines(), lock.resolve(upgrade=False).splitlines(), lock.path, "resolved now", n=1, lineterm=""))


def compare_torch() -> list[str]:
    """Lines to change in the lock of torch without CUDA. Its index is PyTorch's own, so this one is kept by hand: its version must be that with CUDA."""
    wanted, found = (_read_torch(ROOT / "docker" / path) for path in ("cuda/requirements.txt", "cpu/torch.txt"))
    return list(difflib.unified_diff(found, wanted, "docker/cpu/torch.txt", "docker/cuda/requirements.txt", lineterm=""))


def _read_torch(lock: Path) -> list[str]:
    return [block.split()[0] for name, block in split_blocks(lock.read_text()) if name == "torch"] if lock.exists() else []


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 done or no drift, 1 drift, 2 the requirements cannot be met or read, 3 no index answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            with ThreadPoolExecutor() as pool:  # uv mostly waits for the index
                drift = [line for lines in (*pool.map(compare, LOCKS), compare_torch()) for line in lines]
            print("\n".join(drift) or "no drift")
            return 1 if drift else 0
        for lock in LOCKS:
            path, text = ROOT / lock.path, lock.resolve(upgrade=options.upgrade)
            changed = not path.exists() or path.read_text() != text
            if changed:  # a newer date alone would make everybody's environment anew
                path.write_text(text)
            print(lock.path, "changed" if changed else "as it was")
    except (Unresolved, Unreachable) as reason:
        print(f"uv could not resolve the requirements:\n{reason}", file=sys.stderr)
        return 3 if isinstance(reason, Unreachable) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
