"""The workloads as the suite sees them: facts, recipes, data by preset, sessions, determinism."""

import numpy as np
import pytest
import torch

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.bench.profiles import load_profile
from assay.bench.registry import expand_cases, get_workload, hash_declaration
from assay.datasets.card import DataError, MissingData
from assay.models.splice import WORKLOADS
from assay.models.splice.declaration import find_double_softmax_ceiling
from assay.models.workload import Resources

SMOKE = [
    case
    for case in expand_cases(WORKLOADS)
    if case.preset is Preset.SMOKE and case.phase is Phase.TRAIN and case.precision is not Precision.FP16  # which needs a GPU
]
SMALL = "hidden128-layers6"


pytestmark = pytest.mark.usefixtures("one_thread")


def make_case(workload="splice-validated", variant=SMALL, preset=Preset.SMOKE, division=Division.CLOSED, precision=Precision.FP32):
    return Case(workload, variant, Phase.TRAIN, preset, division, precision)


def open_session(case, tmp_path, data=None, batch=None, seed=0):
    resources = Resources(device=torch.device("cpu"), data=data, batch=batch, seed=seed, cache=tmp_path / "cache")
    return get_workload(case.workload).open(case, resources)


def test_the_ceiling_of_a_second_softmax_is_e_minus_one_over_e_plus_two():
    assert find_double_softmax_ceiling() == pytest.approx((np.e - 1) / (np.e + 2), abs=1e-12)
    assert round(find_double_softmax_ceiling(), 4) == 0.3642


@pytest.mark.parametrize(
    ("workload", "variant", "parameters", "megabytes"),
    [
        ("splice-validated", SMALL, 3_011_843, 12.047372),
        ("splice-validated", "hidden256-layers8", 15_970_819, 63.883276),
        ("splice-validated", "attention", 3_012_100, 12.0484),
        ("splice-validated", "full", 15_970_819, 63.883276),
        ("splice-simple-cnn", SMALL, 3_070_210, 12.28084),
        ("splice-classifier", SMALL, 3_020_033, 12.080132),
        ("splice-classifier", "hidden256-layers8", 16_003_585, 64.01434),
    ],
)
def test_facts_follow_from_the_architecture(workload, variant, parameters, megabytes):
    facts = get_workload(workload).facts(variant)
    assert facts["parameters"] == parameters
    assert facts["checkpoint_mb"] == pytest.approx(megabytes)
    assert facts["delta_ceiling_double_softmax"] == pytest.approx(0.364175, abs=1e-6)


def test_every_variant_has_a_recipe_of_its_own():
    for workload in WORKLOADS:
        assert set(workload.variants) == set(workload.recipes)
    hashes = {hash_declaration(case, load_profile("cpu")) for case in expand_cases(WORKLOADS) if case.phase is Phase.TRAIN}
    assert len(hashes) > len(SMOKE)


@pytest.mark.parametrize(
    ("variant", "rows", "batch", "epochs", "rate", "decay", "peak"),
    [
        ("1k", 1_000, 64, 10, 1e-4, 0.01, 1e-3),
        ("2k", 2_000, 32, 40, 5e-5, 0.02, 5e-4),
        ("8k", 8_000, 32, 40, 5e-5, 0.02, 5e-4),
        ("full", 50_000, 128, 50, 1e-4, 0.01, 1e-3),
        (SMALL, 50_000, 64, 50, 1e-4, 0.01, 1e-3),
    ],
)
def test_documented_sizes_take_the_documented_training(variant, rows, batch, epochs, rate, decay, peak):
    recipe = get_workload("splice-validated").recipe(make_case(variant=variant, preset=Preset.DOCUMENTED))
    training = recipe["training"]
    assert isinstance(training, dict)
    assert recipe["max_train"] == rows
    assert (training["batch"], training["epochs"], training["learning_rate"], training["weight_decay"]) == (batch, epochs, rate, decay)
    assert training["schedule"]["kind"] == "one-cycle"
    assert training["schedule"]["peak"] == peak
    assert training["clip"] == 1.0
    assert not training["keep_best"]


