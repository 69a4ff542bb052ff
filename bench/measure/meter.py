"""Watches a case: memory, energy and the fitness of the board over windows of its work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import torch

from assay.bench.case import Quantity
from assay.bench.measure.board import SampledWindow, find_faults
from assay.bench.measure.clock import synchronise
from assay.bench.measure.device import find_uuid
from assay.bench.measure.energy import measure_energy
from assay.bench.measure.memory import (
    AllocatorPeaks,
    find_memory_fault,
    measure_gpu_memory,
    measure_resident_peak,
    read_allocator_peaks,
    read_reserved,
    reset_allocator_peaks,
    reset_resident_peak,
)
from assay.bench.measure.nvml import Sampler


class Window:
    """One stretch of work under watch. Ask it for numbers when the `with` block has ended."""

    def __init__(self, idle_power: Quantity, baseline: int) -> None:
        self._idle_power, self._baseline = idle_power, baseline
        self._sampled: SampledWindow | str = "the window is still open"
        self._peaks: AllocatorPeaks | str = "the window is still open"
        self._resident: dict[str, Quantity] = {}
        self._faults: list[str] = []

    def measurements(self, samples: int) -> dict[str, Quantity]:
        """allocated_peak, reserved_peak, device_peak, non_torch, rss_peak [bytes], energy, energy_per_1000_samples [J], idle_power [W].

        samples: how many the work in the window saw, warm-up included where the warm-up was in it.
        """
        memory = measure_gpu_memory(self._sampled, self._peaks, self._baseline)
        return memory | self._resident | measure_energy(self._sampled, samples) | {"idle_power": self._idle_power}

    @property
    def findings(self) -> tuple[str, ...]:
        """What makes the numbers of this window invalid; empty when nothing does. A lost sampler is no such thing: its numbers are missing."""
        return (*self._faults, *find_memory_fault(self._sampled, self._peaks, self._baseline))


class Meter:
    """Watches the device of a case. On a CPU no process is started and the GPU's numbers are missing, with that as the reason.

    Open it before the case touches the GPU: device_peak then includes the CUDA context, and the idle power is idle.
    gpu: UUID of the GPU to watch; default: the one that the device is.
    """

    def __init__(self, device: torch.device, *, gpu: str | None = None) -> None:
        self._device = device
        self._sampler: Sampler | None = None
        self._gpu = gpu
        self._baseline = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda" or self._gpu is not None:
            self._sampler = Sampler(self._gpu or find_uuid(self._device))
            if self._sampler.board is not None:
                # what torch holds already belongs to the case, not to the baseline
                self._baseline = self._sampler.board.used_bytes - read_reserved(self._device)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._sampler is not None:
            self._sampler.close()

    @contextmanager
    def window(self) -> Iterator[Window]:
        """Watches the work of the `with` block, from an idle device to an idle device."""
        window = Window(Quantity.missing("W", self._explain_absence()) if self._sampler is None else self._sampler.idle_power, self._baseline)
        synchronise(self._device)
        reset_allocator_peaks(self._device)
        since_reset = reset_resident_peak()
        if self._sampler is not None:
            self._sampler.start()
        try:
            yield window
            synchronise(self._device)  # work that failed is not waited for: a broken device would hide the first error
        finally:
            window._sampled = self._explain_absence() if self._sampler is None else self._sampler.stop()
            window._peaks = read_allocator_peaks(self._device)
            window._resident = measure_resident_peak(since_reset=since_reset)
            if not isinstance(window._sampled, str):
                holds_context = read_reserved(self._device) > 0
                window._faults = find_faults(window._sampled, frozenset({os.getpid()}), holds_context=holds_context)

    def _explain_absence(self) -> str:
        return "the case ran on the CPU" if self._device.type == "cpu" else f"no sampler for {self._device.type}"
