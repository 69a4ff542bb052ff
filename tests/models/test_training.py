"""The training loop on a line whose best fit is known."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.bench.case import Precision, Quantity, Unsupported
from assay.datasets.card import DatasetCard, identify_twin
from assay.models.schedule import Schedule
from assay.models.training import Batch, Recipe, Splits, TrainingSession

CPU = torch.device("cpu")
CARD = DatasetCard(identify_twin("line", rows=64), "drawn here", "CC0-1.0", {"train": 64, "test": 10})


class Line:
    def build(self) -> nn.Module:
        return nn.Linear(1, 1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        prediction: Tensor = model(batch[0])
        return prediction

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return {"worst": Quantity(float(np.abs(prediction.ravel() - np.linspace(1, 3, 10)).max()), "")}


def open_session(precision: Precision = Precision.FP32, target: Tensor | None = None, device: torch.device = CPU, **recipe: Any) -> TrainingSession:
    x = torch.linspace(0, 1, 64).unsqueeze(1)
    y = 1 + 2 * x if target is None else target
    test = torch.linspace(0, 1, 10).unsqueeze(1)
    splits = Splits((x, y), (x[::4], y[::4]), (test, 1 + 2 * test))
    adam = replace(Recipe(optimiser="adam", learning_rate=0.05, weight_decay=0.0, batch=16, epochs=60), **recipe)
    return TrainingSession(
        Line(), splits, adam, card=CARD, conditions={}, unit="points", device=device, precision=precision, seed=7
    )


def fit(session: TrainingSession) -> tuple[list[float], dict[str, Tensor]]:
    history = session.fit(lambda done, total, note: None)
    return list(history.train_loss), {k: v.clone() for k, v in session.model.state_dict().items()}


def test_fit_learns_the_line_and_reports_every_epoch() -> None:
    session = open_session()
    calls: list[tuple[int, int]] = []
    history = session.fit(lambda done, total, note: calls.append((done, total)))
    assert (session.evaluate()["worst"].value or 1) < 0.05
    assert len(history.train_loss) == len(history.validation_loss) == len(history.seconds) == 60
    assert calls[0] == (1, 240)
    assert calls[-1] == (240, 240)


def test_fit_is_bit_identical_whatever_steps_came_before() -> None:
    first, second = open_session(), open_session()
    for _ in range(7):
        second.step()
    losses, weights = fit(first)
    other_losses, other_weights = fit(second)
    assert losses == other_losses
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_first_loss_is_the_untrained_one() -> None:
    session = open_session(batch=64, epochs=1)
    torch.manual_seed(7)
    model = nn.Linear(1, 1)
    x = torch.linspace(0, 1, 64).unsqueeze(1)
    expected = nn.functional.mse_loss(model(x), 1 + 2 * x).item()
    assert session.fit(lambda *_: None).first_loss == pytest.approx(expected, rel=1e-6)


def test_steps_and_inference_count_their_samples() -> None:
    session = open_session(batch=40)
    assert sorted(session.step() for _ in range(4)) == [24, 24, 40, 40]
    session = open_session(batch=4)
    assert [session.infer() for _ in range(4)] == [4, 4, 2, 4]


def test_accumulated_batches_equal_one_large_batch() -> None:
    small, large = open_session(batch=16, accumulate=4, epochs=1), open_session(batch=64, epochs=1)
    _, one = fit(small)
    _, other = fit(large)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-6)


def test_early_stopping_keeps_the_best_weights_by_value() -> None:
    session = open_session(learning_rate=0.5, epochs=400, patience=3, keep_best=True)
    history = session.fit(lambda *_: None)
    assert history.stopped_early
    assert len(history.train_loss) == history.best_epoch + 4
    x = torch.linspace(0, 1, 64)[::4].unsqueeze(1)
    kept = nn.functional.mse_loss(session.model(x), 1 + 2 * x).item()
    assert kept == pytest.approx(min(history.validation_loss), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(kind="constant"), [1.0, 1.0, 1.0, 1.0]),
        (Schedule(kind="cosine"), [1.0, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * math.cos(math.pi / 4)]),
        (Schedule(kind="cosine-restarts", first_cycle=1, cycle_growth=2), [1.0, 1.0, 0.5, 1.0]),
    ],
)
def test_schedules_advance_by_epoch(schedule: Schedule, expected: list[float]) -> None:
    session = open_session(learning_rate=1.0, epochs=4, schedule=schedule)
    rates: list[float] = []
    session.fit(lambda done, total, note: rates.append(session._optimiser.param_groups[0]["lr"]))
    assert rates[::4] == pytest.approx(expected)


def test_one_cycle_advances_by_step_and_ends_low() -> None:
    session = open_session(learning_rate=0.01, epochs=3, schedule=Schedule(kind="one-cycle", peak=0.1))
    rates: list[float] = []
    session.fit(lambda *_: rates.append(session._optimiser.param_groups[0]["lr"]))
    assert max(rates) == pytest.approx(0.1, rel=0.05)
    assert rates[-2] < 1e-5  # what the last step used; the rate set after it is never used


def test_linear_rises_and_falls_by_update() -> None:
    session = open_session(learning_rate=1.0, epochs=2, schedule=Schedule(kind="linear", rising=2))
    rates: list[float] = []
    session.fit(lambda *_: rates.append(session._optimiser.param_groups[0]["lr"]))
    # what is seen after an update is the next one's rate; behind the last one it stays, for steps that are timed there
    assert rates == pytest.approx([0.5, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 1 / 6])


def test_divergence_is_named() -> None:
    with pytest.raises(FloatingPointError, match="the training loss became nan at batch 1"):
        open_session(target=torch.full((64, 1), math.nan)).fit(lambda *_: None)


def test_impossible_precision_is_refused() -> None:
    with pytest.raises(Unsupported, match="needs a CUDA device"):
        open_session(precision=Precision.FP16)


def test_bfloat16_autocast_keeps_float32_weights() -> None:
    session = open_session(precision=Precision.BF16, fused=True, epochs=5)
    session.fit(lambda *_: None)
    assert {tensor.dtype for tensor in session.model.state_dict().values()} == {torch.float32}


def test_what_happens_after_an_epoch_does_not_count_as_training() -> None:
    session = open_session(epochs=3)
    until = [0.0]

    def dawdle() -> None:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.2:
            session.evaluate()
        until[0] += time.perf_counter() - began

    began = time.perf_counter()
    history = session.fit(lambda *_: None, dawdle)
    assert until[0] >= 0.6
    assert history.seconds[-1] <= time.perf_counter() - began - until[0]
    assert list(history.train_loss) == fit(open_session(epochs=3))[0]  # and changes nothing


class SlowLine(nn.Linear):
    """A slope that learns at a tenth of the rate, and an intercept that does not learn."""

    def group_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": [self.weight], "lr": learning_rate / 10}]


def test_a_network_may_give_its_parts_rates_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Line, "build", lambda self: SlowLine(1, 1))
    session = open_session()
    before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    session.step()
    after = session.model.state_dict()
    assert (after["weight"] - before["weight"]).abs().item() == pytest.approx(0.005, rel=1e-3)  # Adam's first step is the rate
    assert torch.equal(after["bias"], before["bias"])


class Watched(Line):
    """Notes in which mode each loss is taken."""

    def __init__(self) -> None:
        self.modes: list[bool] = []

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.modes.append(model.training)
        return super().loss(model, batch)


def test_a_step_trains_whatever_was_called_before_it() -> None:
    session = open_session()
    session._task = task = Watched()
    session.step()
    session.infer()
    session.step()  # of the same epoch: dropout and batch normalisation must work again
    session.evaluate()
    session.step()
    assert task.modes == [True, True, True]
