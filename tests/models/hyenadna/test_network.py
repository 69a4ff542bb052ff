"""Sizes, equality with the formulas, padding, checkpointing and which layers learn."""

import pytest
import torch
from torch import nn

from assay.models.hyenadna.heads import HyenaPredictor, PairedHyenaPredictor, make_binary_head, make_delta_head, make_paired_head
from assay.models.hyenadna.network import CONFIGS, HyenaConfig, HyenaDNA, count_published_numbers, pool_mean, train_last
from assay.models.hyenadna.tokens import encode_sequences
from tests.models.hyenadna.reference import run, take_weights

SMALL = HyenaConfig(name="small", width=8, layers=3, context=62)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return HyenaDNA(SMALL).eval()


@pytest.mark.parametrize(
    ("name", "parameters", "published", "longest"),
    [
        ("tiny-1k", 436_096, 450_712, 1_026),
        ("tiny-1k-d256", 1_641_088, 1_658_008, 1_026),
        ("tiny-16k-d128", 436_096, 635_032, 16_386),
        ("small-32k", 3_277_568, 4_069_168, 32_770),
        ("medium-160k", 6_550_528, 14_236_768, 160_002),
        ("medium-450k", 6_550_528, 28_156_768, 450_002),
        ("large-1m", 6_550_528, 54_556_768, 1_000_002),
    ],
)
def test_sizes_are_the_published_ones(name, parameters, published, longest):
    config = CONFIGS[name]
    with torch.device("meta"):
        backbone = HyenaDNA(config)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert count_published_numbers(config, parameters) == published
    assert config.longest == longest


def test_no_two_entries_of_the_state_share_storage(backbone):
    # tied tensors cannot be saved as safetensors
    assert len({tensor.data_ptr() for tensor in backbone.state_dict().values()}) == len(backbone.state_dict())


