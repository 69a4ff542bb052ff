import math
import warnings

import pytest
import torch

from assay.bench.case import Unsupported
from assay.models.dnabert.attention import proof
from assay.models.dnabert.attention.packing import Packing, alibi_bias, alibi_slopes
from assay.models.dnabert.attention.registry import AttentionKind, choose_attention, load_attention, require_attention

CPU = torch.device("cpu")
LENGTHS = (1, 40, 17, 17, 33)
HEADS, WIDTH = 12, 16


def make_batch(lengths=LENGTHS, dtype=torch.float32):
    torch.manual_seed(0)
    packing = Packing.of(torch.tensor(lengths), CPU)
    qkv = torch.randn(packing.total, 3, HEADS, WIDTH, dtype=dtype, requires_grad=True)
    return qkv, packing, alibi_slopes(HEADS)


def attend_by_definition(qkv, lengths, slopes):
    """One sequence and one head at a time, in float64."""
    out, start = [], 0
    for length in lengths:
        query, key, value = qkv[start : start + length].double().unbind(1)
        place = torch.arange(length)
        distance = (place[:, None] - place).abs()
        heads = [
            (query[:, h] @ key[:, h].T / math.sqrt(qkv.shape[-1]) - float(slopes[h]) * distance).softmax(dim=1) @ value[:, h] for h in range(qkv.shape[2])
        ]
        out.append(torch.stack(heads, dim=1))
        start += length
    return torch.cat(out)


def test_slopes_of_twelve_heads_are_the_eight_of_eight_and_four_between():
    assert alibi_slopes(12).tolist() == pytest.approx([2.0**-n for n in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    assert alibi_slopes(4).tolist() == [2**-2, 2**-4, 2**-6, 2**-8]


def test_the_bias_is_symmetric_and_counts_distance():
    bias = alibi_bias(torch.tensor([0.5]), 4)[0]
    assert bias.tolist() == [[0, -0.5, -1, -1.5], [-0.5, 0, -0.5, -1], [-1, -0.5, 0, -0.5], [-1.5, -1, -0.5, 0]]


def test_a_packing_knows_offsets_and_refuses_empty_sequences():
    packing = Packing.of(torch.tensor([2, 1, 3]), CPU)
    assert (packing.offsets.tolist(), packing.total, packing.longest) == ([0, 2, 3, 6], 6, 3)
    with pytest.raises(ValueError, match="sequence 1 of the batch has no token: every position is padding"):
        Packing.of(torch.tensor([2, 0, 3]), CPU)
    with pytest.raises(ValueError, match="the batch is empty"):
        Packing.of(torch.tensor([], dtype=torch.int64), CPU)


@pytest.mark.parametrize("kind", [AttentionKind.EAGER, AttentionKind.SDPA])
def test_attention_is_what_the_formula_says(kind):
    qkv, packing, slopes = make_batch()
    out = load_attention(kind).attend(qkv, packing, slopes)
    torch.testing.assert_close(out.detach().double(), attend_by_definition(qkv.detach(), LENGTHS, slopes), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [LENGTHS, (24, 24), (1,)])
@pytest.mark.parametrize("kind", [kind for kind in AttentionKind if kind is not AttentionKind.EAGER])
def test_every_backend_equals_eager_in_outputs_and_gradients(kind, lengths):
    backend = load_attention(kind)
    without_gradient = backend.explain_absence(CPU, torch.float32, needs_gradient=False)
    if without_gradient is not None:
        pytest.skip(f"{kind} cannot run here: {without_gradient}")
    qkv, packing, slopes = make_batch(lengths)
    upstream = torch.randn(packing.total, HEADS, WIDTH)
    reference = load_attention(AttentionKind.EAGER).attend(qkv, packing, slopes)
    (expected,) = torch.autograd.grad(reference, qkv, upstream)
    if backend.explain_absence(CPU, torch.float32, needs_gradient=True) is not None:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises to compile, which takes most of a minute here
            torch.testing.assert_close(backend.attend(qkv.detach(), packing, slopes), reference.detach(), atol=1e-4, rtol=0)
        return
    out = backend.attend(qkv, packing, slopes)
    torch.testing.assert_close(out, reference, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(out, qkv, upstream)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [AttentionKind.EAGER, AttentionKind.SDPA])
def test_no_sequence_sees_another(kind):
    qkv, packing, slopes = make_batch((5, 9))
    backend = load_attention(kind)
    alone = backend.attend(qkv[:5], Packing.of(torch.tensor([5]), CPU), slopes)
    torch.testing.assert_close(backend.attend(qkv, packing, slopes)[:5], alone, atol=1e-6, rtol=0)


def test_eager_and_sdpa_run_under_bfloat16():
    qkv, packing, slopes = make_batch(dtype=torch.bfloat16)
    outs = [load_attention(kind).attend(qkv, packing, slopes) for kind in (AttentionKind.EAGER, AttentionKind.SDPA)]
    assert outs[0].dtype == outs[1].dtype == torch.bfloat16
    torch.testing.assert_close(outs[0], outs[1], atol=0.05, rtol=0)


def test_a_backend_that_cannot_run_says_why():
    with pytest.raises(Unsupported, match="attention flash: flash-attn needs a CUDA device, this is cpu"):
        require_attention(AttentionKind.FLASH, CPU, torch.float16, needs_gradient=False)
    with pytest.raises(Unsupported, match="FlexAttention"):
        require_attention(AttentionKind.FLEX, CPU, torch.float32, needs_gradient=True)
    with pytest.raises(Unsupported, match="attention triton: Triton"):
        require_attention(AttentionKind.TRITON, CPU, torch.float32, needs_gradient=True)


def test_a_cpu_takes_sdpa():
    assert choose_attention(CPU, torch.float32, needs_gradient=True) is AttentionKind.SDPA


@pytest.mark.skipif(not proof.has_interpreter(), reason="Triton 3 or later is not installed: no interpreter to run the kernels in")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
def test_the_triton_kernels_compute_the_same_in_the_interpreter(dtype, tolerance):
    differences = proof.compare_interpreted(dtype)
    assert max(differences.values()) < tolerance, differences


def test_bfloat16_is_never_asked_of_the_interpreter():
    with pytest.raises(ValueError, match="float32 and float16"):
        proof.compare_interpreted("bfloat16")
