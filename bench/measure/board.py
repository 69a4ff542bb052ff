"""What NVML tells of one GPU, as types, and what in it makes a measurement invalid."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

THERMAL = frozenset({"sw_thermal_slowdown", "hw_thermal_slowdown"})
POWER_BRAKE = frozenset({"hw_power_brake_slowdown"})
# not hw_slowdown alone: drivers set it for a moment at every change of the power state


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BoardState(_Strict):
    """What changes slowly on a board. A reading that it does not give is None, with the reason in `unavailable`."""

    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    event_reasons: tuple[str, ...] | None = None  # why the clocks are what they are
    ecc_uncorrected: int | None = None  # memory errors since the driver was loaded
    power_limit_w: float | None = None
    processes: tuple[int, ...] | None = None  # with a CUDA context; ids may be those of another PID namespace
    unavailable: dict[str, str] = {}


class Board(_Strict):
    """One GPU as NVML describes it. Memory in bytes."""

    name: str | None = None
    uuid: str | None = None
    driver: str | None = None
    cuda_driver: str | None = None  # newest CUDA that the driver serves, e.g. "12.2"
    compute_capability: str | None = None
    ecc: bool | None = None
    mig: bool | None = None
    default_power_limit_w: float | None = None
    memory_api: str  # v1 counts what the driver keeps for itself as used, v2 does not
    memory_bytes: int
    free_bytes: int
    used_bytes: int
    state: BoardState
    unavailable: dict[str, str] = {}


class SampledWindow(_Strict):
    """What the sampler saw between start and stop. `lost` says why it is incomplete; nothing in it is then used."""

    lost: str | None = None
    memory_api: str = ""
    period_ms: float = 0.0
    seconds: float | None = None  # between the two readings of the energy counter
    samples: int = 0
    largest_gap_ms: float = 0.0
    cpu_seconds: float | None = None  # that the sampler itself used
    baseline_bytes: int | None = None
    peak_bytes: int | None = None
    energy_start_mj: int | None = None
    energy_end_mj: int | None = None
    energy_reason: str | None = None
    event_reasons: tuple[str, ...] = ()  # between the edges
    before: BoardState | None = None
    after: BoardState | None = None


def find_faults(window: SampledWindow, own_processes: frozenset[int], *, holds_context: bool) -> list[str]:
    """What happened to the board in a window that makes its numbers invalid, one sentence each.

    own_processes: ids that may use the GPU. In a container NVML shows ids of the host, so a process that holds a context
    (holds_context) and does not find its own id takes one unknown id for itself.
    """
    before, after = window.before, window.after
    if window.lost is not None or before is None or after is None:
        return []
    reasons = {*(before.event_reasons or ()), *window.event_reasons, *(after.event_reasons or ())}
    faults = [f"the GPU slowed down for heat ({reason}): see to its cooling and run again" for reason in sorted(reasons & THERMAL)]
    faults += [f"the GPU slowed down for its power supply ({reason}): check supply and cables" for reason in sorted(reasons & POWER_BRAKE)]
    if strangers := max((find_strangers(state, own_processes, holds_context=holds_context) for state in (before, after)), key=len):
        listed = ", ".join(map(str, strangers))
        faults.append(f"another process used the GPU (process {listed}): end it and run again")
    if before.ecc_uncorrected is not None and after.ecc_uncorrected is not None and after.ecc_uncorrected > before.ecc_uncorrected:
        errors = after.ecc_uncorrected - before.ecc_uncorrected
        faults.append(f"{errors} new uncorrected memory errors on the GPU: its results cannot be trusted; reset or replace it")
    return faults


def find_strangers(state: BoardState, own_processes: frozenset[int], *, holds_context: bool) -> list[int]:
    """Processes on the GPU that are not ours; empty as well where the list could not be had."""
    listed = state.processes or ()
    strangers = [pid for pid in listed if pid not in own_processes]
    ours_seen = len(strangers) < len(listed)
    return strangers[1:] if holds_context and not ours_seen else strangers
