"""The process that is measured: the reference side's bench/ around the models/ and datasets/ of the side whose code it runs.

It waits for requests on standard input and blocks there between them, so that an idle worker costs the other one nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psutil
import torch
from platformdirs import user_cache_path

from assay.bench.case import Case, Outcome, Phase, Unsupported, UsageError
from assay.bench.checkout import ROOT
from assay.bench.gate.protocol import (
    PROTOCOL,
    Alive,
    Answer,
    Bye,
    Cases,
    Failed,
    Hello,
    ListCases,
    Memory,
    Open,
    Opened,
    Peaks,
    Request,
    Round,
    Score,
    Scored,
    Timed,
    Trained,
    Warm,
    Warmed,
    Welcome,
    encode,
    read_request,
)
from assay.bench.measure.clock import plan_rounds, run_round
from assay.bench.measure.machine import identify_environment, identify_machine
from assay.bench.measure.memory import (
    measure_gpu_memory,
    measure_resident_peak,
    read_allocator_peaks,
    read_reserved,
    reset_allocator_peaks,
    reset_resident_peak,
)
from assay.bench.measure.precision import require_precision
from assay.bench.measure.torch21 import adapt_torch
from assay.bench.profiles import load_profile
from assay.bench.records.comparability import choose_threads, compare_key
from assay.bench.registry import get_variant, get_workload, select_cases
from assay.datasets.card import DataError
from assay.models.metrics import keep_draws, percentile_interval
from assay.models.workload import Resources, Session

adapt_torch()

ALIVE_SECONDS = 1.0
BEAT_SECONDS = 5.0  # half of the least --silence
MAX_BEAT_SECONDS = 3600.0  # a scoring that stands still is a hang in the end


class Worker:
    """Answers requests for one case at a time."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._speaking = threading.Lock()
        self._spoke = 0.0
        self._case: Case
        self._session: Session
        self._resources: Resources
        self._since_reset = False
        self._weights: list[float] = []
        # two images always differ, by the code that is to be judged: their packages are what must agree
        self._environment = identify_environment(ROOT, ()).model_copy(update={"image_digest": None})

    def serve(self, requests: BinaryIO) -> None:
        """Until Bye, or until the gate is gone."""
        for line in requests:
            request = read_request(line)
            if isinstance(request, Bye):
                return
            self._say(self._try(request))

    def _say(self, answer: Answer) -> None:
        line = encode(answer)
        with self._speaking:
            self._answers.write(line)
            self._answers.flush()

    def _report(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if now - self._spoke >= ALIVE_SECONDS:
            self._spoke = now
            self._say(Alive(note=f"{note} {done}/{total}" if total else note))

    @contextmanager
    def _beat(self, note: str) -> Iterator[None]:
        """Signs of life from a thread, for work that reports no progress of its own. Never around a round: it would be in its time."""
        over = threading.Event()

        def beat() -> None:
            until = time.monotonic() + MAX_BEAT_SECONDS
            while not over.wait(BEAT_SECONDS) and time.monotonic() < until:
                self._report(0, 0, note)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _try(self, request: Request) -> Answer:
        try:
            return self._answer(request)
        except (DataError, UsageError) as error:
            return Failed(outcome=Outcome.SKIPPED, reason=str(error))
        except Unsupported as error:
            return Failed(outcome=Outcome.UNSUPPORTED, reason=str(error))
        except (MemoryError, torch.cuda.OutOfMemoryError) as error:  # torch.OutOfMemoryError came after 2.1
            return Failed(outcome=Outcome.OOM, reason=f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001  # whatever a case raises is an answer about the case; the gate judges it
            return Failed(outcome=Outcome.CRASH, reason=f"{type(error).__name__}: {error}")

    def _answer(self, request: Request) -> Answer:
        match request:
            case Hello():
                return Welcome(protocol=PROTOCOL, lock_sha256=self._environment.lock_sha256)
            case ListCases():
                return Cases(ids=tuple(case.id for case in select_cases(request.preset, None, request.select)))
            case Open():
                return self._open(request)
            case Warm():
                return self._warm(request)
            case Round():
                return Timed(samples=run_round(self._step, self._resources.device, request.steps))
            case Memory():
                device = self._resources.device
                peaks = measure_gpu_memory("the gate samples no board", read_allocator_peaks(device), 0)
                found = {name: peaks[name] for name in ("allocated_peak", "reserved_peak")} | measure_resident_peak(since_reset=self._since_reset)
                return Peaks(peaks=found, changed=self._sum_weights() != self._weights)
            case Score():
                return self._score()
            case Bye():
                raise AssertionError

    def _open(self, request: Open) -> Opened:
        self._case = case = Case.parse(request.case)
        profile, workload = load_profile(request.profile), get_workload(case.workload)
        require_precision(case, get_variant(workload, case.variant), profile)
        device, batch = torch.device(profile.device), profile.choose_batch(case)
        torch.set_num_threads(choose_threads(case, torch.get_num_threads()))
        if device.type == "cpu":
            torch.set_deterministic_debug_mode("error")
        data = None if request.data is None else Path(request.data)
        machine = identify_machine(device)
        key = compare_key(case, workload.identify(case, data), machine, self._environment, profile=profile, seed=request.seed, parallel=1)
        self._resources = Resources(
            device=device, data=data, batch=batch, seed=request.seed, cache=user_cache_path("assay"), progress=self._report
        )
        self._session = workload.open(case, self._resources)
        return Opened(
            case=case.id,
            comparability=key,
            recipe=workload.recipe(case),
            metric=workload.target.metric,
            higher_is_better=workload.target.higher_is_better,
            gpu_uuid_sha256=machine.gpu_uuid_sha256,
            timed=bool(self._session.unit),
        )

    def _step(self) -> int:
        return self._session.infer() if self._case.phase is Phase.EVAL else self._session.step()

    def _warm(self, request: Warm) -> Warmed:
        device = self._resources.device
        plan = plan_rounds(self._step, device, round_seconds=request.round_seconds, max_warmup_seconds=request.max_seconds)
        held, free = psutil.Process().memory_info().rss, psutil.virtual_memory().available
        if device.type == "cuda":
            held, free = read_reserved(device), torch.cuda.mem_get_info(device)[0]
        self._weights = self._sum_weights()
        reset_allocator_peaks(device)
        self._since_reset = reset_resident_peak()
        return Warmed(steps=plan.steps_per_round, settled=plan.settled, held_bytes=held, free_bytes=free)

    def _sum_weights(self) -> list[float]:
        """Of each parameter: an update changes hardly one of these sums by nothing."""
        return [float(weights.detach().sum()) for weights in self._session.model.parameters()]

    def _score(self) -> Scored:
        watched: list[float] = []
        seconds: list[float] = []
        if self._case.phase is Phase.TRAIN:
            history = self._session.fit(self._report)
            watched, seconds = list(history.validation_loss or history.train_loss), list(history.seconds)
        self._say(Trained())
        with keep_draws() as draws, self._beat("scoring"):
            quality = self._session.evaluate()
        # families rename metrics and score several tables, so draws are known by the interval that they gave, or the one value
        found = {(q.value, q.value) if q.low is None else (q.low, q.high): name for name, q in quality.items()}
        named = {name: kept for kept in draws if (name := found.get(percentile_interval(kept)))}
        return Scored(quality=quality, draws=named, watched=watched, seconds=seconds)


def main() -> None:
    """Serves on standard input and output; whatever else the process prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Worker(answers).serve(sys.stdin.buffer)
