"""What the interpreter and the compiler cannot show: the backends launched on a GPU, bfloat16 among the rest."""

import pytest
import torch

from models.dnabert.attention.packing import Packing, alibi_slopes
from models.dnabert.attention.registry import AttentionKind, load_attention

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device: nothing to launch the kernels on"),
    pytest.mark.filterwarnings("default"),  # torch's compiler imports what torch deprecates
]
LENGTHS, HEADS, WIDTH = (1, 130, 64, 64, 257), 12, 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [kind for kind in AttentionKind if kind is not AttentionKind.EAGER])
def test_every_backend_equals_eager(kind, dtype):
    """Float32 to 1e-4; in half precision no further from float32 than twice eager attention in the same dtype, as flash-attn's own tests have it."""
    device = torch.device("cuda")
    if (reason := load_attention(kind).explain_absence(device, dtype, needs_gradient=True)) is not None:
        pytest.skip(f"{kind} cannot run here: {reason}")
    random = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(LENGTHS), 3, HEADS, WIDTH, generator=random).to(device)
    upstream = torch.randn(sum(LENGTHS), HEADS, WIDTH, generator=random).to(device)

    def compute(backend, dtype):
        leaf = qkv.to(dtype).requires_grad_()
        out = load_attention(backend).attend(leaf, Packing.of(torch.tensor(LENGTHS, device=device)), alibi_slopes(HEADS).to(device))
        assert out.dtype is dtype
        return out.detach().float(), torch.autograd.grad(out, leaf, upstream.to(dtype))[0].float()

    exact = compute(AttentionKind.EAGER, torch.float32)
    for own, plain, truth in zip(compute(kind, dtype), compute(AttentionKind.EAGER, dtype), exact, strict=True):
        assert (own - truth).abs().max() <= 1e-4 + 2 * (plain - truth).abs().max()
