"""Both sides of a session, run by one harness: bench/ of the reference. From the candidate come models/ and datasets/, which are judged.

The candidate's own bench/, its conftest.py, sitecustomize.py, pytest.ini and whatever else lies in its tree take no part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.bench.gate.pair import A, B, SideName
from assay.bench.gate.reference import Source, hash_files, open_source


@dataclass(frozen=True, slots=True)
class Sides:
    """Ready to start workers. `borrowed`: the candidate's own bench/ is another than the one that runs it."""

    sources: dict[SideName, Source]
    borrowed: bool
    notes: tuple[str, ...]  # what a reader of the verdict must know of them


@contextmanager
def open_sides(
    reference: str, candidate: str, root: Path, *, gpu: bool, own_harness: bool = False, own_environments: bool = False
) -> Iterator[Sides]:
    """The sides that these names name; root: the checkout whose refs are meant.

    own_harness: the candidate is run by its own bench/. own_environments: a folder's workers run in its own .venv, where it has one, instead of
    in the gate's Python. Both put trust into the candidate, and the notes say so. Raises UsageError as `open_source` does.
    """
    with ExitStack() as stack:
        sources = {side: stack.enter_context(open_source(name, root, gpu=gpu)) for side, name in ((A, reference), (B, candidate))}
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-gate-sides-")))
        harnesses = {side: source.copy_harness(place / f"{side}-bench") for side, source in sources.items()}
        differ = hash_files(harnesses[A]) != hash_files(harnesses[B])
        used = {A: harnesses[A], B: harnesses[B if own_harness else A]}
        laid_out = {side: source.lay_out(used[side], place / side, own_environment=own_environments) for side, source in sources.items()}
        notes = []
        if differ:
            whose = "its own bench/, as --own-harness asks: its rounds are measured by what it brought along" if own_harness else "the reference's"
            notes.append(f"bench/ differs between the sides; the candidate is run by {whose}")
        if own_environments:
            notes.append("the sides run in environments of their own, as --across-environments asks: what the candidate's brings along is believed")
        yield Sides(laid_out, differ and not own_harness, tuple(notes))
