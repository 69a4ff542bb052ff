"""The workloads as the suite sees them: facts, recipes, weights, sessions."""

import pytest
import torch
from safetensors.torch import save_file

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.bench.registry import expand_cases, get_workload
from assay.datasets.card import DataError, DatasetIdentity, MissingData
from assay.models.hyenadna import WORKLOADS, declaration
from assay.models.hyenadna.network import CONFIGS, HyenaDNA
from assay.models.hyenadna.operator import ImplicitFilter
from assay.models.workload import Resources

SMOKE = [case for case in expand_cases(WORKLOADS) if case.preset is Preset.SMOKE]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    monkeypatch.delenv("ASSAY_WEIGHTS", raising=False)


def make_case(workload="splice-hyenadna", variant="tiny-1k", preset=Preset.SMOKE, phase=Phase.TRAIN):
    return Case(workload, variant, phase, preset, Division.CLOSED, Precision.FP32)


def open_session(case, tmp_path, data=None, seed=0):
    resources = Resources(device=torch.device("cpu"), data=data, batch=None, seed=seed, cache=tmp_path / "cache")
    return get_workload(case.workload).open(case, resources)


@pytest.mark.parametrize(
    ("variant", "parameters", "published", "trained_layers"),
    [
        ("tiny-1k", 436_096, 450_712, 2),
        ("small-32k", 3_277_568, 4_069_168, 0),
        ("small-32k-paired", 3_277_568, 4_069_168, 0),
        ("medium-160k", 6_550_528, 14_236_768, 2),
        ("medium-160k-last4", 6_550_528, 14_236_768, 4),
        ("medium-450k", 6_550_528, 28_156_768, 0),
        ("large-1m", 6_550_528, 54_556_768, 0),
        ("large-1m-context", 6_550_528, 54_556_768, 2),
    ],
)
def test_facts_follow_from_the_architecture(variant, parameters, published, trained_layers):
    facts = get_workload("splice-hyenadna").facts(variant)
    assert facts["parameters"] == parameters
    assert facts["published_numbers"] == published
    assert facts["parameters_with_head"] == parameters + facts["head_parameters"]
    if trained_layers == 0:
        assert facts["trained_parameters"] == facts["head_parameters"]
    elif parameters == 6_550_528:
        block = (6_550_528 - 16 * 256 - 2 * 256) / 8
        assert facts["trained_parameters"] - facts["head_parameters"] == trained_layers * block + 2 * 256


def test_binary_classifier_has_the_documented_size():
    facts = get_workload("splice-hyenadna-binary").facts("small-32k")
    assert (facts["parameters_with_head"], facts["head_parameters"]) == (3_543_553, 265_985)


def test_no_more_than_three_cases_smoke():
    assert len(SMOKE) == 3


@pytest.mark.parametrize(
    ("workload", "variant", "rate", "encoder", "batch", "accumulate", "layers"),
    [
        ("splice-hyenadna", "small-32k", 1e-4, 1.0, 32, 2, 0),
        ("splice-hyenadna", "medium-160k", 5e-5, 0.1, 16, 4, 2),
        ("splice-hyenadna", "medium-160k-last4", 3e-5, 0.05, 8, 8, 4),
        ("splice-hyenadna-binary", "small-32k", 1e-4, 1.0, 32, 2, 0),
    ],
)
def test_documented_recipes(workload, variant, rate, encoder, batch, accumulate, layers):
    recipe = get_workload(workload).recipe(make_case(workload, variant, Preset.DOCUMENTED))
    training = recipe["training"]
    assert isinstance(training, dict)
    assert (training["learning_rate"], training["batch"], training["accumulate"]) == (rate, batch, accumulate)
    assert (training["patience"], training["keep_best"], recipe["validation_share"]) == (7, False, 0.15)
    assert (recipe["encoder_rate"], recipe["trained_layers"], recipe["max_train"]) == (encoder, layers, 50_000)
    standard = get_workload(workload).recipe(make_case(workload, variant, Preset.STANDARD))["training"]
    assert isinstance(standard, dict)
    assert (standard["batch"], standard["accumulate"]) == (64, 1)


@pytest.mark.parametrize("case", [case for case in SMOKE if case.phase is Phase.TRAIN], ids=lambda case: case.id)
def test_every_smoke_case_trains_what_it_should_and_says_that_weights_are_random(case, tmp_path):
    session = open_session(case, tmp_path)
    workload = get_workload(case.workload)
    assert session.card.identity == workload.identify(case, None)
    assert session.conditions["weights"] == "random"
    assert "backbone: random weights, because neither $ASSAY_WEIGHTS/hyenadna-" in session.card.notes[-1]
    batch = int(session.conditions["batch"])
    assert session.card.rows["train"] % batch == session.card.rows["test"] % batch == 0
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    training = workload.recipe(case)["training"]
    assert isinstance(training, dict)
    assert session.step() == min(batch * training["accumulate"], session.card.rows["train"])
    assert session.infer() == batch
    moved = {name for name, p in session.model.named_parameters() if not torch.equal(p, before[name])}
    expected = set(before) if case.variant == "tiny-1k" else {name for name in before if not name.startswith("backbone.")}
    assert moved == expected
    quality = session.evaluate()
    assert workload.target.metric in quality
    assert all(quantity.value is None or quantity.how.startswith("backbone from random weights; ") for quantity in quality.values())


