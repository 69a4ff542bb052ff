"""What the gate found over time: ratios to a pinned reference that ran in the same session, so that no machine's drift is in them.

One append-only file, each line chained to the one before it by hash, and the verdict JSON of every session in it beside that file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from assay.bench.case import ExitCode, Quantity, UsageError
from assay.bench.gate.verdict import EVERY_CASE, FindingKind, GateReport, GateVerdict, Side, read_report

PINNABLE = re.compile(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}")
REGISTRY_DIGEST = re.compile(r"[\w./:-]+@sha256:[0-9a-f]{64}")
HOW_TO_PIN = "python -m bench gate accept --candidate REF --reason TEXT"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    previous_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")  # of the line before
    at: AwareDatetime


class RunEntry(_Entry):
    """One judged session against the reference that was pinned then. `ratios`: time of the candidate over the reference's, by case."""

    kind: Literal["run"] = "run"
    reference: Side
    candidate: Side
    machine: str
    exit_code: int
    ratios: Mapping[str, Quantity]
    report: str  # file name of the verdict JSON
    report_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class AcceptEntry(_Entry):
    """The reference moved, on purpose."""

    kind: Literal["accept"] = "accept"
    identity: str
    name: str
    reason: str = Field(min_length=1)
    judged: str  # what the gate had said about it

    @property
    def source(self) -> str:
        """What to open it by. An engine that does not have an image's id may still pull it by its registry's digest."""
        return self.name if self.identity.startswith("sha256:") and REGISTRY_DIGEST.fullmatch(self.name) else self.identity


Entry = RunEntry | AcceptEntry
E = TypeVar("E", bound=_Entry)
_entries: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


