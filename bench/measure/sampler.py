"""The process that watches one GPU through NVML while a case runs in another one. Started by assay.bench.measure.nvml.

A process of its own shares no interpreter lock with the case, so no sample waits for it, and one GPU lost or one driver
call stuck takes no case with it. It imports pynvml and the standard library only and holds no CUDA context.

Protocol: `start` and `stop` come in on standard input, one JSON object a line goes out on standard output: the board when
ready, `{}` when a window has started, the window when it has stopped. End of input, or a new parent, ends the process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pynvml

REASONS_EVERY = 1.0  # seconds: a thermal slowdown may be over when the window ends, yet the call is too slow for every sample
PARENT_CHECK = 0.5  # seconds between two looks whether the parent is still there while there is nothing to do
POWER_EVERY = 0.02  # seconds between readings of the idle power

EVENT_REASONS = {
    pynvml.nvmlClocksEventReasonGpuIdle: "gpu_idle",
    pynvml.nvmlClocksEventReasonApplicationsClocksSetting: "applications_clocks_setting",
    pynvml.nvmlClocksEventReasonSwPowerCap: "sw_power_cap",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hw_slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync_boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "sw_thermal_slowdown",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hw_thermal_slowdown",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "hw_power_brake_slowdown",
    pynvml.nvmlClocksEventReasonDisplayClockSetting: "display_clock_setting",
}

Message = dict[str, Any]


def explain(error: Exception) -> str:
    """An NVML error in words, with its code."""
    code = getattr(error, "value", None)
    return f"NVML: {error}" + ("" if code is None else f" (error {code})")


class Gpu:
    """One GPU, chosen by UUID; without one, the only GPU there is."""

    def __init__(self, uuid: str) -> None:
        pynvml.nvmlInit()
        self._handle = _find_handle(uuid)
        self.memory_api = "v2"
        try:
            self.read_memory()
        except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
            self.memory_api = "v1"  # kept for every reading from here on: v1 counts what the driver reserved as used

    def read_memory(self) -> Any:
        """total, free and used [bytes], by one and the same call throughout."""
        return pynvml.nvmlDeviceGetMemoryInfo(self._handle, pynvml.nvmlMemory_v2 if self.memory_api == "v2" else None)

    def read_energy_mj(self) -> int:
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def read_power_mw(self) -> int:
        return int(pynvml.nvmlDeviceGetPowerUsage(self._handle))

    def read_event_reasons(self) -> list[str]:
        try:
            bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        except pynvml.NVMLError_FunctionNotFound:  # its name before driver 535
            bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        return [word for bit, word in EVENT_REASONS.items() if bits & bit]

    def describe_board(self) -> Message:
        """What stays the same while a case runs."""
        n, handle, memory = pynvml, self._handle, self.read_memory()
        fixed = {"memory_api": self.memory_api, "memory_bytes": memory.total, "free_bytes": memory.free, "used_bytes": memory.used}
        return fixed | _collect(
            {
                "name": lambda: n.nvmlDeviceGetName(handle),
                "uuid": lambda: n.nvmlDeviceGetUUID(handle),
                "driver": n.nvmlSystemGetDriverVersion,
                "cuda_driver": lambda: f"{(v := n.nvmlSystemGetCudaDriverVersion_v2()) // 1000}.{v % 1000 // 10}",
                "compute_capability": lambda: ".".join(map(str, n.nvmlDeviceGetCudaComputeCapability(handle))),
                "ecc": lambda: bool(n.nvmlDeviceGetEccMode(handle)[0]),
                "mig": lambda: bool(n.nvmlDeviceGetMigMode(handle)[0]),
                "default_power_limit_w": lambda: n.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1e3,
            }
        )

    def describe_state(self) -> Message:
        """What changes slowly, read at the edges of a window: together some milliseconds on a real driver."""
        n, handle = pynvml, self._handle
        return _collect(
            {
                "sm_clock_mhz": lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_SM),
                "memory_clock_mhz": lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_MEM),
                "temperature_c": lambda: n.nvmlDeviceGetTemperature(handle, n.NVML_TEMPERATURE_GPU),
                "event_reasons": self.read_event_reasons,
                "ecc_uncorrected": lambda: n.nvmlDeviceGetTotalEccErrors(handle, n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, n.NVML_VOLATILE_ECC),
                "power_limit_w": lambda: n.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
                "processes": lambda: [process.pid for process in n.nvmlDeviceGetComputeRunningProcesses(handle)],
            }
        )

    def measure_idle_power(self, seconds: float) -> Message:
        """Power readings [W] over some seconds in which nothing should run."""
        readings, until = [], time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                readings.append(self.read_power_mw() / 1e3)
                time.sleep(POWER_EVERY)
        except pynvml.NVMLError as error:
            return {"idle_power_w": [], "idle_power_reason": explain(error)}
        return {"idle_power_w": readings, "idle_power_reason": None}


def _find_handle(uuid: str) -> Any:
    if not uuid:
        count = pynvml.nvmlDeviceGetCount()
        if count != 1:
            raise LookupError(f"{count} GPUs and none chosen: set CUDA_VISIBLE_DEVICES to the UUID of one (nvidia-smi -L)")
        return pynvml.nvmlDeviceGetHandleByIndex(0)
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError_NotFound:
        # torch leaves the prefix to us and does not say whether its device is a whole GPU or a slice of one
        return pynvml.nvmlDeviceGetHandleByUUID(uuid.replace("GPU-", "MIG-", 1))


def _collect(readings: Mapping[str, Callable[[], Any]]) -> Message:
    values: Message = {}
    unavailable = {}
    for name, read in readings.items():
        try:
            values[name] = read()
        except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
            unavailable[name] = explain(error)
    return values | {"unavailable": unavailable}


class Window:
    """What is seen of the GPU between `start` and `stop`."""

    def __init__(self, gpu: Gpu, period: float) -> None:
        self._gpu = gpu
        self.seen: Message = {"memory_api": gpu.memory_api, "period_ms": period * 1e3, "samples": 0, "largest_gap_ms": 0.0, "event_reasons": []}

    def open(self) -> None:
        """The edge before the work: slow readings first, the energy counter last."""
        self.seen["before"] = self._gpu.describe_state()
        self._cpu_began = time.process_time()
        self._last = time.monotonic()
        self._reasons_due = self._last + REASONS_EVERY
        self.sample()
        self.seen["baseline_bytes"] = self.seen["peak_bytes"]
        self._read_energy("energy_start_mj")
        self._began = time.monotonic()

    def sample(self) -> None:
        """One reading of the used memory, and of the event reasons when they are due."""
        seen, now = self.seen, time.monotonic()
        seen["peak_bytes"] = max(seen.get("peak_bytes", 0), self._gpu.read_memory().used)
        seen["largest_gap_ms"] = max(seen["largest_gap_ms"], (now - self._last) * 1e3)
        seen["samples"] += 1
        self._last = now
        if now >= self._reasons_due:
            self._reasons_due = now + REASONS_EVERY
            seen["event_reasons"] = sorted({*seen["event_reasons"], *_collect({"reasons": self._gpu.read_event_reasons}).get("reasons", [])})

    def close(self) -> None:
        """The edge after the work: the energy counter first, then one last sample, which holds all that torch reserved."""
        self._read_energy("energy_end_mj")
        self.seen["seconds"] = time.monotonic() - self._began
        self.sample()
        self.seen["cpu_seconds"] = time.process_time() - self._cpu_began
        self.seen["after"] = self._gpu.describe_state()

    def _read_energy(self, key: str) -> None:
        try:
            self.seen[key] = self._gpu.read_energy_mj()
        except pynvml.NVMLError_GpuIsLost:
            raise
        except pynvml.NVMLError as error:
            self.seen["energy_reason"] = explain(error)


class Line:
    """Standard input and output as the line to the parent."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def send(self, message: Message) -> None:
        os.write(1, json.dumps(message).encode() + b"\n")

    def await_command(self, until: float) -> str | None:
        """The next command, or None when there is none until then. Leaves the process when the parent is gone."""
        ready, _, _ = select.select([0], [], [], max(0.0, until - time.monotonic()))
        # a worker forked by the parent may hold the pipe open, so its end alone does not tell that the parent is gone
        text = os.read(0, 64).decode() if ready else None
        if text == "" or os.getppid() != self._parent:
            raise SystemExit(0)
        return text and text.strip()