def test_the_corrected_sibling_changes_targets_encoding_and_what_is_kept_and_nothing_else():
    workload = get_workload("splice-validated")
    documented = dict(workload.recipe(make_case(preset=Preset.DOCUMENTED)))
    corrected = dict(workload.recipe(make_case(variant=f"{SMALL}-corrected", preset=Preset.DOCUMENTED)))
    assert {key for key in documented if documented[key] != corrected[key]} == {"targets", "n_encoding", "validation_share", "training"}
    ours, theirs = corrected["training"], documented["training"]
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    assert {key for key in ours if ours[key] != theirs[key]} == {"patience", "min_delta", "keep_best"}


def test_the_documents_early_stopping_and_quick_test_have_their_own_variants():
    def resolve(name):
        recipe = dict(get_workload("splice-validated").recipe(make_case(variant=name, preset=Preset.DOCUMENTED)))
        return {f"training.{key}": value for key, value in recipe.pop("training").items()} | recipe  # type: ignore[attr-defined]

    def compare(one, other):
        ours, theirs = resolve(one), resolve(other)
        return {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]}

    patience = {"training.patience": (None, 7), "training.min_delta": (0.0, 1e-5), "training.keep_best": (False, True)}
    assert compare("full", "early-stop") == {"training.epochs": (50, 100), "validation_share": (0.0, 0.15), **patience}
    assert compare("1k", "1k-as-documented") == {"training.epochs": (10, 40), "training.batch": (64, 32)}


def test_the_open_division_fuses_the_optimiser():
    recipe = get_workload("splice-validated").recipe(make_case(division=Division.OPEN, precision=Precision.BF16))
    assert isinstance(recipe["training"], dict)
    assert recipe["training"]["fused"]


@pytest.mark.parametrize("case", SMOKE, ids=lambda case: case.id)
def test_every_smoke_case_trains_predicts_and_scores_on_the_twin(case, tmp_path):
    session = open_session(case, tmp_path)
    assert session.card.identity == get_workload(case.workload).identify(case, None)
    assert session.card.identity.synthetic
    assert session.conditions["dataset"] == "splice-twin"
    before = [weights.detach().clone() for weights in session.model.parameters()]
    batch = int(session.conditions["batch"])
    assert session.card.rows["train"] % batch == session.card.rows["test"] % batch == 0
    assert session.step() == batch * session.conditions.get("members", 1)
    assert all(not torch.equal(old, new) for old, new in zip(before, session.model.parameters(), strict=True) if old.numel() > 1)
    assert session.infer() == batch
    quality = session.evaluate()
    assert get_workload(case.workload).target.metric in quality


def test_the_same_case_twice_gives_equal_weights_and_quality_whatever_was_timed_before(tmp_path):
    case = make_case("splice-simple-cnn")
    first, second = (open_session(case, tmp_path) for _ in range(2))
    second.step()
    histories = [session.fit(lambda done, total, note: None) for session in (first, second)]
    assert histories[0].train_loss == histories[1].train_loss
    for ours, theirs in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert first.evaluate() == second.evaluate()
    other = open_session(case, tmp_path, seed=1)
    assert other.fit(lambda done, total, note: None).train_loss != histories[0].train_loss
    assert other.card.identity == first.card.identity


def test_scale_has_the_documented_number_of_balanced_rows_and_one_epoch(tmp_path):
    session = open_session(make_case(variant=SMALL, preset=Preset.SCALE), tmp_path)
    # 11,066 and 292 Normal variants on either side of the chromosome split
    assert {key: session.conditions[key] for key in ("n_train", "n_test", "epochs", "batch")} == {"n_train": 22_132, "n_test": 584, "epochs": 1, "batch": 64}
    assert session.conditions["dataset"] == "splice-twin"


def test_a_profile_batch_replaces_the_recipes(tmp_path):
    session = open_session(make_case(), tmp_path, batch=12)
    assert session.conditions["batch"] == 12
    assert session.step() == 12


def test_documented_needs_splicevardb_and_says_where(tmp_path):
    workload, case = get_workload("splice-validated"), make_case(variant="1k", preset=Preset.DOCUMENTED)
    with pytest.raises(MissingData, match=r"splicevardb\.download\.tsv: no data folder was given.*Pass --data DIR"):
        workload.identify(case, None)
    with pytest.raises(MissingData, match=r"splicevardb\.download\.tsv: not found.*genome/hg38\.fa below the folder given with --data"):
        workload.identify(case, tmp_path)
    for variant in ("vexseq", "mfass"):
        with pytest.raises(MissingData):
            workload.identify(make_case(variant=variant, preset=Preset.STANDARD), tmp_path)


