import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.datasets.card import DataError
from assay.models.audiogram.sampler import ContrastiveSampler


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=30), st.integers(0, 7), st.integers(3, 12), st.integers(0, 3))
def test_every_mouse_once_and_never_alone(sizes, controls, batch, seed):
    genes = np.array([f"g{gene}" for gene, size in enumerate(sizes) for _ in range(size)] + [""] * controls)
    genes = np.random.default_rng(seed).permutation(genes)
    sampler = ContrastiveSampler(genes, batch, "made up")
    batches = sampler.draw(np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate([b.rows for b in batches])), np.arange(len(genes)))
    assert all(batch - 1 <= len(b.rows) <= batch + 1 for b in batches[:-2])
    for drawn in batches:
        own, partner = genes[drawn.rows], genes[drawn.rows[drawn.partner]]
        np.testing.assert_array_equal(own, partner)
        alone = drawn.partner == np.arange(len(drawn.rows))
        np.testing.assert_array_equal(alone, own == "")
        assert len(drawn.rows) >= 2 or len(genes) < 2


def test_order_and_partners_change_from_epoch_to_epoch_and_follow_the_seed():
    genes = np.repeat([f"g{gene}" for gene in range(10)], 4)
    sampler = ContrastiveSampler(genes, 8, "made up")
    random = np.random.default_rng(0)
    first, second = sampler.draw(random), sampler.draw(random)
    assert not np.array_equal(first[0].rows, second[0].rows)
    np.testing.assert_array_equal(sampler.draw(np.random.default_rng(0))[0].rows, first[0].rows)


def test_genes_with_one_mouse_are_refused_by_name_or_go_without_a_partner():
    genes = np.array(["twin", "twin", "Mir96", "Sun1", "Klc2", "Rest", ""])
    with pytest.raises(DataError, match=r"mice\.csv: 4 genes have one mouse only \(Klc2, Mir96, Rest, \.\.\.\)"):
        ContrastiveSampler(genes, 4, "mice.csv")
    sampler = ContrastiveSampler(genes, 4, "mice.csv", singles="unpaired")
    assert (sampler.pairs, sampler.singles) == (1, 4)
    assert (sampler.genes >= 0).tolist() == [True, True, False, False, False, False, False]
    assert len(np.unique(sampler.genes)) == 6  # mice without a partner are not of one gene


def test_a_batch_of_two_cannot_hold_a_triple():
    with pytest.raises(ValueError, match="a batch of 2 is too small"):
        ContrastiveSampler(np.array(["a", "a", "a"]), 2, "made up")
