import csv

import numpy as np
import pytest

from assay.datasets.audiograms import (
    CATEGORY_COLUMNS,
    GENE_COLUMN,
    NUMBER_COLUMNS,
    SAMPLE_CSV,
    THRESHOLD_COLUMNS,
    UNION_CSV,
    Preprocessing,
    count_metadata,
    read_mice,
    split_by_gene,
)
from assay.datasets.card import DataError, MissingData

COLUMNS = (*THRESHOLD_COLUMNS, *NUMBER_COLUMNS, *CATEGORY_COLUMNS, GENE_COLUMN)


def make_row(thresholds="40 30 30 40 55 30", numbers=("14", "20"), sex="male", zygosity="homozygote", background="B6", centre="JAX", gene="Abc1"):
    # a missing threshold is written as a dash
    heard = ["" if text == "-" else text for text in thresholds.split()]
    return [*heard, *numbers, sex, zygosity, background, centre, "pipeline", "maker", gene]


def write(path, rows, columns=COLUMNS):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


def make_table(tmp_path, rows):
    return read_mice(write(tmp_path / "mice.csv", rows))


def test_real_mice(real_data):
    table = read_mice(real_data / UNION_CSV)
    assert table.thresholds.shape == (1_345 - table.dropped["no threshold at all"], 6)
    assert table.identity.name == "impc-abr-union"
    assert not table.identity.synthetic
    assert (table.genes == "").sum() <= 248
    assert "click 49" in table.notes[0]  # 498 mice without a click threshold, less those without any
    # five tones and a click, as the README of the data counts them
    assert np.isfinite(table.thresholds[:, :5]).all(axis=1).sum() == 1_289
    assert np.isfinite(table.thresholds).all(axis=1).sum() == 795
    assert len(read_mice(real_data / SAMPLE_CSV)) <= 1_000  # its header names specimen_id twice


def test_real_split_keeps_genes_together(real_data):
    table = read_mice(real_data / UNION_CSV)
    split = split_by_gene(table)
    genes = [set(table.genes[getattr(split, part)]) - {""} for part in ("train", "validation", "test")]
    assert not genes[0] & genes[1] | genes[0] & genes[2] | genes[1] & genes[2]
    assert sum(split.sizes.values()) == len(table)
    assert split.sizes["test"] / len(table) == pytest.approx(0.1, abs=0.01)
    assert (table.genes[split.test] == "").any()  # controls are not one big gene
    again = split_by_gene(table)
    np.testing.assert_array_equal(split.test, again.test)


