"""The twin: documented sizes and shares, a planted signal whose ceiling is known, and determinism."""

import re

import numpy as np
import pytest

from assay.datasets.genome import decode_bases
from assay.datasets.splice_twin import DECOY_SHARE, SILENT_SHARE, identify_splice_twin, make_splice_twin
from assay.datasets.splice_variants import TargetRecipe
from assay.datasets.splits import split_by_values

DONOR, ACCEPTOR = "CAGGTAAGT", "TTTTTTTTTTTTCAGG"


def test_the_full_twin_has_the_documented_rows_classes_and_balanced_sizes():
    twin = make_splice_twin(50_715, 41)
    assert len(twin) == 13_673 + 11_358
    assert int(twin.label.sum()) == 13_673
    assert dict(twin.dropped) == {"Low-frequency": 25_601, "Conflicting": 83}
    split = split_by_values(twin.chromosome, ("chr21", "chr22"))
    # 725 test rows; 2 x 11,066 = 22,132 training rows once balanced
    assert len(split.test) == 725
    assert 2 * int((twin.label[split.train] == 0).sum()) == 22_132


def test_splice_altering_variants_break_or_complete_a_motif_along_the_gene():
    twin = make_splice_twin(4_000, 101, recipe=TargetRecipe.CORRECTED)
    altering = twin.label == 1
    donor_loss, donor_gain = altering & (twin.target[:, 0] < -0.6), altering & (twin.target[:, 0] > 0.65)
    acceptor_loss = altering & (twin.target[:, 1] < -0.65)
    for rows, side, motif in ((donor_loss, twin.reference, DONOR), (donor_gain, twin.alternative, DONOR), (acceptor_loss, twin.reference, ACCEPTOR)):
        assert rows.sum() > 20
        other = twin.alternative if side is twin.reference else twin.reference
        assert all(motif in decode_bases(row)[30:70] for row in side[rows])
        assert not any(motif in decode_bases(row)[30:70] for row in other[rows])
    assert ((twin.reference != twin.alternative).sum(axis=1) == 1).all()
    assert (twin.position == 50).all()


def test_documented_targets_stay_below_the_double_softmax_ceiling_and_miss_the_minus_strand():
    documented, corrected = (make_splice_twin(4_000, 41, recipe=recipe) for recipe in TargetRecipe)
    assert np.abs(documented.target).max() < (np.e - 1) / (np.e + 2) < 0.9 < np.abs(corrected.target).max()
    against = (documented.strand < 0) & (documented.label == 1)
    assert 0.4 < against.sum() / (documented.label == 1).sum() < 0.6
    assert np.abs(documented.target[against]).max() < 0.01
    assert (documented.target[documented.label == 0] == 0).all()


def test_the_noted_ceiling_is_what_the_best_function_of_the_plan_reaches():
    twin = make_splice_twin(50_715, 41, recipe=TargetRecipe.CORRECTED)
    auroc, pearson = map(float, re.findall(r"\d\.\d+", twin.notes[-1]))
    # a binary feature with hit rate 1 - SILENT_SHARE and false hits DECOY_SHARE
    assert auroc == pytest.approx(0.5 + (1 - SILENT_SHARE - DECOY_SHARE) / 2, abs=0.005)
    # spread of grades and silent rows against the uniform noise of +-0.15 that no sequence shows
    levels, weights = np.array([0.8, 0.45, 0.055]), np.array([0.4, 0.4, 0.2])
    between = (weights * levels**2).sum() - (weights * levels).sum() ** 2
    within = 0.8 * 0.3**2 / 12 + 0.2 * 0.09**2 / 12
    assert pearson == pytest.approx(np.sqrt(between / (between + within)), abs=0.005)


def test_equal_parameters_give_equal_twins_and_other_seeds_other_ones():
    first, again, other = make_splice_twin(500, 61, 1), make_splice_twin(500, 61, 1), make_splice_twin(500, 61, 2)
    assert np.array_equal(first.alternative, again.alternative)
    assert np.array_equal(first.target, again.target)
    assert not np.array_equal(first.alternative, other.alternative)
    assert first.identity == again.identity == identify_splice_twin(500, 61, 1, TargetRecipe.DOCUMENTED)
    assert first.identity.synthetic
    assert first.identity.sha256 != other.identity.sha256


@pytest.mark.parametrize(("rows", "length"), [(0, 101), (50_716, 101), (100, 39), (100, 100)])
def test_impossible_sizes_are_refused(rows, length):
    with pytest.raises(ValueError, match="splice twin has 1 to 50715 rows"):
        make_splice_twin(rows, length)
