"""What the gate and its workers say to each other: one JSON object a line, over the worker's standard input and output.

A worker runs the code that is measured, so what it says is that code's own word: no message holds a duration that the gate could
take from the kernel or from its own clock. The two ends may come from different commits. Change a message and raise PROTOCOL; a worker
of another protocol is not compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from assay.bench.case import Outcome, Preset, Quantity
from assay.bench.records.record import Comparability

PROTOCOL = 2
MAX_LINE_BYTES = 16 << 20
MAX_BYTES = 1 << 60  # of memory; beyond it, arithmetic on a stranger's number could overflow
MAX_STEPS, MAX_SAMPLES = 10**9, 10**15  # of a round


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Hello(_Message):
    """Who are you? Answered by Welcome."""

    kind: Literal["hello"] = "hello"


class ListCases(_Message):
    """Which cases do you have? Answered by Cases."""

    kind: Literal["list"] = "list"
    preset: Preset | None = None
    select: str = ""


class Open(_Message):
    """Open this case's session. Answered by Opened, or by Failed. Seeds as in a run's record."""

    kind: Literal["open"] = "open"
    case: str
    profile: str
    data: str | None = None
    seed: int


class Warm(_Message):
    """Warm up and say how many steps make a round. Answered by Warmed."""

    kind: Literal["warm"] = "warm"
    round_seconds: float
    max_seconds: float


class Round(_Message):
    """Take that many steps and wait for the device. Answered by Timed."""

    kind: Literal["round"] = "round"
    steps: int = Field(gt=0)


class Memory(_Message):
    """What did you hold at most since the warm-up? Answered by Peaks."""

    kind: Literal["memory"] = "memory"


class Score(_Message):
    """Train by the whole recipe with the seed that the case was opened with, and score. Answered by Trained, then by Scored."""

    kind: Literal["score"] = "score"


class Bye(_Message):
    """End in order. Not answered."""

    kind: Literal["bye"] = "bye"


Request = Hello | ListCases | Open | Warm | Round | Memory | Score | Bye


class Welcome(BaseModel):
    """Read leniently: what later protocols add must not hide which protocol it is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["welcome"] = "welcome"
    protocol: int
    lock_sha256: str | None = None  # of the requirements that the checkout asks for


class Cases(_Message):
    """The ids of a checkout's cases, in its order."""

    kind: Literal["cases"] = "cases"
    ids: tuple[str, ...]


class Opened(_Message):
    """The case is open; nothing has been computed yet."""

    kind: Literal["opened"] = "opened"
    case: str
    comparability: Comparability
    recipe: Mapping[str, object]
    metric: str = Field(min_length=1, max_length=100)  # that ranks the workload
    higher_is_better: bool
    gpu_uuid_sha256: str | None = None
    timed: bool  # False for a case that is a proof without steps


class Warmed(_Message):
    """steps: per round. The two sizes [bytes] say whether another such worker fits beside this one."""

    kind: Literal["warmed"] = "warmed"
    steps: int = Field(gt=0, le=MAX_STEPS)
    settled: bool
    held_bytes: int = Field(ge=0, le=MAX_BYTES)
    free_bytes: int = Field(ge=0, le=MAX_BYTES)


class Timed(_Message):
    """One round is over. How long it took, the gate measures itself."""

    kind: Literal["timed"] = "timed"
    samples: int = Field(gt=0, le=MAX_SAMPLES)


class Peaks(_Message):
    """allocated_peak, reserved_peak and rss_peak [bytes]; missing ones say why. `changed`: whether the rounds changed any weight."""

    kind: Literal["peaks"] = "peaks"
    peaks: Mapping[str, Quantity]
    changed: bool


class Trained(_Message):
    """The training is over, the scoring begins."""

    kind: Literal["trained"] = "trained"


class Scored(_Message):
    """Quality after one training. `draws` holds the metric on each bootstrap resample, None where it is undefined there; both sides
    resample the same groups, so draws with the same index belong together. `watched` is the validation loss (training loss where
    there is no such split) at the end of each epoch, `seconds` [s] when that was; how long all of it took, the gate measures itself."""

    kind: Literal["scored"] = "scored"
    quality: Mapping[str, Quantity]
    draws: Mapping[str, Sequence[float | None]] = {}
    watched: Sequence[float] = ()
    seconds: Sequence[float] = ()


class Failed(_Message):
    """The request could not be met."""

    kind: Literal["failed"] = "failed"
    outcome: Outcome
    reason: str


class Alive(_Message):
    """A sign of life during long work; any number of them precede an answer."""

    kind: Literal["alive"] = "alive"
    note: str = ""


Answer = Welcome | Cases | Opened | Warmed | Timed | Peaks | Trained | Scored | Failed | Alive

_requests: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
_answers: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def encode(message: Request | Answer) -> bytes:
    """One line."""
    return message.model_dump_json().encode() + b"\n"


def read_request(line: bytes) -> Request:
    """Raises pydantic.ValidationError for anything that is not a request."""
    return _requests.validate_json(line)


def read_answer(line: bytes) -> Answer:
    """Raises pydantic.ValidationError for anything that is not an answer; NaN and infinity are none."""
    return _answers.validate_json(line)