def test_a_mouse_without_thresholds_is_left_out_and_counted(tmp_path):
    table = make_table(tmp_path, [make_row(), make_row("- - - - - -"), make_row("- 30 30 40 55 -")])
    assert len(table) == 2
    assert table.dropped == {"no threshold at all": 1}
    assert np.isnan(table.thresholds[1]).tolist() == [True, False, False, False, False, True]
    assert "6khz 1, 12khz 0" in table.notes[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([make_row(), make_row("40 30 loud 40 55 30")], r"mice\.csv, row 3: 18kHz-evoked ABR Threshold is 'loud', not a number"),
        ([make_row("40 inf 30 40 55 30")], r"mice\.csv, row 2: 12kHz-evoked ABR Threshold is 'inf', not a finite number"),
        ([make_row(numbers=("14", "nan"))], r"row 2: weight is 'nan', not a finite number"),
        ([make_row()[:9]], "row 2: has 9 fields, expected at least 15"),
        ([make_row("- - - - - -")], "no mouse has an ABR threshold"),
        ([], "holds no mice"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        make_table(tmp_path, rows)


def test_another_encoding_is_named(tmp_path):
    path = write(tmp_path / "mice.csv", [make_row(centre="Zurich")])
    path.write_bytes(path.read_bytes().replace(b"Zurich", b"Z\xfcrich"))
    with pytest.raises(DataError, match=r"mice\.csv: is no UTF-8 text: .*Save the table as UTF-8"):
        read_mice(path)


def test_missing_column_and_missing_file(tmp_path):
    path = write(tmp_path / "mice.csv", [make_row()[:5] + make_row()[6:]], COLUMNS[:5] + COLUMNS[6:])
    with pytest.raises(DataError, match=r"row 1: has no column 'Click-evoked ABR threshold'"):
        read_mice(path)
    with pytest.raises(MissingData, match="not found"):
        read_mice(tmp_path / "none.csv")


def test_median_imputation_and_z_scores(tmp_path):
    table = make_table(tmp_path, [make_row("10 30 30 40 55 30"), make_row("20 30 30 40 55 30"), make_row("60 30 30 40 55 30"), make_row("- 30 30 40 55 30")])
    preprocessing = Preprocessing(table, np.arange(3), "ten-columns")
    first = preprocessing(table, np.arange(4)).abr[:, 0]
    scale = np.std([10, 20, 60])
    np.testing.assert_allclose(first, (np.array([10, 20, 60, 20]) - 30) / scale, rtol=1e-6)
    assert preprocessing.to_decibels(np.zeros((1, 6)))[0].tolist() == [30, 30, 30, 40, 55, 30]
    np.testing.assert_array_equal(preprocessing(table, np.arange(4)).abr[:, 1:], 0)  # constant columns stay finite


def test_documented_metadata_are_cut_or_padded_to_ten_columns(tmp_path):
    rows = [make_row(sex=sex, zygosity=kind, background=back) for sex in ("female", "male") for kind in ("het", "hom", "wt") for back in ("A", "B", "C", "D", "E", "F")]
    table = make_table(tmp_path, rows)
    preprocessing = Preprocessing(table, np.arange(len(table)), "ten-columns")
    context = preprocessing(table, np.arange(len(table))).context
    assert context.shape == (36, count_metadata("ten-columns") + 2)
    # age, weight, 2 sexes, 3 zygosities and only 3 of 6 backgrounds; centre, pipeline and maker are lost
    np.testing.assert_array_equal(context[0, 2:10], [1, 0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(context[5, 2:10], [1, 0, 1, 0, 0, 0, 0, 0])
    assert preprocessing.count_cut() == 2 + 2 + 3 + 6 + 3 - 10
    narrow = make_table(tmp_path, [make_row(), make_row("50 30 30 40 55 30")])
    padded = Preprocessing(narrow, np.arange(2), "ten-columns")(narrow, np.arange(2)).context
    np.testing.assert_array_equal(padded[:, 2:10], [[1] * 6 + [0, 0]] * 2)


def test_all_categories_keep_every_field_and_one_column_for_the_rest(tmp_path):
    rows = [make_row(sex="male"), make_row(sex="male"), make_row(sex="female"), make_row(sex="unknown to training", centre="")]
    table = make_table(tmp_path, rows)
    preprocessing = Preprocessing(table, np.arange(3), "all-categories")
    context = preprocessing(table, np.arange(4)).context
    assert context.shape == (4, 50 + 2)
    assert count_metadata("all-categories") == 2 + 3 + 5 + 10 + 12 + 12 + 6
    assert context[:, 2:5].tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]  # the most frequent first
    assert (context[:, 2:50].sum(axis=1) == 6).all()
    assert context[3, 2 + 3 + 5 + 10 + 11] == 1  # a missing centre
    assert preprocessing.count_cut() == 0


def test_principal_components_are_those_of_the_training_mice(tmp_path):
    random = np.random.default_rng(0)
    rows = [make_row(" ".join(f"{v:.1f}" for v in random.normal(50, 10, 6))) for _ in range(40)]
    table = make_table(tmp_path, rows)
    inputs = Preprocessing(table, np.arange(30), "ten-columns")(table, np.arange(30))
    from sklearn.decomposition import PCA

    expected = PCA(2).fit_transform(inputs.abr.astype(float))
    for column in range(2):
        assert abs(np.corrcoef(expected[:, column], inputs.context[:, 10 + column])[0, 1]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(inputs.context[:, 10:].var(axis=0), expected.var(axis=0), rtol=1e-4)


def test_nothing_is_fitted_on_test_mice(tmp_path):
    rows = [make_row(f"{40 + i} 30 3{i} 40 55 30", sex="male" if i % 2 else "female") for i in range(8)]
    before = make_table(tmp_path, rows)
    rows[7] = make_row("95 95 95 95 95 95", numbers=("90", "90"), sex="other", background="new")
    after = make_table(tmp_path, rows)
    train = np.arange(7)
    for encoding in ("ten-columns", "all-categories"):
        one, other = (Preprocessing(table, train, encoding)(table, train) for table in (before, after))
        np.testing.assert_array_equal(one.abr, other.abr)
        np.testing.assert_array_equal(one.context, other.context)


def test_a_frequency_that_no_training_mouse_has_is_refused(tmp_path):
    table = make_table(tmp_path, [make_row("40 30 30 40 55 -"), make_row()])
    with pytest.raises(DataError, match="no training mouse has a Click-evoked ABR threshold"):
        Preprocessing(table, np.array([0]), "ten-columns")
