import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay.bench.case import Case, Division, Phase, Precision, Preset, Unsupported
from assay.bench.registry import expand_cases
from assay.datasets.card import MissingData, hash_files
from assay.models.dnabert import WORKLOADS, attention_cases, dnabert_s, splice_dnabert2
from assay.models.dnabert.attention import proof
from assay.models.dnabert.attention.registry import AttentionKind
from assay.models.dnabert.network import TINY, DnabertEncoder
from assay.models.dnabert.tasks import SequenceClassifier, solve_regression
from assay.models.training import TrainingSession
from assay.models.workload import Resources

CPU = torch.device("cpu")
FROZEN, TUNED = "frozen-prom-core-tata", "fine-tuned-splice"


pytestmark = pytest.mark.usefixtures("one_thread")


def make_case(workload=dnabert_s, variant=FROZEN, preset=Preset.SMOKE, phase=Phase.TRAIN, precision=Precision.FP32, division=Division.CLOSED):
    return Case(workload.name, variant, phase, preset, division, precision)


def make_resources(tmp_path, data=None, seed=7):
    return Resources(device=CPU, data=data, batch=None, seed=seed, cache=tmp_path)


def ignore_progress(done, total, note):
    pass


def shrink(workload, variant):
    """The workload with a tiny network in one variant, so that its cases on real data run in a test."""
    recipe = workload.recipes[variant]
    return replace(workload, recipes={**workload.recipes, variant: replace(recipe, network=TINY, training=replace(recipe.training, batch=64))})


def test_facts_are_the_published_sizes():
    for workload, variant in ((splice_dnabert2, TUNED), (dnabert_s, FROZEN), (dnabert_s, "attention-sdpa")):
        facts = workload.facts(variant)
        assert (facts["parameters"], facts["parameters_without_pooler"]) == (117_068_544, 116_477_952)
        assert facts["checkpoint_mb"] == pytest.approx(468.274176)
    assert dnabert_s.facts("from-scratch-prom-core-tata")["parameters"] < 1e6


def test_three_smoke_cases_and_both_evaluations_of_every_task():
    smoke = [case.id for case in expand_cases(WORKLOADS) if case.preset is Preset.SMOKE]
    assert smoke == [f"splice-dnabert2/{TUNED}/train/smoke/closed/fp32", *(f"dnabert-s/{FROZEN}/{phase}/smoke/closed/fp32" for phase in ("train", "eval"))]
    for workload in WORKLOADS:
        for mode in ("frozen", "fine-tuned"):
            assert {f"{mode}-{task}" for task in ("prom-core-tata", "prom-300-tata", "splice")} <= set(workload.variants)


@pytest.mark.parametrize(("workload", "variant", "classes"), [(dnabert_s, FROZEN, 2), (splice_dnabert2, TUNED, 3)])
def test_smoke_says_that_network_weights_and_tokens_are_stand_ins(tmp_path, workload, variant, classes):
    session = workload.open(make_case(workload, variant), make_resources(tmp_path))
    assert session.conditions["weights"] == "random"
    assert session.conditions["network"] == "tiny, not a published size"
    assert session.conditions["tokenizer"] == "5-mers, not the published encoding"
    assert any(note.startswith("random weights") for note in session.card.notes)
    assert session.card.identity == workload.identify(make_case(workload, variant), None)
    assert session.step() > 0
    history = session.fit(ignore_progress)
    assert history.first_loss == pytest.approx(math.log(classes), abs=1e-6 if "frozen" in variant else 0.1)
    scores = session.evaluate()
    assert all(score.how.startswith("random weights") for score in scores.values())
    assert session.infer() > 0


def test_a_frozen_fit_is_the_same_whatever_was_done_before_and_leaves_the_encoder_alone(tmp_path):
    models = []
    for steps in (0, 3):
        session = dnabert_s.open(make_case(), make_resources(tmp_path))
        untouched = session.model.state_dict()["encoder.encoder.layer.0.mlp.wo.weight"].clone()
        for _ in range(steps):
            session.step()
        session.fit(ignore_progress)
        models.append(session.model.state_dict())
        assert torch.equal(models[-1]["encoder.encoder.layer.0.mlp.wo.weight"], untouched)
    assert all(torch.equal(a, b) for a, b in zip(models[0].values(), models[1].values(), strict=True))


def test_the_regression_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    torch.manual_seed(0)
    features, label = torch.randn(200, 64) * 3 + 1, torch.arange(200) % 3
    features[:, :3] += torch.nn.functional.one_hot(label, 3)
    features[:, 5] = 2.0  # a constant feature must not divide by zero
    model = SequenceClassifier(TINY, 3, AttentionKind.SDPA)
    first, last = solve_regression(model, features, label)
    assert first == pytest.approx(math.log(3), abs=1e-12)
    assert last < first
    theirs = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(StandardScaler().fit_transform(features.double().numpy()), label.numpy())
    ours = model.classify(features).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(StandardScaler().fit_transform(features.double().numpy())), atol=1e-3)


