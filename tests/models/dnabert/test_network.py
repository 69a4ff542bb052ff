import pytest
import torch

from assay.models.dnabert.attention.registry import AttentionKind
from assay.models.dnabert.network import PUBLISHED, TINY, DnabertEncoder, EncoderConfig, pack, pool_mean
from benchmarks.plain_dnabert import encode_padded, pool_padded


def test_parameters_and_keys_are_the_published_ones():
    with torch.device("meta"):
        encoder = DnabertEncoder(PUBLISHED)
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    assert sum(weights.numel() for weights in encoder.parameters()) == 117_068_544
    assert sum(weights.numel() for weights in encoder.pooler.parameters()) == 590_592
    assert len(shapes) == 138
    layer = {key.removeprefix("encoder.layer.11."): shape for key, shape in shapes.items() if key.startswith("encoder.layer.11.")}
    assert layer == {
        "attention.self.Wqkv.weight": (2304, 768),
        "attention.self.Wqkv.bias": (2304,),
        "attention.output.dense.weight": (768, 768),
        "attention.output.dense.bias": (768,),
        "attention.output.LayerNorm.weight": (768,),
        "attention.output.LayerNorm.bias": (768,),
        "mlp.gated_layers.weight": (6144, 768),
        "mlp.wo.weight": (768, 3072),
        "mlp.wo.bias": (768,),
        "mlp.layernorm.weight": (768,),
        "mlp.layernorm.bias": (768,),
    }
    rest = {key: shape for key, shape in shapes.items() if not key.startswith("encoder.")}
    assert rest == {
        "embeddings.word_embeddings.weight": (4096, 768),
        "embeddings.token_type_embeddings.weight": (2, 768),
        "embeddings.LayerNorm.weight": (768,),
        "embeddings.LayerNorm.bias": (768,),
        "pooler.dense.weight": (768, 768),
        "pooler.dense.bias": (768,),
    }


def make_rows():
    torch.manual_seed(1)
    lengths = torch.tensor([3, 50, 1, 17, 17])
    return torch.randint(0, 4096, (5, 50)), lengths


def make_encoder(kind, config):
    torch.manual_seed(0)
    encoder = DnabertEncoder(config, kind).eval()
    for name, weights in encoder.named_parameters():
        if weights.ndim == 1:  # biases and norms away from 0 and 1, where mistakes would not show
            torch.nn.init.normal_(weights, mean=float("LayerNorm.weight" in name or "layernorm.weight" in name), std=0.1)
        else:
            torch.nn.init.normal_(weights, std=0.1)
    return encoder


@pytest.mark.parametrize("kind", [AttentionKind.EAGER, AttentionKind.SDPA])
@pytest.mark.parametrize("config", [TINY, EncoderConfig(hidden=48, layers=1, heads=12, intermediate=64)])
def test_the_unpadded_encoder_equals_the_published_formulae_on_padded_rows(kind, config):
    ids, lengths = make_rows()
    encoder = make_encoder(kind, config)
    with torch.no_grad():
        tokens, packing = pack(ids, lengths)
        hidden = encoder(tokens, packing)
        padded = encode_padded(encoder.state_dict(), ids, lengths, config.heads)
        expected = torch.cat([padded[row, :length] for row, length in enumerate(lengths.tolist())])
        torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(pool_mean(hidden, packing), pool_padded(padded, lengths), atol=1e-5, rtol=0)
        pooled = torch.tanh(padded[:, 0] @ encoder.pooler.dense.weight.T + encoder.pooler.dense.bias)
        torch.testing.assert_close(encoder.pool_first(hidden, packing), pooled, atol=1e-4, rtol=0)


def test_padding_ids_and_neighbours_do_not_matter():
    ids, lengths = make_rows()
    encoder = make_encoder(AttentionKind.SDPA, TINY)
    changed = ids.clone()
    changed[0, 3:] = 4
    with torch.no_grad():
        embeddings = [pool_mean(encoder(*packed), packed[1]) for packed in (pack(ids, lengths), pack(changed, lengths))]
        alone = pack(ids[1:2], lengths[1:2])
        torch.testing.assert_close(pool_mean(encoder(*alone), alone[1]), embeddings[0][1:2], atol=1e-5, rtol=0)
    assert torch.equal(*embeddings)


def test_a_row_of_padding_is_refused():
    with pytest.raises(ValueError, match="sequence 1 of the batch has no token"):
        pack(torch.zeros(2, 4, dtype=torch.int64), torch.tensor([4, 0]))


def test_gradients_reach_every_weight_but_the_pooler_and_the_unused_token_type():
    ids, lengths = make_rows()
    encoder = make_encoder(AttentionKind.SDPA, TINY)
    tokens, packing = pack(ids, lengths)
    pool_mean(encoder(tokens, packing), packing).square().sum().backward()
    without = {name for name, weights in encoder.named_parameters() if weights.grad is None}
    assert without == {"pooler.dense.weight", "pooler.dense.bias"}
    assert encoder.embeddings.token_type_embeddings.weight.grad[1].abs().max() == 0
