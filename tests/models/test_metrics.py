import tracemalloc

import numpy as np
import pytest

from assay.models.metrics import RESAMPLES, Metric, Undefined, compute_mae, compute_rmse, keep_draws, percentile_interval, score_with_intervals


def mean_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.mean(prediction - truth))


def never(truth: np.ndarray, prediction: np.ndarray) -> float:
    raise Undefined("constant truth")


BIAS = Metric("bias", "dB", mean_error)


def test_value_is_exact_and_the_interval_holds_it() -> None:
    truth = np.zeros(400)
    prediction = np.arange(400) % 2.0
    score = score_with_intervals([BIAS], truth, prediction)["bias"]
    assert score.value == 0.5
    assert score.n == 400
    assert score.low is not None
    assert score.high is not None
    # the standard error of the mean is .5 / sqrt(400) = .025
    assert 0.5 - 4 * 0.025 < score.low < 0.5 < score.high < 0.5 + 4 * 0.025
    assert score.how == f"percentile bootstrap, {RESAMPLES} resamples of 400 rows"


def test_rows_of_a_group_move_together() -> None:
    groups = np.repeat(np.arange(10), 40)
    prediction = np.repeat(np.arange(10) % 2.0, 40)
    by_row = score_with_intervals([BIAS], np.zeros(400), prediction)["bias"]
    by_group = score_with_intervals([BIAS], np.zeros(400), prediction, groups)["bias"]
    assert by_row.low is not None
    assert by_row.high is not None
    assert by_group.low is not None
    assert by_group.high is not None
    assert by_group.high - by_group.low > 3 * (by_row.high - by_row.low)


def test_few_groups_give_no_interval_and_say_so() -> None:
    score = score_with_intervals([BIAS], np.zeros(8), np.ones(8), np.repeat([0, 1], 4))["bias"]
    assert (score.value, score.low, score.how) == (1.0, None, "no interval: 2 groups")


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_rows_that_are_all_alike_give_no_interval_of_no_width(right: float) -> None:
    with keep_draws() as draws:
        score = score_with_intervals([BIAS], np.zeros(8), np.full(8, right))["bias"]
    assert (score.value, score.n, score.low, score.high, score.how) == (right, 8, None, None, "no interval: resamples of 8 rows agree")
    assert draws == [[right] * RESAMPLES]  # two models are compared draw by draw all the same


def test_undefined_metric_is_missing_with_its_reason() -> None:
    score = score_with_intervals([Metric("r", "", never)], np.zeros(9), np.ones(9))["r"]
    assert (score.value, score.reason) == (None, "constant truth")


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [([], [], "no rows"), ([1.0], [1.0, 2.0], "1 true values but 2 predictions"), ([1.0, np.nan], [1.0, 1.0], "true value of row 1"), ([1.0], [np.inf], "prediction of row 0")],
)
def test_bad_predictions_are_named(truth: list[float], prediction: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_with_intervals([BIAS], np.array(truth), np.array(prediction))


def test_two_calls_agree_to_the_bit() -> None:
    random = np.random.default_rng(0)
    truth, prediction = random.normal(size=50), random.normal(size=50)
    assert score_with_intervals([BIAS], truth, prediction) == score_with_intervals([BIAS], truth, prediction)


def test_kept_draws_of_two_models_belong_together_row_by_row() -> None:
    generator = np.random.default_rng(0)
    truth, groups = generator.normal(size=60), np.repeat(np.arange(12), 5)
    near, far = truth + 0.1 * generator.normal(size=60), truth + generator.normal(size=60)
    kept = []
    for prediction in (near, far):
        with keep_draws() as draws:
            scores = score_with_intervals([Metric("rmse", "", compute_rmse)], truth, prediction, groups)
        (one,) = draws
        assert percentile_interval(one) == (scores["rmse"].low, scores["rmse"].high)
        kept.append(one)
    assert all(a < b for a, b in zip(*kept, strict=True))  # the same groups in each draw: the better model wins in every one
    score_with_intervals([Metric("rmse", "", compute_rmse)], truth, near, groups)
    assert len(draws) == 1  # only what is scored in the block is kept


def test_intervals_are_those_of_the_first_records_to_the_bit() -> None:
    generator = np.random.default_rng(7)
    truth, prediction = generator.normal(size=60), generator.normal(size=60)
    metrics = [Metric("rmse", "", compute_rmse), Metric("mae", "", compute_mae)]
    by_row, by_group = (score_with_intervals(metrics, truth, prediction, groups) for groups in (None, np.repeat(np.arange(12), 5)))
    assert [(score.low, score.high) for score in (*by_row.values(), *by_group.values())] == [
        (0.9757332602711664, 1.3472073416037043),
        (0.7873085571197143, 1.1211065020592303),
        (1.0036971993607071, 1.3394817272898376),
        (0.7739633520241175, 1.1203840518819486),
    ]


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(100), 1_000)], ids=["rows", "groups"])
def test_one_resample_is_in_memory_at_a_time(groups: np.ndarray | None) -> None:
    truth, prediction = np.zeros(100_000), np.arange(100_000) % 2.0
    tracemalloc.start()
    score_with_intervals([BIAS, Metric("mae", "", compute_mae)], truth, prediction, groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * truth.nbytes  # 200 resamples at a time would take twenty times as much