def watch_window(gpu: Gpu, line: Line, period: float) -> Message:
    """Samples from now until `stop`. A GPU lost on the way ends the sampling and is named; `stop` is still waited for."""
    window, opened, stopped = Window(gpu, period), False, False
    try:
        window.open()
        line.send({})
        opened = True
        due = time.monotonic() + period
        while line.await_command(due) is None:
            window.sample()
            due = max(due + period, time.monotonic())
        stopped = True
        window.close()
    except pynvml.NVMLError as error:
        window.seen["lost"] = explain(error)
        if not opened:
            line.send({})
        while not stopped:
            stopped = line.await_command(time.monotonic() + PARENT_CHECK) is not None
    return window.seen


def main(parent: str, uuid: str, period: str, idle_seconds: str) -> None:
    """The process: announces the board, then serves one window after another."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end is ours
    line = Line(int(parent))
    try:
        gpu = Gpu(uuid)
        line.send({"board": gpu.describe_board() | {"state": gpu.describe_state()}} | gpu.measure_idle_power(float(idle_seconds)))
    except (pynvml.NVMLError, LookupError) as error:
        line.send({"lost": explain(error) if isinstance(error, pynvml.NVMLError) else str(error)})
        return
    while True:
        if line.await_command(time.monotonic() + PARENT_CHECK) is not None:
            line.send(watch_window(gpu, line, float(period)))


if __name__ == "__main__":
    main(*sys.argv[1:])
