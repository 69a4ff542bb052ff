"""Talks to the process that watches a GPU (assay.bench.measure.sampler): a GPU's description, and windows of samples.

Nothing here raises or waits without end because of a GPU, a driver or a dead sampler: what could not be had is a reason.
Works without torch, so that it can be used and tested where torch has no CUDA.
"""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

from assay.bench.case import Quantity
from assay.bench.checkout import ROOT
from assay.bench.measure.board import Board, SampledWindow

PERIOD = 0.02  # seconds between two memory readings
START_SECONDS = 60.0  # loading NVML takes seconds per GPU where no process keeps the driver awake
ANSWER_SECONDS = 10.0


class _LineBroken(Exception):
    """The sampler is dead, silent or talks nonsense."""


class Sampler:
    """The watching process, started at once. Use as a context manager: leaving it ends the process.

    `lost` is None while it works, else the reason why there are no numbers; it stays lost. `board` is None when it was
    lost from the start.
    """

    def __init__(self, gpu: str | None = None, *, period: float = PERIOD, idle_seconds: float = 0.5, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.period = period
        self.board: Board | None = None
        self.idle_power = Quantity.missing("W", "not asked for")
        self.lost: str | None = None
        self._answer_seconds = answer_seconds
        self._buffer = b""
        command = [sys.executable, "-m", "assay.bench.measure.sampler", str(os.getpid()), gpu or "", str(period), str(idle_seconds)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        try:
            hello = self._receive(START_SECONDS + idle_seconds)
            self._greet(hello, idle_seconds)
        except _LineBroken as broken:
            self._give_up(str(broken))

    def _greet(self, hello: dict[str, Any], idle_seconds: float) -> None:
        if "lost" in hello:
            raise _LineBroken(hello["lost"])
        self.board = Board.model_validate(hello["board"])
        readings = hello["idle_power_w"]
        if readings:
            how = f"median of {len(readings)} power readings over {idle_seconds:g} s before the first window, {min(readings):g} to {max(readings):g} W"
            self.idle_power = Quantity(statistics.median(readings), "W", len(readings), how=how)
        elif hello["idle_power_reason"]:
            self.idle_power = Quantity.missing("W", hello["idle_power_reason"])

    def start(self) -> None:
        """Opens a window. Returns when the sampler watches, or has been lost."""
        self._ask("start")

    def stop(self) -> SampledWindow:
        """Closes the window and returns what was seen; call it while torch still holds its memory."""
        answer = self._ask("stop")
        return SampledWindow(lost=self.lost) if answer is None else SampledWindow.model_validate(answer)

    def _ask(self, command: str) -> dict[str, Any] | None:
        if self.lost is not None or self._process.stdin is None:
            return None
        try:
            self._process.stdin.write(command.encode() + b"\n")
            return self._receive(self._answer_seconds)
        except (_LineBroken, BrokenPipeError) as broken:
            self._give_up(str(broken) if isinstance(broken, _LineBroken) else self._describe_end())
            return None

    def _receive(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101  # for mypy: it was opened as a pipe
        until = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise _LineBroken(f"the NVML sampler did not answer within {timeout:g} s: the driver may hang (see dmesg)")
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise _LineBroken(self._describe_end())
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return dict(json.loads(text))
        except ValueError:
            raise _LineBroken(f"the NVML sampler sent {text[:80]!r} instead of JSON") from None

    def _describe_end(self) -> str:
        try:
            code = self._process.wait(self._answer_seconds)
        except subprocess.TimeoutExpired:
            return "the NVML sampler closed its line"
        return f"the NVML sampler died of {signal.Signals(-code).name}" if code < 0 else f"the NVML sampler ended with exit code {code}"

    def _give_up(self, reason: str) -> None:
        self.lost = reason
        if self.idle_power.value is None:
            self.idle_power = Quantity.missing("W", reason)
        self._process.kill()
        self._end()

    def _end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(self._answer_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()  # a process stuck in the driver dies when the driver lets it; nobody waits for that

    def close(self) -> None:
        """Ends the process."""
        self._end()
        self.lost = self.lost or "the NVML sampler was closed"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def query_board(gpu: str | None = None) -> Board | str:
    """The GPU as it is now, or the reason why NVML does not tell."""
    with Sampler(gpu, idle_seconds=0.0) as sampler:
        return sampler.board or sampler.lost or "NVML told nothing"
