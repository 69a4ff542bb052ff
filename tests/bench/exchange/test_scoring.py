"""Predictions made elsewhere, scored with the suite's own metrics."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import assay.bench.registry
from assay.bench.case import Quantity, UsageError
from assay.bench.exchange.scoring import score_predictions
from assay.models.affinity.scoring import score_affinity
from assay.models.metrics import Metric, score_with_intervals


def compute_mae(truth: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.abs(truth - prediction).mean())


def score(truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray | None = None) -> Mapping[str, Quantity]:
    return score_with_intervals([Metric("mae", "pKd", compute_mae)], truth, prediction, groups)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assay.bench.registry, "load_workloads", lambda: {"fake": SimpleNamespace(name="fake", score=score)})


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text("pKd,prediction,complex\n1,2,a\n2,2,b\n3,5,c\n4,4,d\n5,5,e\n6,6,f\n")
    return path


@pytest.mark.usefixtures("fake")
class TestScores:
    def test_usual_names_are_found_and_the_numbers_are_the_workloads_own(self, csv: Path) -> None:
        truth, prediction = np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 2, 5, 4, 5, 6])
        assert score_predictions("fake", csv) == score(truth, prediction)
        assert score_predictions("fake", csv)["mae"].value == 0.5

    def test_groups_are_resampled_where_they_are_given(self, csv: Path) -> None:
        scores = score_predictions("fake", csv, "pKd", "prediction", "complex")
        assert scores == score(np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 2, 5, 4, 5, 6]), np.array(list("abcdef")))
        assert scores["mae"].how == "percentile bootstrap, 200 resamples of 6 groups"

    @pytest.mark.parametrize("header", ["label,score", "y_true,y_pred", "Target,Predicted", " truth , prob "])
    def test_common_names(self, csv: Path, header: str) -> None:
        csv.write_text(f"{header}\n0,0.25\n1,0.75\n")
        assert score_predictions("fake", csv)["mae"].value == 0.25

    def test_true_and_false_are_labels(self, csv: Path) -> None:
        csv.write_text("label,score\nTrue,1\nFalse,1\n")
        assert score_predictions("fake", csv)["mae"].value == 0.5


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,2\n", {}, r"no column has one of the usual names \(true, .*\); the columns are a, b; choose one with --true-column"),
        ("y,a\n1,2\n", {}, r"no column has one of the usual names \(pred, .*\); the columns are y, a; choose one with --pred-column"),
        ("label,target,score\n1,2,3\n", {}, "columns label and target could all be meant; .* choose one with --true-column"),
        ("y,score\n1,2\n", {"true_column": "pKd"}, "no column 'pKd'; the columns are y, score; choose one with --true-column"),
        ("y,score\n1,2\n", {"group_column": "complex"}, "no column 'complex'; .* choose one with --group-column"),
        ("y,score\n1,2\n", {"true_column": "score"}, "column 'score' cannot be both truth and prediction"),
        ("y,score\n1,2\n3,\n5,6\n", {}, r"mine\.csv, row 3: score holds nothing, not a finite number \(1 such rows\)"),
        ("y,score\n1,2\n\n5,6\n", {}, r"mine\.csv, row 3: y holds nothing"),
        ("y,score\n1,2\n3,4\ninf,1\n", {}, r"mine\.csv, row 4: y holds 'inf', not a finite number"),
        ("y,score\n1,high\n", {}, r"mine\.csv, row 2: score holds 'high'"),
        ("y,score,g\n1,2,a\n1,2,\n", {"group_column": "g"}, r"mine\.csv, row 3: g is empty"),
        ("y,score\n", {}, "there is no row below the header"),
        ("", {}, "not a CSV: No columns to parse from file; give a comma-separated table with a header"),
        ("y,score\n1,2\n1,2,3,4\n", {}, "not a CSV: .*line 3"),
    ],
)
def test_bad_input_is_named_with_row_and_remedy(csv: Path, content: str, options: dict[str, str], message: str) -> None:
    csv.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        score_predictions("fake", csv, **options)
    assert str(csv) in str(caught.value)


@pytest.mark.usefixtures("fake")
def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.csv: cannot be read: No such file or directory"):
        score_predictions("fake", tmp_path / "gone.csv")
    binary = tmp_path / "weights.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81" * 100)
    with pytest.raises(UsageError, match=r"weights\.csv: not a CSV"):
        score_predictions("fake", binary)


@pytest.mark.usefixtures("fake")
def test_unknown_workload_lists_the_known_ones(csv: Path) -> None:
    with pytest.raises(UsageError, match="unknown workload 'affinity'; known: fake"):
        score_predictions("affinity", csv)


def test_a_real_workload_scores_a_perfect_prediction_perfectly(tmp_path: Path) -> None:
    path = tmp_path / "perfect.csv"
    pkd = np.random.default_rng(0).uniform(4, 12, 60)
    path.write_text("pKd,prediction\n" + "".join(f"{value!r},{value!r}\n" for value in pkd.tolist()))
    scores = score_predictions("affinity-v1", path)
    assert scores["rmse"].value == 0
    assert scores["spearman"].value == pytest.approx(1, abs=1e-12)
    assert scores == score_affinity(pkd, pkd)