class History:
    """The history below a folder, `results/gate`. Nothing is made there before something is stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "history.jsonl"

    def read(self) -> list[Entry]:
        """Every entry, oldest first. Raises UsageError that names the first line which is damaged or does not follow from the one before."""
        entries: list[Entry] = []
        previous: str | None = None
        for number, line in enumerate(self._path.read_bytes().splitlines() if self._path.exists() else [], start=1):
            try:
                entry = _entries.validate_json(line)
            except ValidationError as error:
                raise UsageError(f"{self._path}, line {number}: {error.errors(include_url=False)[0]['msg']}; restore the file, e.g. with git") from None
            if entry.previous_sha256 != previous:
                fault = "does not follow from the line before: one was changed or removed"
                raise UsageError(f"{self._path}, line {number}: {fault}; restore the file, e.g. with git")
            previous = hashlib.sha256(line).hexdigest()
            entries.append(entry)
        return entries

    def pinned(self) -> AcceptEntry:
        """The reference in force. Raises UsageError where none was ever accepted."""
        accepted = [entry for entry in self.read() if isinstance(entry, AcceptEntry)]
        if not accepted:
            raise UsageError(f"no reference is pinned in {self._folder}: name one with --reference, or pin one: {HOW_TO_PIN}")
        return accepted[-1]

    def append(self, report: GateReport) -> bool:
        """Keeps a session that compared with the pinned reference on a fit machine, whatever its verdict; True when it did."""
        accepted = [entry for entry in self.read() if isinstance(entry, AcceptEntry)]
        if not accepted or accepted[-1].identity != report.reference.identity or report.faults:
            return False
        text = report.model_dump_json(indent=1).encode() + b"\n"
        name = f"{report.ended:%Y%m%dT%H%M%SZ}-{hashlib.sha256(text).hexdigest()[:12]}.json"
        (self._folder / "reports").mkdir(parents=True, exist_ok=True)
        (self._folder / "reports" / name).write_bytes(text)
        ratios = {f.case_id: f.estimate for f in report.findings if f.kind is FindingKind.SPEED and f.estimate.value is not None}
        self._add(RunEntry(
            at=report.ended,
            reference=report.reference,
            candidate=report.candidate,
            machine=report.machine.gpu or report.machine.cpu,
            exit_code=report.exit_code,
            ratios=ratios,
            report=name,
            report_sha256=hashlib.sha256(text).hexdigest(),
        ))
        return True

    def accept(self, identity: str | None, reason: str, *, name: str | None = None, force: bool = False) -> AcceptEntry:
        """Pins a commit or an image digest; default: the candidate that was judged last. `name`: as the user gave it.

        Raises UsageError where that would hide a regression: one of any case on any machine that no later session there has settled.
        """
        entries = self.read()
        runs = [entry for entry in entries if isinstance(entry, RunEntry)]
        pins = [entry for entry in entries if isinstance(entry, AcceptEntry)]
        if identity is None and not runs:
            raise UsageError(f"nothing was judged against a pinned reference yet: say what to pin: {HOW_TO_PIN}")
        chosen = identity or runs[-1].candidate.identity
        if not PINNABLE.fullmatch(chosen):
            what = "only a commit or an image's id (sha256:...) stays what it is"
            raise UsageError(f"{chosen} cannot be pinned: {what}; commit the changes and judge that commit")
        if not reason.strip():
            raise UsageError("--reason is empty: say why the reference moves")
        about = [run for run in runs if run.candidate.identity == chosen and run.reference.identity == pins[-1].identity] if pins else []
        open_cases = [] if force else find_unsettled([(run.machine, self.read_report(run)) for run in about])
        judged = "regressed" if open_cases else _describe(about[-1]) if about else "never judged" if pins else "the first reference"
        if not force and pins and (not about or open_cases):
            where = f" ({'; '.join(open_cases[:5])})" if open_cases else ""
            remedy = f"judge it with `python -m bench gate --candidate {chosen}`, or pin it with --force"
            raise UsageError(f"{chosen}: {judged} against the reference in force{where}; {remedy}")
        known = about[-1].candidate.name if about else chosen
        return self._add(AcceptEntry(at=datetime.now(UTC), identity=chosen, name=name or known, reason=reason, judged=judged))

    def read_report(self, run: RunEntry) -> GateReport:
        """The verdict JSON of a session. Raises UsageError where it is gone or was changed."""
        path = self._folder / "reports" / run.report
        report = read_report(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != run.report_sha256:
            raise UsageError(f"{path} was changed since it was stored; restore it, e.g. with git")
        return report

    def _add(self, entry: E) -> E:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            lines = stream.read().splitlines()
            chained = entry.model_copy(update={"previous_sha256": hashlib.sha256(lines[-1]).hexdigest() if lines else None})
            stream.write(chained.model_dump_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        return chained


def find_unsettled(sessions: Sequence[tuple[str, GateReport]]) -> list[str]:
    """What regressed and was not settled since, from the machine and the report of each session, oldest first: `case (what) on machine`.

    Only a verdict about the same thing on the same machine settles; one about another case, or an inconclusive one, leaves it open. A case
    that broke is settled once it runs there: then it has findings, none of them about its presence.
    """
    unsettled: dict[tuple[str, str, FindingKind], None] = {}
    for machine, report in sessions:
        found = {(machine, finding.case_id, finding.kind): finding.verdict for finding in report.findings}
        runs = {finding.case_id for finding in report.findings if finding.pairs} - {case for _, case, kind in found if kind is FindingKind.PRESENCE}
        runs |= {EVERY_CASE} if runs else set()
        good = {key for key, verdict in found.items() if verdict in (GateVerdict.EQUIVALENT, GateVerdict.IMPROVED)}
        good |= {key for key in unsettled if key[0] == machine and key[1] in runs and key[2] is FindingKind.PRESENCE}
        unsettled = {key: None for key in unsettled if key not in good}
        unsettled |= {key: None for key, verdict in found.items() if verdict is GateVerdict.REGRESSED}
    return [f"{case} ({kind}) on {machine}" for machine, case, kind in unsettled]


def _describe(run: RunEntry) -> str:
    words = {ExitCode.OK: "no regression", ExitCode.VERDICT_FAILED: "regressed", ExitCode.INCONCLUSIVE: "inconclusive"}
    return words.get(run.exit_code, f"exit code {run.exit_code}")