def _write_splicevardb(folder, test_chromosome="21"):
    sequence = "ACGTTGCA" * 150
    bases = {position: sequence[position - 1] for position in range(401, 421)}
    header = ("variant_id", "hg19", "hg38", "gene", "hgvs", "method", "classification", "location", "doi")
    scores = ["chrom,pos_hg38,ref,alt,d_neither,d_acceptor,d_donor,dd_neither,dd_acceptor,dd_donor,minus_d_neither,minus_d_acceptor,minus_d_donor,site_minus"]
    rows = ["\t".join(header)]
    for chromosome in ("1", test_chromosome):
        for number, (position, base) in enumerate(bases.items()):
            other = "G" if base != "G" else "C"
            kind = "Splice-altering" if number % 2 else "Normal"
            rows.append(f"{number}\tx\t{chromosome}-{position}-{base}-{other}\tGENE{number}\tx\tx\t{kind}\tx\tx")
            scores.append(f"{chromosome},{position},{base},{other},0.{number + 10},-0.1,-0.2,0.1,-0.05,-0.05,0,0,0,0.01")
    for name, content in (
        ("splicevardb/splicevardb.download.tsv", "\n".join(rows) + "\n"),
        ("splicevardb/base_deltas.csv", "\n".join(scores) + "\n"),
        ("genome/hg38.fa", f">chr1\n{sequence}\n>chr{test_chromosome}\n{sequence}\n"),
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)


def test_documented_reads_splicevardb_and_splits_by_chromosome(tmp_path):
    _write_splicevardb(tmp_path)
    case = make_case(variant="1k", preset=Preset.DOCUMENTED)
    session = open_session(case, tmp_path, tmp_path)
    expected = {"dataset": "splicevardb", "targets": "documented", "n_train": 20, "n_test": 20, "length_nt": 501, "epochs": 10, "batch": 64}
    assert dict(session.conditions) == expected
    assert not session.card.identity.synthetic
    assert session.card.identity == get_workload("splice-validated").identify(case, tmp_path)
    assert session.step() == 20
    stopping = open_session(make_case(variant="early-stop", preset=Preset.DOCUMENTED), tmp_path, tmp_path)
    assert stopping.card.rows["train"] + stopping.card.rows["validation"] == 20
    assert (stopping.conditions["targets"], stopping.conditions["epochs"], stopping.conditions["batch"]) == ("documented", 100, 128)


def test_a_table_without_the_test_chromosomes_is_refused(tmp_path):
    _write_splicevardb(tmp_path, test_chromosome="2")
    with pytest.raises(DataError, match=r"splicevardb\.download\.tsv: the test split is empty: with chr21, chr22 held out"):
        open_session(make_case(variant="1k", preset=Preset.DOCUMENTED), tmp_path, tmp_path)


def test_standard_trains_on_real_mapsy_and_vexseq(real_data, tmp_path):
    mapsy = open_session(make_case(preset=Preset.STANDARD), tmp_path, real_data)
    assert mapsy.conditions == {"dataset": "mapsy", "targets": "documented", "n_train": 640, "n_test": 128, "length_nt": 200, "epochs": 10, "batch": 64}
    assert sum(mapsy.card.rows.values()) + sum(mapsy.card.dropped.values()) == 4951
    vexseq = open_session(make_case(variant="vexseq", preset=Preset.STANDARD), tmp_path, real_data)
    assert vexseq.conditions["dataset"] == "vex-seq"
    assert (vexseq.conditions["n_train"], vexseq.conditions["n_test"]) == (354, 98)
    assert "5 groups" in vexseq.evaluate()["auroc"].how


def test_the_corrected_recipe_keeps_the_best_weights_of_a_held_out_share(tmp_path):
    session = open_session(make_case(variant=f"{SMALL}-corrected"), tmp_path)
    assert session.card.rows == {"train": 48, "validation": 8, "test": 32}
    history = session.fit(lambda done, total, note: None)
    assert len(history.validation_loss) == 2
    assert history.best_epoch == int(np.argmin(history.validation_loss))
