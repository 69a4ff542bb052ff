"""The words of the suite as types: what a case is, how it can end, and what a measured number carries with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What a case does with its model."""

    TRAIN = "train"
    EVAL = "eval"
    ATTENTION = "attention"


class Preset(StrEnum):
    """How much of the work is done."""

    SMOKE = "smoke"  # seconds on a laptop CPU
    STANDARD = "standard"  # minutes, open real data
    DOCUMENTED = "documented"  # the document's own conditions and data
    SCALE = "scale"  # documented size on a synthetic twin: speed and memory only


class Division(StrEnum):
    """CLOSED is the documented recipe as written; OPEN is any change that keeps the quality bound."""

    CLOSED = "closed"
    OPEN = "open"


class Precision(StrEnum):
    """Arithmetic of the forward and backward pass. FP16 and BF16 mean autocast over float32 weights."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


class Outcome(StrEnum):
    """How a case ended. Every one but OK carries a reason."""

    OK = "ok"
    OOM = "oom"
    TIMEOUT = "timeout"
    CRASH = "crash"
    UNSUPPORTED = "unsupported"
    INVALID = "invalid"  # measured, but the machine was not fit
    INTERRUPTED = "interrupted"  # by Ctrl-C or SIGTERM
    SKIPPED = "skipped"


class ClaimVerdict(StrEnum):
    """What a documented number is worth after our own measurement."""

    REPRODUCED = "reproduced"
    EXCEEDED = "exceeded"
    MISSED = "missed"
    CONTRADICTED = "contradicted"
    NOT_COMPARABLE = "not comparable"
    NOT_RUN = "not run"


class ExitCode:
    """Exit codes of every command."""

    OK = 0
    VERDICT_FAILED = 1
    WRONG_USE = 2
    INCONCLUSIVE = 3
    MACHINE_NOT_FIT = 4
    INTERRUPTED = 130  # by Ctrl-C; 143 by SIGTERM: 128 + the signal's number, as shells write it
    INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: the gate itself failed, which is no verdict


class UsageError(Exception):
    """Wrong use or invalid input. The message says what is wrong, where, and what to do; the command exits with 2."""


class Unsupported(Exception):
    """This case cannot run on this machine or build by design, e.g. float16 autocast on a CPU. Outcome `unsupported`."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number with what is needed to trust it.

    `low` and `high` bound a 95 % interval; `n` counts the observations behind the value; `how` names the method.
    A value that could not be had is None and `reason` says why: never 0, never NaN.
    """

    value: float | None
    unit: str
    n: int = 1
    low: float | None = None
    high: float | None = None
    how: str = ""
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"a quantity has a value or a reason for its absence, not both or neither: {self.value!r}, {self.reason!r}")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} of a quantity must be finite, got {number!r}; give None and a reason instead")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval of a quantity runs from low to high, got {self.low!r} to {self.high!r}")

    @classmethod
    def missing(cls, unit: str, reason: str) -> Quantity:
        """A number that could not be had, and why."""
        return cls(None, unit, n=0, reason=reason)


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """workload x variant x phase x preset x division x precision: one pytest-benchmark case, one process, one record."""

    workload: str
    variant: str
    phase: Phase
    preset: Preset
    division: Division
    precision: Precision

    @property
    def id(self) -> str:
        """The case's name in commands, records and tables, e.g. `affinity-v2/documented/train/smoke/closed/fp32`."""
        return f"{self.workload}/{self.variant}/{self.phase}/{self.preset}/{self.division}/{self.precision}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that an id names. Raises UsageError for anything else."""
        parts = text.split("/")
        if len(parts) != 6:
            raise UsageError(f"{text!r} is not a case id: expected workload/variant/phase/preset/division/precision; `python -m bench list` shows them")
        try:
            return cls(parts[0], parts[1], Phase(parts[2]), Preset(parts[3]), Division(parts[4]), Precision(parts[5]))
        except ValueError as error:
            raise UsageError(f"{text!r} is not a case id: {error}; `python -m bench list` shows them") from None
