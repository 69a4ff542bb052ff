import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from assay.datasets.card import DataError
from assay.datasets.splits import assign_folds, split_by_group, split_by_values, split_random

DOCUMENTED = (0.70, 0.15, 0.15)


def test_documented_rows_give_documented_sizes():
    assert split_random(330_762, DOCUMENTED, 42).sizes == {"train": 231_532, "validation": 49_615, "test": 49_615}


def test_the_other_order_of_rounding_would_give_other_sizes():
    n, held = 330_762, math.ceil(330_762 * 0.3)
    assert (n - held, held // 2, math.ceil(held / 2)) == (231_533, 49_614, 49_615)


@pytest.mark.parametrize("n", [7, 100, 761, 3_001])
def test_random_split_has_scikit_learns_rows_in_its_order(n):
    rest, test = train_test_split(np.arange(n), test_size=0.15, random_state=42)
    train, validation = train_test_split(rest, test_size=0.15 / 0.85, random_state=42)
    split = split_random(n, DOCUMENTED, 42)
    for ours, theirs in ((split.train, train), (split.validation, validation), (split.test, test)):
        np.testing.assert_array_equal(ours, theirs)


def test_random_split_without_validation():
    split = split_random(10, (0.8, 0.0, 0.2), 1)
    assert split.sizes == {"train": 8, "validation": 0, "test": 2}


@given(st.lists(st.integers(0, 12), min_size=20, max_size=200), st.integers(0, 99))
def test_grouped_split_is_a_partition_and_tears_no_group(labels, seed):
    groups = np.array([f"complex{label}" for label in [0, 1, 2, *labels]])
    split = split_by_group(groups, DOCUMENTED, seed)
    parts = [split.train, split.validation, split.test]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    seen = [set(groups[part]) for part in parts]
    assert sum(map(len, seen)) == len(set(groups))


def test_grouped_split_of_equal_groups_hits_the_shares_exactly():
    split = split_by_group(np.repeat(np.arange(100), 7), DOCUMENTED, 42)
    assert split.sizes == {"train": 490, "validation": 105, "test": 105}


def test_grouped_split_with_only_large_groups_still_fills_every_part():
    groups = np.repeat(["a", "b", "c"], [50, 40, 60])
    split = split_by_group(groups, DOCUMENTED, 0)
    assert split.sizes == {"train": 60, "validation": 50, "test": 40}


def test_values_split_by_chromosome():
    chromosomes = np.array(["chr1", "chr21", "chr2", "chr22", "chr21"])
    split = split_by_values(chromosomes, {"chr21", "chr22"})
    assert split.train.tolist() == [0, 2]
    assert split.validation.tolist() == []
    assert split.test.tolist() == [1, 3, 4]


def test_empty_parts_are_refused_by_name():
    with pytest.raises(DataError, match=r"^rows\.csv: the train split is empty: 2 rows are too few for shares of \(0\.7, 0\.15, 0\.15\)\. Give more rows$"):
        split_random(2, DOCUMENTED, 42, "rows.csv")
    with pytest.raises(DataError, match=r"^rows\.csv: the train split is empty: 2 groups cannot fill every part\. Give at least one group per part"):
        split_by_group(np.array(["a", "b", "b"]), DOCUMENTED, 42, "rows.csv")
    with pytest.raises(DataError, match=r"the test split is empty: with chr21 held out \(values that occur: chr1, chr2\)"):
        split_by_values(np.array(["chr1", "chr2"]), ["chr21"])
    with pytest.raises(DataError, match="the train split is empty"):
        split_by_values(np.array(["chr21"]), ["chr21"])


def test_shares_must_sum_to_one():
    with pytest.raises(ValueError, match="sum to 1"):
        split_random(10, (0.5, 0.2, 0.2), 0)


def test_folds_share_the_values_and_balance_the_rows():
    chromosomes = np.repeat(["chr1", "chr2", "chr3", "chr4"], [50, 30, 20, 10])
    assert assign_folds(chromosomes, 2) == [("chr1", "chr4"), ("chr2", "chr3")]
    assert sorted(value for fold in assign_folds(chromosomes, 3) for value in fold) == ["chr1", "chr2", "chr3", "chr4"]
    with pytest.raises(DataError, match="table: 4 distinct values cannot fill 5 folds"):
        assign_folds(chromosomes, 5, "table")
