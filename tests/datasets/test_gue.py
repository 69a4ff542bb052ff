import numpy as np
import pytest

from assay.datasets.card import DataError, MissingData
from assay.datasets.gue import PLANTED_SHARE, SHAPES, GueTask, identify_gue, identify_gue_twin, make_gue_twin, read_gue


@pytest.mark.parametrize(
    ("task", "rows", "dropped"),
    [
        (GueTask.PROM_CORE_TATA, (4880, 611, 613), (16, 2, 8)),
        (GueTask.PROM_300_TATA, (4884, 613, 613), (6, 0, 14)),
        (GueTask.SPLICE, (4073, 451, 4562), (25, 6, 7)),
    ],
)
def test_real_tasks_lose_their_duplicates_and_count_them(real_data, task, rows, dropped):
    data = read_gue(real_data, task)
    assert tuple(data.rows.values()) == rows
    assert tuple(data.dropped.values()) == dropped
    train, validation, test = (set(part.sequences) for part in (data.train, data.validation, data.test))
    assert not train & test
    assert not validation & test
    assert not train & validation
    assert data.identity == identify_gue(real_data, task)
    assert not data.identity.synthetic
    assert {len(sequence) for sequence in data.test.sequences} == {SHAPES[task].length}
    assert set(data.test.label) == set(range(len(SHAPES[task].classes)))


def test_real_splice_sites_have_their_dinucleotides(real_data):
    data = read_gue(real_data, GueTask.SPLICE)
    donors = [s for s, label in zip(data.test.sequences, data.test.label, strict=True) if label == 1]
    acceptors = [s for s, label in zip(data.test.sequences, data.test.label, strict=True) if label == 0]
    assert np.mean([s[200:202] == "GT" for s in donors]) > 0.95
    assert np.mean([s[198:200] == "AG" for s in acceptors]) > 0.95


def write_task(folder, **parts):
    base = folder / SHAPES[GueTask.PROM_CORE_TATA].folder
    base.mkdir(parents=True)
    texts = {"train": "ACGT,0\nAAAA,1\n", "dev": "CCCC,0\n", "test": "GGGG,1\n"} | parts
    for part, text in texts.items():
        (base / f"{part}.csv").write_text("sequence,label\n" + text)
    return folder


def test_what_is_in_a_held_out_part_leaves_training(tmp_path):
    data = read_gue(write_task(tmp_path, train="GGGG,1\nCCCC,0\nACGT,0\n", dev="GGGG,1\nCCCC,0\n"), GueTask.PROM_CORE_TATA)
    assert (data.train.sequences, data.validation.sequences, data.test.sequences) == (["ACGT"], ["CCCC"], ["GGGG"])
    assert (data.train.row.tolist(), data.validation.row.tolist()) == ([4], [3])  # as the files count
    assert data.dropped == {"training sequences in test": 1, "validation sequences in test": 1, "training sequences in validation": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ACGT,0\nACXT,1\n", r"train\.csv, row 3: the sequence 'ACXT' is empty or holds letters other than"),
        ("ACGT,2\n", r"train\.csv, row 2: label '2' is none of 0, 1"),
        (",0\n", r"train\.csv, row 2: the sequence '' is empty"),
        ("GGGG,1\n", r"train\.csv: every sequence also occurs in a held-out part"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, problem):
    with pytest.raises(DataError, match=problem):
        read_gue(write_task(tmp_path, train=text), GueTask.PROM_CORE_TATA)


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(MissingData, match=r"prom_300_tata/train\.csv: not found\. Fetch it"):
        read_gue(tmp_path, GueTask.PROM_300_TATA)


@pytest.mark.parametrize("task", list(GueTask))
def test_the_twin_has_the_tasks_shape_and_its_planted_share(task):
    twin = make_gue_twin(task, (600, 30, 30), seed=1)
    shape = SHAPES[task]
    assert tuple(twin.rows.values()) == (600, 30, 30)
    assert {len(sequence) for sequence in twin.train.sequences} == {shape.length}
    assert np.bincount(twin.train.label).tolist() == [600 // len(shape.classes)] * len(shape.classes)
    motifs = np.array([sequence[shape.motif_at : shape.motif_at + 10] for sequence in twin.train.sequences])
    common = [max(set(own := motifs[twin.train.label == kind].tolist()), key=own.count) for kind in range(len(shape.classes))]
    own_share = np.mean([motif == common[label] for motif, label in zip(motifs, twin.train.label, strict=True)])
    assert own_share == pytest.approx(PLANTED_SHARE, abs=0.04)  # three standard errors of 600 rows
    assert twin.identity == identify_gue_twin(task, (600, 30, 30), seed=1)
    assert twin.identity != identify_gue_twin(task, (600, 30, 30), seed=2)
    expected = {2: "0.8000", 3: "0.8500"}[len(shape.classes)]
    assert f"best expected MCC {expected}" in twin.notes[0]
