"""Tokens, the real bisulfite reads, and every way a read can be wrong."""

import numpy as np
import pytest

from assay.datasets.card import DataError, MissingData
from assay.datasets.genome import encode_bases
from assay.datasets.methylation import NO_CPG, PAD, TEST_FILE, TOKENS, TRAIN_FILE, UNK, check_reads, identify_methylbert, read_methylbert, tokenise

HEADER = "name\tdna_seq\tmethyl_seq\tctype\tdmr_label"


def write(tmp_path, *rows, header=HEADER, file=TRAIN_FILE):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


def test_150_bases_give_148_overlapping_3mers():
    tokens = tokenise(np.zeros((1, 150), dtype=np.uint8))
    assert tokens.shape == (1, TOKENS)
    assert (tokens[0] != PAD).sum() == 148


def test_3mers_are_numbered_in_order_and_an_unknown_base_makes_three_unknown_tokens():
    assert tokenise(encode_bases("AAATTTG")[None], 8).tolist() == [[0, 3, 15, 63, 62, PAD, PAD, PAD]]
    assert tokenise(encode_bases("AACNTTT")[None], 5).tolist() == [[1, UNK, UNK, UNK, 63]]


@pytest.mark.parametrize("bases", [2, 153])
def test_a_read_that_the_model_cannot_hold_is_refused(bases):
    with pytest.raises(ValueError, match=f"{bases} bases give .* tokens; a read has 1 to 150"):
        tokenise(np.zeros((1, bases), dtype=np.uint8))


def test_the_real_reads_have_the_published_counts(real_data):
    found = read_methylbert(real_data)
    train, test = found.train, found.test
    # 727 and 702 are published; 429 of the 612 test reads are the other end of a training read's fragment
    assert [np.bincount(part.reads.label).tolist() for part in (train, test)] == [[507, 489], [319, 293]]
    assert found.dropped == {"training reads of a fragment in test": 430, "training reads equal to a test read": 3}
    assert len(train) + sum(found.dropped.values()) == 1_429
    assert sorted(set(train.reads.region)) == list(range(10))
    assert (train.length, train.even) == (148, False)
    # methylation stands at the 3-mer whose middle is the C of a CpG: xCG for every measured one, and nowhere else
    tokens, states = train.reads.tokens, train.reads.states
    measured = tokens[states != NO_CPG]
    assert (measured % 16 == 6).mean() > 0.99
    assert not identify_methylbert(real_data).synthetic


def test_training_reads_of_a_tested_fragment_are_dropped_and_counted(tmp_path):
    write(tmp_path, "a\tACG CGT\t12\tT\t1", "b\tACG CGA\t12\tT\t1", "c\tACG CGC\t02\tN\t1", "d\tACG CGC\t12\tN\t1")
    write(tmp_path, "a\tCCG CGT\t12\tT\t1", "e\tACG CGC\t02\tN\t1", file=TEST_FILE)
    found = read_methylbert(tmp_path)
    assert found.dropped == {"training reads of a fragment in test": 1, "training reads equal to a test read": 1}
    # b, and d, whose bases are tested but not its methylation; nothing leaves the test part
    assert found.train.take(np.arange(2)).states[:, :2].tolist() == [[1, 2], [1, 2]]
    assert (len(found.train), len(found.test)) == (2, 2)
    write(tmp_path, "a\tACG CGT\t12\tT\t1")
    with pytest.raises(DataError, match="every read is of a fragment that is also tested"):
        read_methylbert(tmp_path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("ACG CGT\t12\tT\tx", "dmr_label is 'x'"),
        ("ACG CGT\t12\tQ\t1", "ctype is 'Q'"),
        ("ACG CGT\t1\tT\t1", "has 2 3-mers but 1 methylation states"),
        ("ACG CGT\t13\tT\t1", "something other than the digits 0, 1 and 2"),
        ("ACG CG\t12\tT\t1", "not 3-mers separated by one space"),
        ("ACG CGZ\t12\tT\t1", "'CGZ' is outside the vocabulary"),
        ("\t\tT\t1", "has 0 3-mers"),
        (" ".join(["ACG"] * 151) + "\t" + "2" * 151 + "\tT\t1", "has 151 3-mers, expected 1 to 150"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, problem):
    folder = write(tmp_path, "a\tACG CGT\t12\tT\t1", f"b\t{row}")
    with pytest.raises(DataError, match=problem) as caught:
        read_methylbert(folder)
    assert "train_seq.csv, row 3" in str(caught.value)


def test_a_read_without_a_name_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"train_seq.csv, row 3: has no name"):
        read_methylbert(write(tmp_path, "a\tACG CGT\t12\tT\t1", "\tACG CGT\t12\tT\t1"))


def test_absent_files_and_columns_are_named(tmp_path):
    with pytest.raises(MissingData, match=r"train_seq.csv: not found"):
        identify_methylbert(tmp_path)
    with pytest.raises(DataError, match="has no column 'methyl_seq'"):
        read_methylbert(write(tmp_path, "a\tACG\tT\t1", header="name\tdna_seq\tctype\tdmr_label"))


@pytest.mark.parametrize(
    ("tokens", "states", "problem"),
    [
        ([[1, 69], [1, 1]], [[2, 2], [2, 2]], "outside the vocabulary of 69"),
        ([[1, 1], [1, 1]], [[2, 3], [2, 2]], "methylation state"),
        ([[PAD, PAD], [1, 1]], [[2, 2], [2, 2]], "all padding"),
    ],
)
def test_what_no_model_can_read_is_refused(tokens, states, problem):
    with pytest.raises(DataError, match=f"here, row 7: .*{problem}"):
        check_reads(np.array(tokens), np.array(states), "here", np.array([7, 8]))
