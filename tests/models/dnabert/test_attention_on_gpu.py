"""What the interpreter and the compiler cannot show: the backends launched on a GPU, bfloat16 among the rest. The CPU runs the same code."""

from functools import cache

import pytest
import torch

from assay.models.dnabert.attention.packing import Packing, alibi_slopes
from assay.models.dnabert.attention.registry import AttentionKind, load_attention
from tests.models.dnabert.test_attention import attend_by_definition

pytestmark = pytest.mark.filterwarnings("default")  # torch's compiler imports what torch deprecates
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
HEADS, WIDTH = 3, 64  # no power of two: slopes of both kinds
SHORT = (1, 130, 64, 64, 257)
RAGGED = {"short": SHORT, "middling": (1024, 65, 511), "long": (4096, 64)}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
on_gpu = pytest.param(CUDA, marks=pytest.mark.gpu, id="cuda")


@cache
def draw(lengths, dtype):
    """Queries, keys, values and the gradient of the output, on the CPU, rounded to a dtype."""
    random = torch.Generator().manual_seed(0)
    qkv, upstream = (torch.randn(sum(lengths), *shape, HEADS, WIDTH, generator=random) for shape in ((3,), ()))
    return qkv.to(dtype), upstream.to(dtype)


@cache
def compute_exactly(lengths, dtype):
    """Output and gradient in float64 on the CPU, from numbers rounded to a dtype."""
    qkv, upstream = draw(lengths, dtype)
    leaf = qkv.double().requires_grad_()
    out = attend_by_definition(leaf, lengths, alibi_slopes(HEADS))
    return out.detach(), torch.autograd.grad(out, leaf, upstream.double())[0]


def compute(kind, lengths, dtype, device):
    """Output and gradient of a backend, as float64 on the CPU."""
    qkv, upstream = (tensor.to(device) for tensor in draw(lengths, dtype))
    leaf = qkv.clone().requires_grad_()
    out = load_attention(kind).attend(leaf, Packing.of(torch.tensor(lengths), device), alibi_slopes(HEADS).to(device))
    assert out.dtype is dtype
    return out.detach().cpu().double(), torch.autograd.grad(out, leaf, upstream)[0].cpu().double()


def assert_close_to_the_definition(kind, lengths, dtype, device):
    """Float32 to 1e-4; in half precision no further from it than twice eager attention in the same dtype, as flash-attn's own tests have it."""
    if (reason := load_attention(kind).explain_absence(device, dtype, needs_gradient=True)) is not None:
        pytest.skip(f"{kind} cannot run here: {reason}")
    exact = compute_exactly(lengths, dtype)
    plain = exact if dtype is torch.float32 else compute(AttentionKind.EAGER, lengths, dtype, device)
    for own, other, truth in zip(compute(kind, lengths, dtype, device), plain, exact, strict=True):
        assert (own - truth).abs().max() <= 1e-4 + 2 * (other - truth).abs().max()


@pytest.fixture(autouse=True)
def full_float32():
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("device", [pytest.param(CPU, id="cpu"), on_gpu])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [AttentionKind.SDPA, AttentionKind.FLASH, AttentionKind.FLEX])
def test_every_library_computes_attention_with_alibi(kind, dtype, device):
    if kind is AttentionKind.FLEX and dtype is not torch.bfloat16:
        pytest.skip("one dtype is enough: torch's compiler takes most of a minute for each")
    assert_close_to_the_definition(kind, SHORT, dtype, device)


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_kernels_compute_attention_with_alibi(dtype, lengths):
    assert_close_to_the_definition(AttentionKind.TRITON, lengths, dtype, CUDA)