def make_model_folder(folder, write_tokenizer, prefix=""):
    write_tokenizer(folder=folder)
    torch.manual_seed(9)
    weights = {prefix + key: value.clone() for key, value in DnabertEncoder(TINY).state_dict().items() if not (prefix and key.startswith("pooler."))}
    save_file(weights, folder / "model.safetensors")


def test_published_weights_and_tokens_are_used_where_they_are(tmp_path, real_data, write_tokenizer):
    shutil.copytree(real_data / "gue" / "prom" / "prom_core_tata", tmp_path / "gue" / "prom" / "prom_core_tata")
    make_model_folder(tmp_path / "DNABERT-S", write_tokenizer)
    workload, case = shrink(dnabert_s, FROZEN), make_case(preset=Preset.STANDARD)
    session = workload.open(case, make_resources(tmp_path, tmp_path))
    assert (session.conditions["weights"], session.conditions["tokenizer"]) == ("published", "published byte-pair encoding")
    assert (session.conditions["dataset"], session.conditions["n_train"], session.conditions["n_test"]) == ("gue-prom-core-tata", 4880, 613)
    assert session.card.dropped["training sequences in test"] == 16
    session.fit(ignore_progress)
    scores = session.evaluate()
    assert not any("random weights" in score.how for score in scores.values())
    assert scores["auroc"].low is not None
    assert scores["auroc"].low > 0.5  # a tiny untrained network keeps some of the composition, which tells promoters from other sequences
    torch.manual_seed(9)
    assert torch.equal(session.model.state_dict()["encoder.embeddings.word_embeddings.weight"], DnabertEncoder(TINY).embeddings.word_embeddings.weight)


def test_weights_and_tokenizer_are_part_of_what_is_comparable(tmp_path, real_data, write_tokenizer):
    shutil.copytree(real_data / "gue" / "prom" / "prom_core_tata", tmp_path / "gue" / "prom" / "prom_core_tata")
    folder, case = tmp_path / "DNABERT-S", make_case(preset=Preset.STANDARD)
    make_model_folder(folder, write_tokenizer)
    first = dnabert_s.identify(case, tmp_path)
    assert (first.name, first.synthetic) == ("gue-prom-core-tata", False)
    assert first == shrink(dnabert_s, FROZEN).open(case, make_resources(tmp_path, tmp_path)).card.identity
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    second = dnabert_s.identify(case, tmp_path)
    save_file({"other": torch.zeros(1)}, folder / "model.safetensors")
    third = dnabert_s.identify(case, tmp_path)
    control = dnabert_s.identify(make_case(variant="from-scratch-prom-core-tata", preset=Preset.STANDARD), tmp_path)
    assert len({identity.sha256 for identity in (first, second, third, control)}) == 4
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingData, match=r"DNABERT-S.tokenizer\.json: not found"):
        dnabert_s.identify(case, tmp_path)
    assert control == dnabert_s.identify(make_case(variant="from-scratch-prom-core-tata", preset=Preset.STANDARD), tmp_path)  # it takes neither


def test_real_sequences_without_published_tokens_or_weights_are_refused(tmp_path, real_data, write_tokenizer):
    case = make_case(preset=Preset.STANDARD)
    with pytest.raises(MissingData, match=r"DNABERT-S.tokenizer\.json: not found"):
        dnabert_s.open(case, make_resources(tmp_path, real_data))
    shutil.copytree(real_data / "gue" / "prom" / "prom_core_tata", tmp_path / "gue" / "prom" / "prom_core_tata")
    write_tokenizer(folder=tmp_path / "DNABERT-S")
    with pytest.raises(MissingData, match=r"DNABERT-S: holds neither model\.safetensors nor pytorch_model\.bin"):
        dnabert_s.open(case, make_resources(tmp_path, tmp_path))


def test_documented_conditions_need_real_data_and_standard_falls_back_to_the_twin(tmp_path):
    with pytest.raises(MissingData, match="no data folder was given, and this case has no twin"):
        dnabert_s.identify(make_case(preset=Preset.DOCUMENTED), None)
    assert dnabert_s.identify(make_case(preset=Preset.STANDARD), tmp_path).synthetic
    assert dnabert_s.identify(make_case(preset=Preset.SCALE), tmp_path).synthetic


def test_the_control_learns_real_promoters_without_pretraining(tmp_path, real_data):
    recipe = dnabert_s.recipes["from-scratch-prom-core-tata"]
    short = replace(recipe, training=replace(recipe.training, epochs=1, batch=128))
    workload = replace(dnabert_s, recipes={**dnabert_s.recipes, "from-scratch-prom-core-tata": short})
    session = workload.open(make_case(variant="from-scratch-prom-core-tata", preset=Preset.STANDARD), make_resources(tmp_path, real_data))
    assert (session.conditions["weights"], session.conditions["dataset"]) == ("random", "gue-prom-core-tata")
    session.fit(ignore_progress)
    auroc = session.evaluate()["auroc"]
    assert auroc.low is not None
    assert auroc.low > 0.6
    assert auroc.how.startswith("random weights")


