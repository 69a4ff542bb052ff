"""The twin of reads: any row on its own, planted signatures, and the best score that they allow."""

import resource

import numpy as np
import pytest

from assay.datasets.methylation import NO_CPG, PAD, check_reads
from assay.datasets.methylation_twin import BASES, DOCUMENTED_READS, ERROR, RandomTokens, ReadTwin

SMALL = np.arange(2_000)


def test_a_row_is_the_same_whichever_rows_are_drawn_with_it():
    twin = ReadTwin(rows=5_000, regions=20)
    every, some = twin.take(np.arange(5_000)), twin.take(np.array([4_999, 17, 17]))
    np.testing.assert_array_equal(some.tokens, every.tokens[[4_999, 17, 17]])
    np.testing.assert_array_equal(some.label, every.label[[4_999, 17, 17]])
    with pytest.raises(IndexError, match="rows run from 0 to 4,999"):
        twin.take(np.array([5_000]))


def test_reads_keep_the_contract_and_classes_are_even():
    twin = ReadTwin(rows=20_000, regions=50)
    reads = twin.take(np.arange(20_000))
    check_reads(reads.tokens, reads.states, "twin", np.arange(20_000))
    assert (reads.tokens != PAD).sum(axis=1).tolist() == [148] * 20_000 == [twin.length] * 20_000
    assert np.bincount(reads.label).min() > 0.8 * 20_000 / 39
    assert ((reads.states != NO_CPG).sum(axis=1) == 16).all()


def test_a_methylated_cpg_reads_cg_and_an_unmethylated_one_tg():
    reads = ReadTwin(rows=500, regions=5).take(np.arange(500))
    middle_of = reads.tokens // 4 % 4
    assert set(middle_of[reads.states == 1]) == {1}  # C
    assert set(middle_of[reads.states == 0]) == {3}  # T
    assert set(reads.tokens[reads.states != NO_CPG] % 4) == {2}  # G follows


def test_the_planted_best_is_what_the_bayes_predictor_reaches():
    twin = ReadTwin(rows=50_000, regions=100)
    rows = np.arange(50_000)
    best = twin.measure_best(rows)
    reached = (twin.predict_best(rows) == twin.take(rows).label).mean()
    assert abs(reached - best) < 4 * np.sqrt(best * (1 - best) / len(rows))
    assert 0.8 < best < 0.95


def test_with_two_classes_and_one_cpg_the_best_is_known_in_closed_form():
    twin = ReadTwin(rows=4_000, regions=4_000, bases=14, classes=2)
    # signatures differ in half of the regions, where one CpG tells the tissue rightly with probability 1 - error
    assert twin.measure_best(np.arange(4_000)) == pytest.approx(0.5 * (1 - ERROR) + 0.5 * 0.5, abs=0.03)


def test_signatures_can_be_learnt_from_the_tokens_alone():
    twin = ReadTwin(rows=12_000, regions=2, classes=4)
    reads = twin.take(np.arange(12_000))
    train, test = slice(0, 10_000), slice(10_000, None)
    means = np.stack([(reads.tokens[train][reads.label[train] == c][:, :, None] == np.arange(64)).mean(axis=0) for c in range(4)])
    scores = np.log(means[:, np.arange(150), np.minimum(reads.tokens[test], 63)][:, :, :148] + 1e-3).sum(axis=2)
    assert (scores.argmax(axis=0) == reads.label[test]).mean() > 0.5


def test_39_million_reads_take_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    twin = ReadTwin()
    assert len(twin) == DOCUMENTED_READS == 39_083_085
    for start in range(0, DOCUMENTED_READS, DOCUMENTED_READS // 20):
        assert len(twin.take(np.arange(start, min(start + 256, DOCUMENTED_READS)))) > 0
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 300e6  # sequences and signatures of 51,089 regions; the reads would be 11.7 GB
    assert DOCUMENTED_READS * BASES * 2 > 11e9


def test_sizes_beyond_the_documented_ones_are_refused():
    with pytest.raises(ValueError, match="a twin has 1 to 39,083,085 rows"):
        ReadTwin(rows=DOCUMENTED_READS + 1)


def test_random_tokens_have_random_labels():
    reads = RandomTokens(3_900).take(np.arange(3_900))
    assert reads.tokens.max() == 63
    assert abs(np.corrcoef(reads.tokens[:, 0], reads.label)[0, 1]) < 0.1