def test_hidden_states_are_those_of_the_formulas(backbone):
    for parameter in backbone.parameters():  # fresh projections are close to zero and would hide mistakes
        nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(0, 12, (2, 23))
    with torch.inference_mode():
        hidden = backbone(ids)
    torch.testing.assert_close(hidden.double(), run(take_weights(backbone), ids, SMALL.layers, SMALL.longest), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("pads", [1, 2, 9])
def test_left_padding_changes_nothing(backbone, pads):
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    ids, _ = encode_sequences(["ACGTNACGGT", "ACGTTTTACC"], SMALL.longest)
    padded = torch.cat([torch.full((2, pads), 4), ids], dim=1)
    mask = padded != 4
    with torch.inference_mode():
        plain, masked, unmasked = backbone(ids), backbone(padded, mask), backbone(padded)
    torch.testing.assert_close(masked[:, pads:], plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pool_mean(masked, mask), pool_mean(plain), atol=1e-5, rtol=1e-4)
    assert (unmasked[:, pads:] - plain).abs().max() > 1e-2


def test_rows_of_unequal_length_do_not_see_each_others_padding(backbone):
    sequences = ["ACGTACGTAC", "GGC", "T"]
    ids, mask = encode_sequences(sequences, SMALL.longest)
    with torch.inference_mode():
        together = pool_mean(backbone(ids, mask), mask)
        alone = torch.cat([pool_mean(backbone(encode_sequences([text], SMALL.longest)[0])) for text in sequences])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_padding_gets_no_gradient(backbone):
    ids, mask = encode_sequences(["ACGT", "A"], SMALL.longest)
    pool_mean(backbone(ids, mask), mask).square().sum().backward()
    assert backbone.embeddings["word_embeddings"].weight.grad[4].abs().max() == 0
    assert backbone.embeddings["word_embeddings"].weight.grad[7].abs().max() > 0


def test_bad_rows_are_refused(backbone):
    ids, mask = encode_sequences(["ACGT", "A"], SMALL.longest)
    mask[1] = False
    with pytest.raises(ValueError, match="row 1 is all padding"):
        backbone(ids, mask)
    with pytest.raises(ValueError, match=r"mask has shape \(2, 5\), the tokens \(2, 6\)"):
        backbone(ids, mask[:, 1:])
    with pytest.raises(ValueError, match="small takes 64 tokens, got 65"):
        backbone(torch.full((1, 65), 7))


def test_checkpointing_changes_memory_and_no_gradient(backbone):
    ids = torch.randint(7, 12, (2, 30))
    gradients = []
    for checkpointing in (False, True):
        backbone.checkpointing = checkpointing
        backbone.zero_grad()
        backbone(ids).square().sum().backward()
        gradients.append([p.grad.clone() for p in backbone.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, atol=0, rtol=0)


def test_checkpointing_keeps_less_for_the_backward_pass(backbone):
    kept = []
    for checkpointing in (False, True):
        backbone.checkpointing = checkpointing
        sizes: dict[int, int] = {}

        def note(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            backbone(torch.randint(7, 12, (2, 60)))
        kept.append(sum(sizes.values()))
    assert kept[1] < kept[0] / 5


@pytest.mark.parametrize(("layers", "expected"), [(0, set()), (1, {2}), (2, {1, 2}), (3, {0, 1, 2})])
def test_the_last_n_layers_get_gradients_and_no_others(layers, expected):
    torch.manual_seed(0)
    model = HyenaPredictor(SMALL, make_delta_head, trained_layers=layers).train()
    model(torch.randint(0, 5, (2, 20)), torch.randint(0, 4, (2, 2))).square().sum().backward()
    moved = {name for name, p in model.backbone.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    blocks = {int(name.split(".")[1]) for name in moved if name.startswith("layers.")}
    assert blocks == expected
    assert ("ln_f.weight" in moved) == (layers > 0)
    assert "embeddings.word_embeddings.weight" not in moved
    in_blocks = {name for name, _ in model.backbone.named_parameters() if name.startswith("layers.") and int(name.split(".")[1]) in expected}
    assert in_blocks <= moved  # every tensor of those layers learns
    assert all(p.grad is not None for part in (model.head, model.projection, model.variant_embed) for p in part.parameters())
    trained = {id(p) for group in model.group_parameters(1e-3) for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.grad is not None}


def test_all_layers_learn_when_none_is_named_and_too_many_are_refused(backbone):
    train_last(backbone, None)
    assert all(p.requires_grad for p in backbone.parameters())
    with pytest.raises(ValueError, match="small has 3 layers, cannot train the last 4"):
        train_last(backbone, 4)


def test_encoder_learns_at_its_share_of_the_rate():
    model = HyenaPredictor(SMALL, make_delta_head, trained_layers=2, encoder_rate=0.1)
    encoder, rest = model.group_parameters(1e-3)
    assert (encoder["lr"], rest["lr"]) == (pytest.approx(1e-4), 1e-3)
    assert {id(p) for p in encoder["params"]} == {id(p) for p in model.backbone.parameters() if p.requires_grad}
    (only,) = HyenaPredictor(SMALL, make_delta_head, trained_layers=0).group_parameters(1e-3)
    assert only["lr"] == 1e-3


def test_a_frozen_backbone_stays_in_evaluation_mode():
    frozen = HyenaPredictor(SMALL, make_delta_head, trained_layers=0).train()
    assert frozen.head.training
    assert not any(module.training for module in frozen.backbone.modules())
    assert HyenaPredictor(SMALL, make_delta_head, trained_layers=1).train().backbone.dropout.training


def test_heads_have_the_documented_sizes():
    with torch.device("meta"):
        binary = HyenaPredictor(CONFIGS["small-32k"], make_binary_head, trained_layers=0)
        delta = HyenaPredictor(CONFIGS["small-32k"], make_delta_head, trained_layers=0)
    backbone = 3_277_568
    assert sum(p.numel() for p in binary.parameters()) == 3_543_553
    assert sum(p.numel() for p in binary.parameters() if p.requires_grad) == 3_543_553 - backbone == 265_985
    # projection, variant embedding, 512 -> 256 -> 128 -> 3
    expected = 256 * 257 + (256 * 9 + 256 * 257) + 256 * 513 + 128 * 257 + 3 * 129
    assert sum(p.numel() for p in delta.parameters() if p.requires_grad) == expected


def test_predictions_depend_on_sequence_bases_and_special_tokens():
    torch.manual_seed(0)
    model = HyenaPredictor(SMALL, make_delta_head, trained_layers=None).eval()
    codes, bases = torch.randint(0, 5, (2, 20)), torch.tensor([[0, 1], [2, 3]])
    with torch.inference_mode():
        plain = model(codes, bases)
        assert plain.shape == (2, 3)
        assert not torch.equal(plain, model(codes.flip(1), bases))
        assert not torch.equal(plain, model(codes, bases.flip(1)))
        model.special_tokens = True
        assert not torch.equal(plain, model(codes, bases))


def test_paired_predictor_sees_only_the_difference_of_the_two_sequences():
    model = PairedHyenaPredictor(SMALL, make_paired_head, trained_layers=0).eval()
    reference = torch.randint(0, 4, (2, 40), dtype=torch.uint8)
    alternative = reference.clone()
    alternative[1, 25] = (reference[1, 25] + 1) % 4
    with torch.no_grad():
        deltas = model(reference, alternative)
        nothing = model.head(torch.zeros(256))
    assert deltas.shape == (2, 40, 2)
    torch.testing.assert_close(deltas[0], nothing.expand(40, 2))
    torch.testing.assert_close(deltas[1, :25], nothing.expand(25, 2), msg="a causal model sees nothing of the variant before it")
    assert (deltas[1, 25:] - nothing).abs().amax() > 1e-6
