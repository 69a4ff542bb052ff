"""Whether a worker did what it was asked for in its rounds: a share of the work left out would look like speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.bench.case import Phase
from assay.bench.gate.line import FaultKind, TimedRound, WorkerFault
from assay.bench.gate.protocol import Opened

FOLDED = 1  # samples: a step takes one more where an epoch's last batch would be a single row, and the sides reach that at different times


def declare_batch(opened: Opened) -> int | None:
    """Samples of one full step: the profile's batch size or the recipe's, times the batches of an update, times the members of an ensemble.

    None for a case whose recipe has no batch size.
    """
    training = opened.case.split("/")[2] == Phase.TRAIN
    return _find_batch(opened.recipe, opened.comparability.batch, training=training)


def _find_batch(recipe: Mapping[str, object], chosen: int | None, *, training: bool) -> int | None:
    own = chosen or recipe["batch"] if "batch" in recipe else None
    updates = recipe.get("accumulate") if training else None
    found = [own * (updates if isinstance(updates, int) else 1)] if isinstance(own, int) else []
    inner = [_find_batch(each, chosen, training=training) for each in recipe.values() if isinstance(each, Mapping)]
    found += [each for each in inner if each is not None]
    count = recipe.get("count")
    return max(found) * (count if isinstance(count, int) else 1) if found else None


def check_samples(
    opened: tuple[Opened, Opened], steps: tuple[int, int], rounds: tuple[Sequence[TimedRound], Sequence[TimedRound]]
) -> None:
    """reference and candidate each. Raises WorkerFault for a candidate whose rounds have more samples than its declared batch allows.

    Fewer are no offence: an epoch's last batch may be short.
    """
    most = max((each.samples for each in rounds[0]), default=0) / steps[0]
    excess = []
    for side in (0, 1):
        full = steps[side] * (declare_batch(opened[side]) or most)
        excess.append(sum(max(0.0, each.samples - full) for each in rounds[side]))
    if excess[1] > excess[0] + FOLDED:
        count = max(each.samples for each in rounds[1])
        raise WorkerFault(
            FaultKind.CHEATED, f"says that {count} samples went through a round of {steps[1]} steps of {declare_batch(opened[1]) or round(most)} each"
        )


def check_weights(reference: bool, candidate: bool) -> None:  # noqa: FBT001  # whether the rounds changed any weight of each
    """Raises WorkerFault for a candidate whose steps train nothing, unless the reference's do not either."""
    if reference and not candidate:
        raise WorkerFault(FaultKind.CHEATED, "took its steps and changed no weight; the reference's steps change them")
