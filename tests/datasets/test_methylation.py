"""Tokens, the real bisulfite reads, and every way a read can be wrong."""

import numpy as np
import pytest

from datasets.card import DataError, MissingData
from datasets.genome import encode_bases
from datasets.methylation import NO_CPG, PAD, TOKENS, TRAIN_FILE, UNK, check_reads, identify_methylbert, read_methylbert, tokenise

HEADER = "dna_seq\tmethyl_seq\tctype\tdmr_label"


def write(tmp_path, *rows, header=HEADER):
    path = tmp_path / TRAIN_FILE
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
    train, test = (read_methylbert(real_data, part) for part in ("train", "test"))
    assert [np.bincount(part.reads.label).tolist() for part in (train, test)] == [[727, 702], [319, 293]]
    assert sorted(set(train.reads.region)) == list(range(10))
    assert (train.length, train.even) == (148, False)
    # methylation stands at the 3-mer whose middle is the C of a CpG: xCG for every measured one, and nowhere else
    tokens, states = train.reads.tokens, train.reads.states
    measured = tokens[states != NO_CPG]
    assert (measured % 16 == 6).mean() > 0.99
    assert not identify_methylbert(real_data).synthetic


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
    folder = write(tmp_path, "ACG CGT\t12\tT\t1", row)
    with pytest.raises(DataError, match=problem) as caught:
        read_methylbert(folder, "train")
    assert "train_seq.csv, row 3" in str(caught.value)


def test_absent_files_and_columns_are_named(tmp_path):
    with pytest.raises(MissingData, match=r"train_seq.csv: not found"):
        identify_methylbert(tmp_path)
    with pytest.raises(DataError, match="has no column 'methyl_seq'"):
        read_methylbert(write(tmp_path, "ACG\tT\t1", header="dna_seq\tctype\tdmr_label"), "train")


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