@pytest.mark.parametrize(
    ("task", "rows", "tokens", "classes"), [("prom-core-tata", (4880, 613), 16, 2), ("prom-300-tata", (4884, 613), 62, 2), ("splice", (4073, 4562), 82, 3)]
)
def test_every_task_has_a_control_on_its_real_sequences(tmp_path, real_data, task, rows, tokens, classes):
    case = make_case(variant=f"from-scratch-{task}", preset=Preset.STANDARD)
    session = dnabert_s.open(case, make_resources(tmp_path, real_data))
    assert (session.conditions["dataset"], session.conditions["weights"], session.conditions["epochs"]) == (f"gue-{task}", "random", 10)
    assert (session.conditions["n_train"], session.conditions["n_test"]) == rows
    assert isinstance(session, TrainingSession)
    assert isinstance(session.model, SequenceClassifier)
    assert session._splits.train[0].shape[1] == tokens  # 5-mers, [CLS] and [SEP]
    assert session.model.head.out_features == classes
    assert session.step() == session.infer() == 32


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_an_attention_case_measures_its_distance_from_the_reference(tmp_path, kind, monkeypatch):
    monkeypatch.setitem(attention_cases.LONGEST, Preset.STANDARD, 64)
    session = dnabert_s.open(make_case(variant=f"attention-{kind}", phase=Phase.ATTENTION, preset=Preset.STANDARD), make_resources(tmp_path))
    assert session.step() == session.infer() == session.conditions["batch"] == 16
    scores = session.evaluate()
    assert all(score.value is not None and score.value < 1e-4 for score in scores.values())
    assert set(scores) == {"output_difference", "gradient_difference"}
    assert session.card.identity == dnabert_s.identify(make_case(variant=f"attention-{kind}", phase=Phase.ATTENTION, preset=Preset.STANDARD), None)


def test_attention_that_cannot_run_here_is_unsupported(tmp_path):
    for kind in ("flash", "flex", "triton"):
        with pytest.raises(Unsupported, match=f"attention {kind}: "):
            dnabert_s.open(make_case(variant=f"attention-{kind}", phase=Phase.ATTENTION, preset=Preset.STANDARD), make_resources(tmp_path))


def test_the_published_kernel_is_asked_of_the_compiler_or_unsupported(tmp_path):
    case = make_case(variant="published-kernel", phase=Phase.ATTENTION, preset=Preset.STANDARD)
    if not proof.is_installed():
        with pytest.raises(Unsupported, match="Triton is not installed, so its compiler cannot be asked"):
            dnabert_s.open(case, make_resources(tmp_path))
        return
    session = dnabert_s.open(case, make_resources(tmp_path))
    verdict = session.evaluate()["triton_kernel_compiles"]
    assert verdict.value == 0
    assert "unexpected keyword argument 'trans_b'" in verdict.how
    assert verdict.how.startswith("Triton ")
    assert verdict.how.endswith("; no release from 2.0.0 to 3.9.0 takes trans_a or trans_b in tl.dot")
    assert not session.card.identity.synthetic


def test_the_published_kernel_s_data_are_the_call_and_the_tools_that_ask_for_it():
    folder = Path(proof.__file__).parent
    identity = dnabert_s.identify(make_case(variant="published-kernel", phase=Phase.ATTENTION, preset=Preset.STANDARD), None)
    assert identity.sha256 == hash_files([folder / "published.py", folder / "proof.py", folder / "aot.py"])


def test_recipes_are_json_and_the_open_division_takes_the_fastest_attention(tmp_path):
    recipe = json.loads(json.dumps(splice_dnabert2.recipe(make_case(splice_dnabert2, TUNED, Preset.DOCUMENTED))))
    assert (recipe["training"]["epochs"], recipe["training"]["batch"], recipe["training"]["learning_rate"]) == (5, 8, 3e-5)
    assert recipe["network"]["hidden"] == 768
    assert json.loads(json.dumps(splice_dnabert2.recipe(make_case(splice_dnabert2, TUNED))))["network"]["hidden"] == 64
    open_case = make_case(dnabert_s, "fine-tuned-splice", Preset.SCALE, division=Division.OPEN, precision=Precision.BF16)
    assert dnabert_s.recipe(open_case)["attention"] == "fastest"
    with pytest.raises(Unsupported, match="fp16 needs a CUDA device"):
        dnabert_s.open(make_case(variant="attention-sdpa", phase=Phase.ATTENTION, preset=Preset.STANDARD, precision=Precision.FP16), make_resources(tmp_path))
