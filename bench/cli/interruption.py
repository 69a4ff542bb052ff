"""Ctrl-C and SIGTERM: a command that is stopped unwinds, says so, and ends with 130 or 143."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from assay.bench.cli.display import errors


@contextmanager
def heed_termination(message: str = "") -> Iterator[None]:
    """SIGTERM, with which CI systems, schedulers and `timeout` end a job, unwinds as Ctrl-C does: what was started ends.

    message: printed at the end. The exit code is 130 after Ctrl-C and 143 after SIGTERM, as a shell writes these signals.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the unwinding short
        raise KeyboardInterrupt(number)

    numbers = [signal.SIGTERM] + [signal.SIGINT] * (signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except KeyboardInterrupt as stop:
        if message:
            errors.print(message, soft_wrap=True)
        raise typer.Exit(128 + (stop.args[0] if stop.args else signal.SIGINT)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
