"""Compiles one kernel ahead of time, without a GPU, and prints what came out as JSON: `python -m assay.models.dnabert.attention.aot KERNEL ARCH DTYPE`.

A process of its own: Triton 2's compiler can abort, hang or take the interpreter with it. `proof` starts it and judges.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from assay.models.dnabert.attention.fused import BACKWARD, FORWARD, Blocks

WIDTH = 64
BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
_INPUTS_BACKWARD = ("qkv", "grad_out", "grad_qkv", "statistics", "delta", "slopes", "offsets", "scale", "heads", "row_qkv", "row_out")
KERNELS: dict[str, tuple[str, ...]] = {
    "attention_forward": ("qkv", "out", "statistics", "slopes", "offsets", "scale", "heads", "row_qkv", "row_out"),
    "attention_backward_key_value": _INPUTS_BACKWARD,
    "attention_backward_query": _INPUTS_BACKWARD,
}
_IN_DTYPE = {"qkv", "out", "grad_out", "grad_qkv", "left", "right"}
_UNALIGNED = {"scale", "heads"}


def describe(kernel: str, dtype: str) -> tuple[str, dict[str, str], dict[str, object], Blocks]:
    """Module, argument types, compile-time constants and launch options of a kernel as `fused` launches it."""
    if kernel == "product_transposed":
        return "published", {"left": f"*{dtype}", "right": f"*{dtype}", "out": "*fp32"}, {"N": 32}, Blocks(32, 32)
    blocks = (FORWARD if kernel == "attention_forward" else BACKWARD)[BYTES[dtype]]
    types = {name: _type_of(name, dtype) for name in KERNELS[kernel]}
    return "kernels", types, {"BLOCK_M": blocks.rows, "BLOCK_N": blocks.columns, "D": WIDTH, "TF32": False}, blocks


def _type_of(name: str, dtype: str) -> str:
    if name in _IN_DTYPE:
        return f"*{dtype}"
    return {"scale": "fp32", "heads": "i32", "row_qkv": "i32", "row_out": "i32", "offsets": "*i32"}.get(name, "*fp32")


def compile_kernel(kernel: str, arch: int, dtype: str) -> dict[str, object]:
    """Triton version, PTX target, matrix instructions, shared memory [bytes], spills [bytes] and size of the machine code [bytes]."""
    import triton

    module, types, constants, blocks = describe(kernel, dtype)
    function = getattr(import_module(f"assay.models.dnabert.attention.{module}"), kernel)
    compiler = _compile_by_stages if triton.__version__.startswith("2.1.") else _compile
    ptx, shared, code = compiler(function, types, constants, blocks, arch)
    found = re.search(r"\.target (\w+)", ptx)
    return {
        "triton": triton.__version__,
        "target": found.group(1) if found else "",
        "instructions": sorted(set(re.findall(r"wgmma\.mma_async\.sync|tcgen05\.mma|mma\.sync", ptx))),
        "shared_bytes": shared,
        "spill_bytes": _count_spills(Path(triton.__file__).parent, ptx, found.group(1) if found else f"sm_{arch}"),
        "code_bytes": len(code),
    }


def _compile(function: Any, types: dict[str, str], constants: dict[str, object], blocks: Blocks, arch: int) -> tuple[str, int, bytes]:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile  # noqa: A004

    names = list(types)
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name not in _UNALIGNED}
    source = ASTSource(function, signature={**types, **dict.fromkeys(constants, "constexpr")}, constexprs=constants, attrs=aligned)
    done = compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": blocks.warps, "num_stages": blocks.stages})
    return done.asm["ptx"], done.metadata.shared, done.asm["cubin"]


def _compile_by_stages(function: Any, types: dict[str, str], constants: dict[str, object], blocks: Blocks, arch: int) -> tuple[str, int, bytes]:
    # Triton 2.1's own `compile` asks for a driver before it starts
    compiler, binding = import_module("triton.compiler.compiler"), import_module("triton._C.libtriton.triton")
    names = list(types)
    aligned = {i for i, name in enumerate(names) if name not in _UNALIGNED}
    specialised = import_module("triton.compiler").instance_descriptor(divisible_by_16=aligned, equal_to_1=set())
    numbered = {len(names) + i: value for i, value in enumerate(constants.values())}
    module = compiler.ast_to_ttir(function, dict(enumerate(types.values())), specialised, numbered, debug=False, arch=arch)
    module = compiler.ttir_to_ttgir(compiler.optimize_ttir(module, arch), blocks.warps)
    module = compiler.optimize_ttgir(module, blocks.stages, arch)
    low = compiler.ttgir_to_llir(module, {}, arch)
    shared = binding.get_shared_memory_size(module)
    ptx = compiler.llir_to_ptx(low, arch)
    return ptx, shared, compiler.ptx_to_cubin(ptx, arch)


def _count_spills(package: Path, ptx: str, target: str) -> int | None:
    """Bytes of registers that the assembler spills, by its own report; None when Triton brings no assembler."""
    # Triton 3 brings a second one for what is newer than sm_90
    names = ("ptxas-blackwell", "ptxas") if re.match(r"sm_1\d\d", target) else ("ptxas",)
    places = (package / folder / name for folder in ("backends/nvidia/bin", "third_party/cuda/bin") for name in names)
    assembler = next((path for path in places if path.exists()), None)
    if assembler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        done = subprocess.run([assembler, "-v", f"--gpu-name={target}", source, "-o", f"{source}.cubin"], capture_output=True, text=True, check=True)
    return sum(int(number) for number in re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr))


def main(arguments: list[str]) -> int:
    """Prints the result, or the error and its cause, as one line of JSON."""
    kernel, arch, dtype = arguments
    try:
        result = compile_kernel(kernel, int(arch), dtype)
    except Exception as error:  # noqa: BLE001  # whatever the compiler raises is the result
        import triton

        cause = error.__cause__ or error
        result = {"triton": triton.__version__, "failure": f"{type(error).__name__}: {type(cause).__name__}: {str(cause).strip().splitlines()[-1]}"}
    print(json.dumps(result))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