def test_the_same_case_twice_gives_equal_losses_whatever_was_timed_before(tmp_path):
    first, second = (open_session(make_case(), tmp_path) for _ in range(2))
    second.step()
    second.infer()
    histories = [session.fit(lambda done, total, note: None) for session in (first, second)]
    assert histories[0].train_loss == histories[1].train_loss
    assert histories[0].validation_loss == histories[1].validation_loss
    assert first.evaluate() == second.evaluate()


def test_filters_are_computed_once_per_batch_once_for_inference_and_once_for_a_frozen_backbone(tmp_path, monkeypatch):
    asked = []
    forward = ImplicitFilter.forward

    def count(self, length):
        asked.append(length)
        return forward(self, length)

    monkeypatch.setattr(ImplicitFilter, "forward", count)
    tuned = open_session(make_case(), tmp_path)
    update = 2 * tuned.step() // int(tuned.conditions["batch"])  # two layers, for each batch that an update accumulates
    assert update > 2
    for act, expected in ((tuned.step, update), (tuned.step, update), (tuned.infer, 2), (tuned.infer, 0), (tuned.step, update), (tuned.infer, 2)):
        asked.clear()
        act()
        assert asked == [61] * expected
    frozen = open_session(make_case("splice-hyenadna-binary", "small-32k"), tmp_path)
    asked.clear()
    frozen.step()
    assert asked == [63] * 4  # with [CLS] and [SEP]
    frozen.step()
    frozen.infer()
    assert asked == [63] * 4


def _save_tiny(folder, scale=1.0):
    torch.manual_seed(7)
    state = {name: tensor * scale for name, tensor in HyenaDNA(CONFIGS["tiny-1k"]).state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"hyena.backbone.{name}": tensor for name, tensor in state.items()}, folder / "model.safetensors")
    return state


def test_given_weights_are_loaded_named_and_part_of_what_is_comparable(tmp_path):
    workload, case = get_workload("splice-hyenadna"), make_case()
    state = _save_tiny(tmp_path / "weights" / "hyenadna-tiny-1k")
    session = open_session(case, tmp_path, data=tmp_path)
    assert session.conditions["weights"] == "pretrained"
    assert "backbone: hyenadna-tiny-1k/model.safetensors, sha256 " in session.card.notes[-1]
    assert all(torch.equal(dict(session.model.named_parameters())[f"backbone.{name}"], tensor) for name, tensor in state.items())
    assert not any("random" in quantity.how for quantity in session.evaluate().values())
    identity = workload.identify(case, tmp_path)
    assert identity == session.card.identity
    assert identity.sha256 != workload.identify(case, None).sha256
    _save_tiny(tmp_path / "weights" / "hyenadna-tiny-1k", scale=2.0)
    assert workload.identify(case, tmp_path).sha256 != identity.sha256


def test_documented_conditions_without_weights_are_refused(tmp_path, monkeypatch):
    workload = get_workload("splice-hyenadna")
    case = make_case(preset=Preset.DOCUMENTED)
    # what the documented variant table and genome hold is another test's matter
    monkeypatch.setattr(declaration, "identify_data", lambda *_: DatasetIdentity("splicevardb", "0" * 64, synthetic=False))
    for act in (lambda: workload.identify(case, tmp_path), lambda: open_session(case, tmp_path, data=tmp_path)):
        with pytest.raises(MissingData, match=r"hyenadna-tiny-1k: no published weights there.*Put them into weights/hyenadna-tiny-1k in the data folder"):
            act()
    _save_tiny(tmp_path / "weights" / "hyenadna-tiny-1k")
    assert workload.identify(case, tmp_path).name == "splicevardb"


def test_weights_that_cannot_be_loaded_are_an_error_not_a_fallback(tmp_path):
    _save_tiny(tmp_path / "weights" / "hyenadna-small-32k")
    case = make_case("splice-hyenadna-binary", "small-32k")
    with pytest.raises(DataError, match=r"another architecture: 'embeddings\.word_embeddings\.weight' has shape \(16, 128\), expected \(16, 256\)"):
        open_session(case, tmp_path, data=tmp_path)


def test_long_context_cases_take_sequences_as_long_as_the_model(tmp_path):
    case = make_case(variant="tiny-1k-context", preset=Preset.SCALE)
    session = open_session(case, tmp_path)
    assert (session.conditions["length_nt"], session.conditions["batch"]) == (1_023, 8)
    assert session.card.identity.synthetic
    assert session.step() > 0
    for variant, length in (("medium-450k-context", 449_999), ("large-1m-context", 999_999)):
        recipe = get_workload("splice-hyenadna").recipe(make_case(variant=variant, preset=Preset.SCALE))
        assert recipe["twin_length"] == length
        assert recipe["gradient_checkpointing"]


def test_standard_trains_on_real_mapsy(real_data, tmp_path):
    session = open_session(make_case(preset=Preset.STANDARD), tmp_path, data=real_data)
    assert (session.conditions["dataset"], session.conditions["n_train"], session.conditions["length_nt"]) == ("mapsy", 544, 200)
    assert session.step() == 64
