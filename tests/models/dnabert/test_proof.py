from dataclasses import replace

import pytest

from assay.models.dnabert.attention import proof
from assay.models.dnabert.attention.proof import Compiled, compile_apart, judge

needs_triton = pytest.mark.skipif(not proof.is_installed(), reason="Triton is not installed: its compiler cannot be asked (pip install triton==3.7.1)")
SOUND = Compiled("attention_forward", 86, "fp16", "3.7.1", None, "sm_86", ("mma.sync",), 40_960, 0, 1_000)


def test_a_sound_kernel_has_no_faults():
    assert judge(SOUND) == []
    assert judge(replace(SOUND, arch=90, target="sm_90a", instructions=("wgmma.mma_async.sync",))) == []
    assert judge(replace(SOUND, arch=100, target="sm_100a", instructions=("tcgen05.mma",))) == []
    assert judge(replace(SOUND, arch=90, target="sm_90", triton="2.1.0")) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"target": "sm_80"}, "compiled for sm_80, not for sm_86"),
        ({"instructions": ()}, "uses no matrix instruction, expected mma.sync"),
        ({"arch": 90, "target": "sm_90a"}, "uses mma.sync, expected wgmma.mma_async.sync"),
        ({"arch": 100, "target": "sm_100a"}, "uses mma.sync, expected tcgen05.mma"),
        ({"shared_bytes": 101_377}, "needs 101,377 bytes of shared memory, sm_86 has 101,376"),
        ({"spill_bytes": 400}, "spills 400 bytes of registers"),
        ({"code_bytes": 0}, "has no machine code"),
        ({"failure": "CompilationError: TypeError"}, "CompilationError: TypeError"),
    ],
)
def test_each_fault_is_named(change, fault):
    assert judge(replace(SOUND, **change)) == [fault]


def test_a_compiler_that_hangs_or_dies_is_a_failure_and_not_an_error():
    assert compile_apart("attention_forward", 80, "fp16", seconds=0.01).failure == "the compiler did not finish within 0.01 s"
    assert "no-such-kernel" in (compile_apart("no-such-kernel", 80, "fp16").failure or "") or not proof.is_installed()
    assert proof.is_installed() or "No module named 'triton'" in (compile_apart("attention_forward", 80, "fp16").failure or "")


@needs_triton
@pytest.mark.parametrize("arch", proof.SHARED_LIMIT)
@pytest.mark.parametrize("kernel", proof.KERNELS)
def test_every_kernel_compiles_for_every_architecture_within_its_limits(kernel, arch):
    compiled = compile_apart(kernel, arch, "bf16")
    assert judge(compiled) == [], compiled


@needs_triton
def test_the_published_call_compiles_on_no_release():
    compiled = compile_apart("product_transposed", 80, "fp16")
    assert compiled.failure is not None
    assert "unexpected keyword argument 'trans_b'" in compiled.failure
