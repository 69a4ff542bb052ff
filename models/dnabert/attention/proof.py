"""What can be proved of the Triton kernels without a GPU: `python -m assay.models.dnabert.attention.proof`.

Every kernel is compiled ahead of time for every architecture, each in its own process with a time limit, and judged: the target line, the
tensor-core instruction, shared memory within the chip's limit, register spills. Numerics run in Triton's interpreter against plain
attention, in float32 and float16 (it returns garbage for bfloat16). What remains unproved is the launch on a device, and its speed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from assay.bench.case import ExitCode
from assay.bench.checkout import ROOT

SHARED_LIMIT = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448}
"""Bytes of shared memory that one block may have (CUDA C Programming Guide, technical specifications per compute capability)."""
PRODUCT = {90: "wgmma.mma_async.sync", 100: "tcgen05.mma"}
"""The instruction for matrix products that is an architecture's own; before them it was mma.sync."""
KERNELS = ("attention_forward", "attention_backward_key_value", "attention_backward_query")
DTYPES = ("fp16", "bf16")
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel for one architecture, or why there is none."""

    kernel: str
    arch: int
    dtype: str
    triton: str | None
    failure: str | None = None
    target: str = ""
    instructions: tuple[str, ...] = ()
    shared_bytes: int = 0
    spill_bytes: int | None = None
    code_bytes: int = 0


def is_installed() -> bool:
    """Whether Triton can be imported here."""
    return importlib.util.find_spec("triton") is not None


def has_interpreter() -> bool:
    """Whether Triton's interpreter can be asked; before 3.0 there was none that ran these kernels."""
    return is_installed() and int(importlib.metadata.version("triton").split(".")[0]) >= 3


def compile_apart(kernel: str, arch: int, dtype: str, seconds: float = SECONDS) -> Compiled:
    """Compiles in a process of its own. A crash or a hang of the compiler is a failure like any other."""
    command = [sys.executable, "-m", "assay.models.dnabert.attention.aot", kernel, str(arch), dtype]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    try:
        done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Compiled(kernel, arch, dtype, None, failure=f"the compiler did not finish within {seconds:g} s")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Compiled(kernel, arch, dtype, None, failure=f"the compiler ended with {done.returncode}: {last}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    found["instructions"] = tuple(found.get("instructions", ()))
    return Compiled(kernel, arch, dtype, **found)


def judge(compiled: Compiled) -> list[str]:
    """What is wrong with it; empty when all is well."""
    if compiled.failure is not None:
        return [compiled.failure]
    target, limit = f"sm_{compiled.arch}", SHARED_LIMIT[compiled.arch]
    # Triton 2.1 has warp-group products for sm_90 behind a switch only, and uses the older instruction, which sm_90 runs as well
    wanted = {"mma.sync" if (compiled.triton or "").startswith("2.1.") else PRODUCT.get(compiled.arch, "mma.sync")}
    faults = []
    if compiled.target not in (target, f"{target}a"):
        faults.append(f"compiled for {compiled.target or 'nothing'}, not for {target}")
    if not wanted & {*compiled.instructions}:
        faults.append(f"uses {', '.join(compiled.instructions) or 'no matrix instruction'}, expected {', '.join(wanted)}")
    if compiled.shared_bytes > limit:
        faults.append(f"needs {compiled.shared_bytes:,} bytes of shared memory, {target} has {limit:,}")
    if compiled.spill_bytes:
        faults.append(f"spills {compiled.spill_bytes} bytes of registers")
    if not compiled.code_bytes:
        faults.append("has no machine code")
    return faults


def prove_all() -> Iterator[Compiled]:
    """Every kernel, dtype and architecture that the installed Triton knows: before 3.0 none knew sm_100."""
    for arch in SHARED_LIMIT if has_interpreter() else [arch for arch in SHARED_LIMIT if arch < 100]:
        for dtype in DTYPES:
            for kernel in KERNELS:
                yield compile_apart(kernel, arch, dtype)


def compare_interpreted(dtype: str, seconds: float = SECONDS) -> dict[str, float]:
    """Largest difference of outputs and gradients between interpreted kernels and plain float32 attention. dtype: float32 or float16.

    Raises RuntimeError with the interpreter's last line where it fails.
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f"the interpreter computes float32 and float16 rightly, not {dtype}")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "assay.models.dnabert.attention.interpreted", dtype]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    differences: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return differences


def main(arguments: list[str] | None = None) -> int:
    """Prints one line per proof. Exit code 1 when one fails, 2 without Triton."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if not is_installed():
        print("Triton is not installed: `pip install triton==3.7.1`, or run this in a GPU image", file=sys.stderr)  # noqa: T201
        return ExitCode.WRONG_USE
    failed = False
    for compiled in prove_all():
        faults = judge(compiled)
        failed |= bool(faults)
        print(json.dumps(asdict(compiled) | {"faults": faults}) if options.json else _format(compiled, faults), flush=True)  # noqa: T201
    return ExitCode.VERDICT_FAILED if failed else ExitCode.OK


def _format(compiled: Compiled, faults: list[str]) -> str:
    head = f"triton {compiled.triton}  sm_{compiled.arch}  {compiled.dtype}  {compiled.kernel:<30}"
    if compiled.failure is not None:
        return f"{head} FAILED: {compiled.failure}"
    what = f"{', '.join(compiled.instructions):<32} shared {compiled.shared_bytes:>7,} of {SHARED_LIMIT[compiled.arch]:,}  spills {compiled.spill_bytes}"
    return f"{head} {what}  {'FAILED: ' + '; '.join(faults) if faults else 'ok'}"


if __name__ == "__main__":
    sys.exit(main())
