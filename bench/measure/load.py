"""Who else works on this machine's processor."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

WINDOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """Shares of all cores, 0 to 1, over one window in which this process slept."""

    busy: float  # other processes of this system
    stolen: float  # the host of a virtual machine ran something else
    cores: int
    average: float | None  # runnable processes over the last minute; None where the system does not count them


def read_load() -> Load:
    """Watches the processor for WINDOW_SECONDS. In a container it sees the whole host, which is what disturbs a measurement."""
    times = psutil.cpu_times_percent(interval=WINDOW_SECONDS)
    stolen = getattr(times, "steal", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Load(max(0.0, 100 - idle - stolen) / 100, stolen / 100, psutil.cpu_count() or 1, average)
