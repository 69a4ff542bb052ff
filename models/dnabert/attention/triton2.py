"""What can be proved of the Triton 2 image without a GPU: `make triton2-proof`, or `python -m assay.models.dnabert.attention.triton2 --venv DIR`.

Installs the image's locked requirements once into an environment of its own, and there: holds versions and `tl.dot`'s signature against what
is documented, shows that the published call compiles on no release, compiles every kernel for four architectures, and runs the tests
that hold DNABERT against the published formulae and the harness against this torch. The facts go to docs/triton2.md. What remains
unproved: a launch on a device.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.bench.case import ExitCode, UsageError
from assay.bench.checkout import ROOT
from assay.models.dnabert.attention import proof
from assay.models.dnabert.attention.proof import SHARED_LIMIT, Compiled

LOCK = ROOT / "docker" / "triton2" / "requirements.txt"
DOCUMENT = ROOT / "docs" / "triton2.md"
PINNED = {"torch": "2.1.2", "triton": "2.1.0", "numpy": "1.26.4"}
PYTHON = "python3.11"  # the last that Triton 2.1.0 has a wheel for
TESTS = (  # DNABERT against the published formulae, and what the harness asks of torch
    *("tests/models/dnabert/test_network.py", "tests/models/dnabert/test_attention.py", "tests/bench/measure/test_traffic.py"),
)
NEGATIVE = ("product_transposed", 80, "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen in the environment."""

    versions: Mapping[str, str]
    dot_parameters: Sequence[str]
    negative: Compiled
    compiled: Sequence[Compiled]
    tests: str  # pytest's last line
    tests_passed: bool

    def find_faults(self) -> list[str]:
        """What contradicts the documented facts; empty when all of them hold."""
        faults = [f"{name} is {self.versions.get(name)}, not {wanted}" for name, wanted in PINNED.items() if self.versions.get(name) != wanted]
        faults += [f"tl.dot has a parameter {name}" for name in ("trans_a", "trans_b") if name in self.dot_parameters]
        if "unexpected keyword argument 'trans_b'" not in (self.negative.failure or ""):
            faults.append(f"the published call was to fail for its argument trans_b, but: {self.negative.failure or 'it compiled'}")
        faults += [f"{done.kernel} {done.dtype} sm_{done.arch}: {fault}" for done in self.compiled for fault in proof.judge(done)]
        return faults if self.tests_passed else [*faults, f"tests: {self.tests}"]


def install_environment(venv: Path) -> Path:
    """The environment's Python; installs docker/triton2/requirements.txt when that has not been done. Raises UsageError without Python 3.11."""
    python, ready = venv / "bin" / "python", venv / "ready"
    if ready.exists() and ready.read_text() == hash_lock():
        return python
    creator = shutil.which(PYTHON)
    if creator is None:
        raise UsageError(f"{PYTHON} is not installed: Triton 2.1.0 has no wheel for a later Python; install it, or run this in the triton2 image")
    # as docker/install.sh does: what comes along with pip, such as setuptools, is not in the image either
    subprocess.run([creator, "-m", "venv", "--clear", "--without-pip", venv], check=True)
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--require-hashes", "-r", LOCK], check=True)
    ready.write_text(hash_lock())
    return python


def hash_lock() -> str:
    """sha256 of the image's requirements."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def gather_facts() -> Facts:
    """Looks at the environment that this runs in."""
    import inspect
    from importlib.metadata import version

    import triton.language as tl

    names = (*PINNED, "transformers")
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS], check=False, cwd=ROOT, capture_output=True, text=True)
    last = (tests.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    return Facts(
        versions={"python": sys.version.split()[0]} | {name: version(name) for name in names},
        dot_parameters=[name for name in inspect.signature(tl.dot).parameters if not name.startswith("_")],
        negative=proof.compile_apart(*NEGATIVE),
        compiled=list(proof.prove_all()),
        tests=last.rpartition(" in ")[0] or last,  # how long it took is no fact
        tests_passed=tests.returncode == 0,
    )


def write_document(facts: Facts) -> str:
    """docs/triton2.md: the facts, for people and for the claims about this image."""
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    rows = [
        f"| sm_{done.arch} | {done.dtype} | `{done.kernel}` | {', '.join(done.instructions)} | {done.shared_bytes:,} of {SHARED_LIMIT[done.arch]:,} "
        f"| {done.spill_bytes} | {done.code_bytes:,} |"
        for done in facts.compiled
    ]
    return "\n".join([
        "# The Triton 2 image: what was seen",
        "",
        "Written by `make triton2-proof`, which installs `docker/triton2/requirements.txt` and looks. No GPU took part: launches, numerics in",
        "bfloat16 and speed are not proved here.",
        "",
        f"* Requirements: sha256 `{hash_lock()}`.",
        f"* Versions: {versions}.",
        f"* `triton.language.dot({', '.join(facts.dot_parameters)})`: no `trans_a`, no `trans_b`.",
        f"* The published DNABERT-S call, `tl.dot(..., trans_b=True)`, does not compile: `{facts.negative.failure}`.",
        f"* DNABERT against the published formulae on the CPU, and the harness under this torch (`{'`, `'.join(TESTS)}`): {facts.tests}.",
        "",
        f"The suite's own kernels, compiled ahead of time by Triton {facts.versions['triton']}, each in a process of its own, heads of 64 channels:",
        "",
        "| architecture | dtype | kernel | matrix instruction | shared memory [bytes] | spills [bytes] | machine code [bytes] |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when a documented fact does not hold, 2 where the environment cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, metavar="DIR", help="the environment; made there when it is missing (6 GB). Without it: this one")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    if options.venv:
        try:
            python = install_environment(options.venv.resolve())
        except (UsageError, subprocess.CalledProcessError) as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            return ExitCode.WRONG_USE
        command = [str(python), "-m", "assay.models.dnabert.attention.triton2", *(["--write"] if options.write else [])]
        return subprocess.run(command, check=False, cwd=ROOT).returncode
    if not proof.is_installed():
        print("error: Triton is not installed here: name a folder for an environment with --venv DIR", file=sys.stderr)  # noqa: T201
        return ExitCode.WRONG_USE
    facts = gather_facts()
    faults = facts.find_faults()
    document = write_document(facts)
    print(document, *(f"FAILED: {fault}" for fault in faults), sep="\n")  # noqa: T201
    if options.write and not faults:
        DOCUMENT.write_text(document)
    return ExitCode.VERDICT_FAILED if faults else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
