import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from assay.bench.gate.statistics import (
    CONFIRM,
    FLOOR,
    SCREEN,
    NotARatio,
    TooFewPairs,
    choose_alphas,
    estimate,
    estimate_cases,
    needed_pairs,
    value_pair,
)


def test_a_pair_is_the_median_log_ratio_of_its_rounds():
    assert value_pair([1.0, 2.0, 4.0], [2.0, 2.0, 16.0]) == pytest.approx(math.log(2))
    assert value_pair([0.2] * 5, [0.2] * 5) == 0


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([1.0], [1.0, 2.0], "1 and 2 rounds"),
        ([], [], "no rounds"),
        ([1.0, math.nan], [1.0, 1.0], "the reference is not a number"),
        ([1.0], [math.inf], "the candidate is not a number"),
        ([1.0], [-0.1], "clock went backwards"),
        ([0.0], [1.0], "clock went backwards"),
        ([0.21, 0.2], [209.0, 201.0], "factor of about 1,000: their clocks count in different units"),
        ([0.21e9, 0.2e9], [0.209, 0.201], "factor of about 1,000,000,000"),
    ],
)
def test_what_no_clock_can_show_is_refused_by_name(a, b, words):
    with pytest.raises(NotARatio, match=words):
        value_pair(a, b)


def test_hand_computed_estimate_and_bounds():
    # Walsh averages of 1..5: the median is 3; P(T <= 0) = 1/32 <= 5 % < 2/32, so each bound is the outermost average
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0], 0.05)
    assert (found.value, found.low, found.high, found.pairs) == (3.0, 1.0, 5.0, 5)
    assert found.p_slower == 1 / 32
    assert found.p_faster == 1.0
    # at 1/16 the two smallest T may be below the bound: the second smallest average, (1 + 2) / 2
    assert estimate([1.0, 2.0, 3.0, 4.0, 5.0], 2 / 32).low == 1.5


@given(st.lists(st.floats(-1, 1).filter(lambda d: abs(d) > 1e-9), min_size=7, max_size=14, unique_by=abs))
def test_p_values_are_those_of_scipy(d):
    found = estimate(d, 0.01)
    assert found.p_slower == pytest.approx(wilcoxon(d, alternative="greater", method="exact").pvalue)
    assert found.p_faster == pytest.approx(wilcoxon(d, alternative="less", method="exact").pvalue)


@given(st.lists(st.sampled_from([-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05]), min_size=7, max_size=25), st.sampled_from([0.05, 0.01]))
def test_bound_and_p_value_agree_and_swapped_sides_mirror(d, alpha):
    found, swapped = estimate(d, alpha), estimate([-x for x in d], alpha)
    assert (found.low > 0) == (found.p_slower <= alpha)
    assert (found.high < 0) == (found.p_faster <= alpha)
    assert found.low <= found.value <= found.high
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert swapped.p_slower == found.p_faster


@pytest.mark.parametrize("magnitudes", [[1, 2, 3, 4, 5, 6, 7], [1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 2, 3, 3], [1] * 8])
def test_the_error_rate_holds_for_every_pattern_of_ties(magnitudes):
    # all 2^n signs are equally likely when nothing has changed: count those called slower
    signs = np.array(list(itertools.product((-1, 1), repeat=len(magnitudes))))
    for alpha in (0.05, 0.01):
        called = sum(found.low > 0 for found in estimate_cases(list(signs * np.array(magnitudes)), [alpha] * len(signs)))
        assert called / len(signs) <= alpha


def test_too_few_pairs_are_refused_by_name():
    assert (needed_pairs(0.05), needed_pairs(0.01), needed_pairs(0.5)) == (5, 7, 1)
    with pytest.raises(TooFewPairs, match="5 launch pairs are too few: at alpha 1 % nothing can be significant with fewer than 7"):
        estimate([0.1] * 5, 0.01)
    with pytest.raises(NotARatio, match="not a number"):
        estimate([0.1] * 9 + [math.nan], 0.01)
    with pytest.raises(ValueError, match="2 cases and 1 alphas"):
        estimate_cases([[0.1] * 9] * 2, [0.05])


def test_equal_sides_show_no_change_at_all():
    found = estimate([0.0] * 10, SCREEN.alpha)
    assert (found.value, found.low, found.high, found.p_slower, found.smallest_detectable) == (0, 0, 0, 1, FLOOR)


def test_holm_by_hand():
    alphas = choose_alphas([0.04, 0.001, 0.002, 0.9], 0.01)
    # 0.001 <= .01/4, 0.002 <= .01/3, 0.04 > .01/2: from there on all share .01/2
    assert alphas.tolist() == pytest.approx([0.005, 0.0025, 0.01 / 3, 0.005])
    assert choose_alphas([0.5], 0.01).tolist() == [0.01]
    assert choose_alphas([], 0.01).tolist() == []


def test_smallest_detectable_slowdown_is_seen_four_times_of_five():
    random = np.random.default_rng(1)
    noise = random.normal(0, 0.05, (400, CONFIRM.pairs))
    typical = float(np.median([found.smallest_detectable for found in estimate_cases(list(noise), [CONFIRM.alpha] * 400)]))
    shifted = estimate_cases(list(random.normal(typical, 0.05, (2000, CONFIRM.pairs))), [CONFIRM.alpha] * 2000)
    power = sum(found.low > 0 and found.value > FLOOR for found in shifted) / 2000
    assert 0.74 < power < 0.86


def test_ten_thousand_cases_take_under_five_seconds():
    d = np.random.default_rng(2).normal(0, 0.02, (10_000, CONFIRM.pairs))
    began = time.process_time()
    found = estimate_cases(list(d), [CONFIRM.alpha] * len(d))
    assert time.process_time() - began < 5
    assert sum(e.low > 0 for e in found) / len(d) <= 0.013  # exact level .0095: four standard errors
