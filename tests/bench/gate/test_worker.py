"""A real worker, spoken to in this process: what it answers, and that a failure is an answer too."""

import io
import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from assay.bench.case import Case, Outcome, Quantity
from assay.bench.gate.protocol import (
    PROTOCOL,
    Alive,
    Bye,
    Failed,
    Hello,
    ListCases,
    Memory,
    Open,
    Opened,
    Peaks,
    Round,
    Score,
    Scored,
    Timed,
    Trained,
    Warm,
    Warmed,
    Welcome,
    encode,
    read_answer,
)
from assay.bench.gate.samples import declare_batch
from assay.bench.gate.worker import Worker
from assay.models.metrics import RESAMPLES, Metric, score_with_intervals
from assay.models.training import TrainingSession

CASE = "affinity-v2/documented/train/smoke/closed/fp32"


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)


def talk(*requests):
    """Every answer that is no sign of life."""
    answers = io.BytesIO()
    Worker(answers).serve(io.BytesIO(b"".join(encode(request) for request in requests)))
    return [answer for line in answers.getvalue().splitlines() if (answer := read_answer(line)).kind != "alive"]


def open_case(case=CASE):
    return Open(case=case, profile="cpu", seed=42)


def test_a_case_from_opening_to_quality() -> None:
    welcome, opened, warmed, timed, peaks, trained, scored = talk(
        Hello(), open_case(), Warm(round_seconds=0.01, max_seconds=1), Round(steps=2), Memory(), Score(), Bye()
    )
    assert isinstance(welcome, Welcome)
    assert welcome.protocol == PROTOCOL
    assert isinstance(opened, Opened)
    assert (opened.case, opened.comparability.case, opened.comparability.seed, opened.timed) == (CASE, CASE, 42, True)
    assert isinstance(warmed, Warmed)
    assert isinstance(timed, Timed)
    assert timed.samples == 2 * 128  # the documented batch
    assert declare_batch(opened) == 128
    assert isinstance(peaks, Peaks)
    assert peaks.changed
    assert peaks.peaks["allocated_peak"].reason == "the case ran on the CPU"
    assert peaks.peaks["rss_peak"].value is not None
    assert isinstance(trained, Trained)
    assert isinstance(scored, Scored)
    assert len(scored.watched) == len(scored.seconds) > 1
    metric = scored.quality[opened.metric]
    draws = [draw for draw in scored.draws[opened.metric] if draw is not None]
    assert (metric.low, metric.high) == pytest.approx(np.percentile(draws, [2.5, 97.5]))


def test_draws_that_agree_are_known_by_their_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(session: TrainingSession) -> Mapping[str, Quantity]:
        right = Metric("accuracy", "share", lambda truth, prediction: float(np.mean(truth == prediction)))
        return score_with_intervals([right], np.zeros(8), np.ones(8))

    monkeypatch.setattr(TrainingSession, "evaluate", evaluate)
    *_, scored = talk(open_case(), Score())
    assert isinstance(scored, Scored)
    assert (scored.quality["accuracy"].low, scored.draws) == (None, {"accuracy": [0.0] * RESAMPLES})


def test_two_images_are_compared_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for digit in "ab":
        monkeypatch.setenv("BENCH_IMAGE_DIGEST", "sha256:" + 64 * digit)
        (opened,) = talk(open_case())
        assert isinstance(opened, Opened)
        keys.append(opened.comparability.key)
    assert keys[0] == keys[1]


def test_rounds_that_train_nothing_change_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingSession, "step", lambda session: 128)
    *_, peaks = talk(open_case(), Warm(round_seconds=0.01, max_seconds=1), Round(steps=2), Memory())
    assert isinstance(peaks, Peaks)
    assert not peaks.changed


def test_what_fails_is_told_with_its_outcome() -> None:
    foreign, unsupported, nothing = talk(
        open_case("affinity-v9/documented/train/smoke/closed/fp32"), open_case(CASE.replace("fp32", "fp16")), ListCases(select="no-such-case")
    )
    assert isinstance(foreign, Failed)
    assert foreign.outcome is Outcome.SKIPPED
    assert "unknown workload 'affinity-v9'" in foreign.reason
    assert isinstance(unsupported, Failed)
    assert unsupported.outcome is Outcome.UNSUPPORTED
    assert isinstance(nothing, Failed)
    assert "no case matches" in nothing.reason


def test_an_accident_in_a_step_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    (failed,) = talk(Round(steps=1))  # nothing is open
    assert isinstance(failed, Failed)
    assert failed.outcome is Outcome.CRASH


def test_a_long_scoring_shows_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake scoring ends when the worker has spoken, and not before."""
    spoke = threading.Event()

    class Watched(io.BytesIO):
        def write(self, data):
            if b"scoring" in data:
                spoke.set()
            return super().write(data)

    class Session:
        def evaluate(self):
            assert spoke.wait(30)
            return {}

    answers = Watched()
    worker = Worker(answers)
    state: dict[str, Any] = {"_case": Case.parse(CASE.replace("train", "eval")), "_session": Session(), "_resources": SimpleNamespace(seed=42)}
    vars(worker).update(state)
    monkeypatch.setattr("assay.bench.gate.worker.BEAT_SECONDS", 0.001)
    worker.serve(io.BytesIO(encode(Score())))
    trained, *beats, scored = [read_answer(line) for line in answers.getvalue().splitlines()]
    assert trained == Trained()
    assert set(beats) == {Alive(note="scoring")}
    assert isinstance(scored, Scored)
