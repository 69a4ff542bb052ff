import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from assay.bench.case import UsageError
from assay.models.dnabert.quality import correlate_classes, mean_area, score_classes, score_given
from assay.models.metrics import Undefined


def make_predictions(classes, n=300):
    random = np.random.default_rng(classes)
    label = random.integers(0, classes, n)
    logits = random.standard_normal((n, classes)) + np.eye(classes)[label]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return label, probability


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_metrics_equal_scikit_learn(classes):
    label, probability = make_predictions(classes)
    assert correlate_classes(label, probability.argmax(axis=1)) == pytest.approx(matthews_corrcoef(label, probability.argmax(axis=1)), abs=1e-12)
    theirs = roc_auc_score(label, probability[:, 1] if classes == 2 else probability, multi_class="ovr", average="macro")
    assert mean_area(label, probability) == pytest.approx(theirs, abs=1e-12)


def test_known_correlations():
    assert correlate_classes(np.array([0, 1, 2]), np.array([0, 1, 2])) == 1
    assert correlate_classes(np.array([0, 1]), np.array([1, 0])) == -1
    with pytest.raises(Undefined, match="at least two true and two predicted classes"):
        correlate_classes(np.array([0, 1]), np.array([1, 1]))


def test_random_weights_are_marked_on_every_metric():
    label, probability = make_predictions(3)
    assert all(score.how.startswith("random weights; ") for score in score_classes(label, probability, random_weights=True).values())
    assert not any("random weights" in score.how for score in score_classes(label, probability).values())


def test_predictions_made_elsewhere():
    scores = score_given(np.array([0, 0, 1, 1, 1, 0]), np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.3]))
    assert [scores[name].value for name in ("mcc", "auroc", "accuracy")] == [1, 1, 1]
    with pytest.raises(UsageError, match="labels 0 and 1 against probabilities"):
        score_given(np.array([0, 2]), np.array([0.1, 0.2]))
