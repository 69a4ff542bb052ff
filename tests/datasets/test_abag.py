import numpy as np
import pandas as pd
import pytest

from assay.datasets.abag import (
    ABAG_CSV,
    BIN_EDGES,
    BIN_NAMES,
    FEATURE_COLUMNS,
    SKEMPI_CSV,
    assign_bins,
    describe_bin,
    identify_abag,
    identify_skempi,
    read_abag,
    read_skempi,
)
from assay.datasets.card import DataError, MissingData, hash_files

SKEMPI_HEADER = "antibody_heavy,antibody_light,antigen,pKd,complex\n"


def make_abag(path, rows=8):
    """An AbAg table of a few rows; returns it as a frame that a test can damage and write again."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.standard_normal((rows, 150)), columns=list(FEATURE_COLUMNS))
    frame["pKd"] = np.linspace(4, 11, rows)
    frame["antibody_heavy"], frame["antibody_light"] = "EVQLV", "DIQMT"
    frame["antigen"] = [f"MK{'A' * (i // 2 + 1)}" for i in range(rows)]
    frame["Kd_nM"], frame["database_source"] = 10 ** (9 - frame["pKd"]), "made"
    frame["pdb_id"] = ["1ABC", "1abc", "1e10"] + [None] * (rows - 3)
    frame.to_csv(path, index=False)
    return frame


def test_abag_features_targets_and_complexes(tmp_path):
    path = tmp_path / "abag.csv"
    frame = make_abag(path)
    table = read_abag(path)
    np.testing.assert_array_equal(table.pkd, frame["pKd"])
    assert table.inputs.dtype == np.float32
    np.testing.assert_allclose(table.inputs, frame[list(FEATURE_COLUMNS)], rtol=1e-6)
    assert table.identity == identify_abag(path)
    assert (table.identity.name, table.identity.sha256, table.identity.synthetic) == ("abag", hash_files([path]), False)
    # 1ABC and 1abc are one entry and 1e10 is not the number 10000000000; rows without an entry go by antigen: rows 3 | 4 5 | 6 7
    assert table.complexes.tolist() == [0, 0, 1, 2, 3, 3, 4, 4]


def test_rows_with_neither_entry_nor_antigen_are_alone(tmp_path):
    path = tmp_path / "abag.csv"
    frame = make_abag(path)
    frame.loc[4:6, "antigen"] = None
    frame.to_csv(path, index=False)
    assert len(set(read_abag(path).complexes[4:])) == 4


def test_rows_without_features_are_dropped_and_counted(tmp_path):
    path = tmp_path / "abag.csv"
    frame = make_abag(path)
    frame.loc[[1, 6], list(FEATURE_COLUMNS)] = np.nan
    frame.loc[1, "pKd"] = np.nan  # such a row is not used, so nothing is wrong with it
    frame.to_csv(path, index=False)
    table = read_abag(path)
    assert len(table.pkd) == 6
    assert table.dropped == {"rows without features": 2}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("pKd", np.nan, r"abag\.csv, row 5: pKd is empty or NaN\. Correct or remove the row"),
        ("pKd", np.inf, r"abag\.csv, row 5: pKd is infinite\. Correct or remove the row"),
        ("pKd", "strong", r"abag\.csv, row 5: pKd is 'strong', not a number\. Correct or remove the row"),
        ("esm2_pca_7", np.nan, r"abag\.csv, row 5: esm2_pca_7 is empty or NaN"),
        ("esm2_pca_149", -np.inf, r"abag\.csv, row 5: esm2_pca_149 is infinite"),
        ("esm2_pca_0", "x", r"abag\.csv, row 5: esm2_pca_0 is 'x', not a number"),
    ],
)
def test_bad_numbers_are_named_by_line_and_column(tmp_path, column, value, message):
    path = tmp_path / "abag.csv"
    frame = make_abag(path)
    frame[column] = frame[column].astype(object)
    frame.loc[3, column] = value
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=message):
        read_abag(path)


def test_lines_are_counted_across_blank_lines_and_dropped_rows(tmp_path):
    path = tmp_path / "abag.csv"
    frame = make_abag(path)
    frame.loc[0, list(FEATURE_COLUMNS)] = np.nan
    frame.loc[3, "pKd"] = np.inf
    lines = frame.to_csv(index=False).splitlines()
    path.write_text("\n".join([*lines[:2], "", *lines[2:]]) + "\n\n")
    with pytest.raises(DataError, match="row 6: pKd is infinite"):
        read_abag(path)


def test_blank_lines_are_counted_not_refused(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(SKEMPI_HEADER + "EV,DI,MK,7.5,A\n\nEV,DI,MK,8.5,B\n\n")
    table = read_skempi(path)
    assert table.pkd.tolist() == [7.5, 8.5]
    assert table.dropped == {"blank lines": 2}


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "abag.csv"
    frame = make_abag(path)
    frame.drop(columns="pKd").to_csv(path, index=False)
    with pytest.raises(DataError, match=r"abag\.csv, row 1: missing column pKd\. Give a comma-separated file with a header"):
        read_abag(path)
    frame.drop(columns=list(FEATURE_COLUMNS)).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"missing column esm2_pca_0, esm2_pca_1, esm2_pca_2 and 147 more"):
        read_abag(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"pairs\.csv: the file is empty\. Build it again"),
        (SKEMPI_HEADER.encode(), r"pairs\.csv: the table has no rows\. Build it again"),
        (b"\x1f\x8b\x08\x00\x00", r"pairs\.csv: not text in UTF-8 .* at byte 1\)\. Build it again, uncompressed"),
        (SKEMPI_HEADER.encode() + b"EV,DI,MK,7.5,A\nEV,DI,MK,7.5,A,surplus,more\n", r"pairs\.csv: not a CSV table \(.*line 3.*\)"),
        (SKEMPI_HEADER.encode() + b"x,EV,DI,MK,7.5,A\nx,EV,DI,MK,7.5,A\n", r"pairs\.csv, row 2: rows have more fields than the header's 5"),
        (SKEMPI_HEADER.encode() + b"EV,DI,MK,7.5,A\nEV,DI,,7.5,A\n", r"pairs\.csv, row 3: antigen is empty\. Give it or remove the row"),
        (SKEMPI_HEADER.encode() + b"EV,DI,MK,7.5,\n", r"pairs\.csv, row 2: complex is empty"),
        (SKEMPI_HEADER.encode() + b"EV,DI,MK,7.5,A\n3.5,DI,MK,7.5,A\n", r"pairs\.csv, row 3: antibody_heavy is '3\.5', not one-letter residues"),
        (SKEMPI_HEADER.encode() + b"EV,DI,MK,nan,A\n", r"pairs\.csv, row 2: pKd is empty or NaN"),
        (SKEMPI_HEADER.encode() + b"EV,DI,MK,7.5,A\nEV,DI,MK,inf,A\n", r"pairs\.csv, row 3: pKd is infinite"),
    ],
    ids=["empty", "header only", "gzip", "ragged", "shifted", "no antigen", "no complex", "number for sequence", "NaN", "infinite"],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_skempi(path)


def test_table_without_any_features_is_refused(tmp_path):
    path = tmp_path / "abag.csv"
    frame = make_abag(path)
    frame[list(FEATURE_COLUMNS)] = np.nan
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"abag\.csv: the table has no rows with features"):
        read_abag(path)


def test_nanobodies_have_no_light_chain(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(SKEMPI_HEADER + "EV,,MK:AA,7.5,A\n")
    assert pd.DataFrame(read_skempi(path).inputs).to_dict("records") == [{"antibody_heavy": "EV", "antibody_light": "", "antigen": "MK:AA"}]


def test_absent_files_say_how_to_get_them(tmp_path):
    with pytest.raises(MissingData, match=r"no such file\. The table .* github\.com/melmbrain/AbAg_binding_prediction .* --data DIR"):
        identify_abag(tmp_path / ABAG_CSV)
    with pytest.raises(MissingData, match=r"no such file\. `python -m bench data describe abag_mini` says how it is made"):
        identify_skempi(tmp_path / SKEMPI_CSV)


def test_bins_have_their_upper_edge_and_zero_inside():
    edges = np.array([-0.1, 0, 5, 5.001, 7, 9, 11, 16, 16.1])
    assert assign_bins(edges).tolist() == [-1, 0, 0, 1, 1, 2, 3, 4, -1]
    theirs = pd.cut(pd.Series(edges), bins=[0, 5, 7, 9, 11, 16], labels=list(BIN_NAMES), include_lowest=True)
    assert assign_bins(edges).tolist() == theirs.cat.codes.tolist()
    assert [describe_bin(i) for i in range(5)] == ["[0, 5]", "(5, 7]", "(7, 9]", "(9, 11]", "(11, 16]"]


def test_real_skempi_table(real_data):
    table = read_skempi(real_data / SKEMPI_CSV)
    assert len(table.pkd) == 761
    assert len(np.unique(table.complexes)) == 20
    assert np.bincount(assign_bins(table.pkd)).tolist() == [31, 156, 400, 172, 2]
    # six rows have a pKd of exactly 7.0 and six of 9.0: counted with the lower edge inside they would sit one bin higher
    assert np.histogram(table.pkd, BIN_EDGES)[0].tolist() == [31, 150, 400, 178, 2]
    assert not table.dropped
