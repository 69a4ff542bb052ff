"""Whether a machine is fit to be measured on, refusal by refusal."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from assay.bench.case import Precision, UsageError
from assay.bench.measure.board import POWER_BRAKE, THERMAL, Board, BoardState, find_strangers
from assay.bench.measure.calibration import DTYPES, calibrate_device
from assay.bench.measure.device import find_uuid
from assay.bench.measure.load import Load, read_load
from assay.bench.measure.nvml import query_board
from assay.bench.measure.precision import choose_precision
from assay.bench.profiles import Figure, Profile, match_gpu

FREE_SHARE = 0.9  # of the GPU's memory; what a desktop takes of a large board stays below the rest
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # its size is read, nothing is written
SHARED_MEMORY_GIB = 1.0  # loader workers and NCCL pass data through it; Docker gives 64 MiB unless told otherwise
PRODUCT_SHARE = 1 / 3  # of the datasheet's peak: small boards throttle at their power limit far below it
COPY_SHARE = 1 / 2  # of the datasheet's bandwidth
BUSY_SHARE = 0.25  # of all cores: from here on a CPU's times are no longer its own
STOLEN_SHARE = 0.05  # a host that takes this much takes it in bursts, which no median of a few rounds outlasts
LEAST_DRIVER = {12: "525", 13: "580"}  # of each CUDA major version; CUDA Compatibility guide, table 1
# without which no case of a GPU profile starts; an old driver may do, by forward compatibility
PREREQUISITES = frozenset({"nvml", "gpu", "torch build", "cuda", "architecture"})
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `message` says what was found; when that is not ok, `wanted` says what would be and `remedy` what to do."""

    name: str
    ok: bool
    message: str
    wanted: str = ""
    remedy: str = ""


class NotFit(Exception):
    """A machine that must not be measured on. The command says why, and what to do, and exits with 4."""

    def __init__(self, where: str, refusals: Sequence[Finding]) -> None:
        super().__init__(where)
        self.where, self.refusals = where, refusals


def require_machine(profile: Profile, results: Path = Path()) -> None:
    """Raises NotFit, with all that the doctor refuses, where no case of a GPU's profile could start. What makes times invalid is the cases' to find."""
    if profile.device == "cpu":
        return
    refusals = [finding for finding in check_fitness(profile, torch.device(profile.device), results=results, calibrate=False) if not finding.ok]
    if any(finding.name in PREREQUISITES for finding in refusals):
        raise NotFit(f"profile {profile.name}", refusals)


def check_fitness(profile: Profile, device: torch.device, *, results: Path, calibrate: bool, emulated: bool = False) -> list[Finding]:
    """Every check that makes sense for the profile, those that passed included. calibrate also measures, which takes up to 10 s.

    results: the folder that records will be written to. emulated: the cases will run on the CPU, so nothing is asked of torch's CUDA.
    """
    findings = [_check_results(results), _check_shared_memory(required=profile.device == "cuda")]
    build: list[Finding] = []
    if profile.device == "cuda":
        board = query_board(find_uuid(device))
        if isinstance(board, str):
            remedy = "Install the NVIDIA driver, or give the container its GPU (driver: nvidia, capabilities: [gpu, utility, compute])."
            findings.append(_judge("nvml", ok=False, message=f"no GPU can be asked: {board}", wanted="an NVIDIA driver that answers", remedy=remedy))
        else:
            findings += _check_board(profile, board, None if emulated else torch.version.cuda)
        build = [] if emulated else _check_torch_build(None if isinstance(board, str) else board)
    elif profile.device == "mps":
        remedy = "This torch cannot use the Apple GPU: choose --profile cpu."
        ok = torch.backends.mps.is_available()
        build = [_judge("torch build", ok=ok, message=f"torch {torch.__version__}", wanted="a torch with Metal", remedy=remedy)]
    if not calibrate:
        return findings + build
    load = check_load(read_load(), required=profile.device == "cpu")  # before the calibration, which is load itself
    can_compute = all(finding.ok for finding in build)
    return [*findings, *build, load, *(_check_speed(profile, device) if can_compute and not emulated else [])]


def _judge(name: str, *, ok: bool, message: str, wanted: str, remedy: str) -> Finding:
    return Finding(name, ok=True, message=message) if ok else Finding(name, ok=False, message=f"{message}.", wanted=wanted, remedy=remedy)


def check_load(load: Load, *, required: bool) -> Finding:
    """Whether other work leaves a CPU's times its own."""
    average = "" if load.average is None else f"; load average {load.average:.2f}"
    message = f"other work takes {100 * load.busy:.0f} % of {load.cores} cores, a host {100 * load.stolen:.0f} %{average}"
    ok = not required or (load.busy < BUSY_SHARE and load.stolen < STOLEN_SHARE)
    wanted = f"less than {100 * BUSY_SHARE:.0f} % and {100 * STOLEN_SHARE:.0f} %"
    return _judge("other work", ok=ok, message=message, wanted=wanted, remedy="End it (`top` shows it), wait, or take a machine of your own.")


def _check_results(results: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=results):
            return Finding("results folder", ok=True, message=f"{results} can be written")
    except OSError as error:
        remedy = "Create it, free space, or choose another with --results DIR (and --out DIR for `run`)."
        message = f"{results} cannot be written: {error.strerror}"
        return _judge("results folder", ok=False, message=message, wanted="a folder that holds records", remedy=remedy)


def _check_shared_memory(*, required: bool) -> Finding:
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", ok=True, message=f"no {SHARED_MEMORY} on this system")
    size = os.statvfs(SHARED_MEMORY)
    gib = size.f_frsize * size.f_blocks / GIB
    remedy = f"Give the container shm_size: {SHARED_MEMORY_GIB:g}g (docker run --shm-size)."
    ok, message = gib >= SHARED_MEMORY_GIB or not required, f"{SHARED_MEMORY} has {gib:.2f} GiB"
    return _judge("shared memory", ok=ok, message=message, wanted=f"{SHARED_MEMORY_GIB:g} GiB", remedy=remedy)


def _check_board(profile: Profile, board: Board, built: str | None) -> list[Finding]:
    checks = [_check_name(profile, board), _check_driver(profile, board, built), _check_free_memory(board), _check_strangers(board)]
    return [*checks, _check_power_limit(board), _check_clocks(board.state), _check_ecc(board.state)]


def _check_name(profile: Profile, board: Board) -> Finding:
    name = board.name or "a GPU without a name"
    if profile.fits(name):
        return Finding("gpu", ok=True, message=name)
    try:
        remedy = f"Run with --profile {match_gpu(name).name}, or choose another GPU with CUDA_VISIBLE_DEVICES (BENCH_GPU for a container)."
    except UsageError:
        remedy = "Choose another GPU with CUDA_VISIBLE_DEVICES (BENCH_GPU for a container), or add a profile for this one to bench/profiles."
    return _judge("gpu", ok=False, message=f"found {name}", wanted=f"{profile.title} (named {profile.gpu}) for profile {profile.name}", remedy=remedy)


def _check_driver(profile: Profile, board: Board, built: str | None) -> Finding:
    driver, (wanted, whose) = board.driver, find_least_driver(profile, built)
    if driver is None or wanted is None:
        return Finding("driver", ok=True, message=f"{driver or board.unavailable.get('driver', 'unknown')}; {whose} asks for none")
    ok = _order_version(driver) >= _order_version(wanted)
    remedy = "Install a newer NVIDIA driver on the host."
    return _judge("driver", ok=ok, message=driver, wanted=f"{wanted} or later for {whose}", remedy=remedy)


def find_least_driver(profile: Profile, built: str | None) -> tuple[str | None, str]:
    """The oldest driver that serves both the profile's GPU and a torch built for this CUDA ("13.0"; None: any), and which of the two asks for it."""
    wanted, whose = profile.min_driver, f"profile {profile.name}"
    of_torch = LEAST_DRIVER.get(int(built.split(".")[0])) if built else None
    if of_torch and (wanted is None or _order_version(of_torch) > _order_version(wanted)):
        return of_torch, f"CUDA {built}, which torch is built for"
    return wanted, whose


def _order_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _check_free_memory(board: Board) -> Finding:
    message = f"{board.free_bytes / GIB:.1f} of {board.memory_bytes / GIB:.1f} GiB free"
    ok = board.free_bytes >= FREE_SHARE * board.memory_bytes
    remedy = "End what else uses the GPU (nvidia-smi shows it)."
    return _judge("free memory", ok=ok, message=message, wanted=f"{100 * FREE_SHARE:.0f} % of it", remedy=remedy)


def _check_strangers(board: Board) -> Finding:
    if board.state.processes is None:
        return Finding("processes", ok=True, message=f"cannot be told: {board.state.unavailable['processes']}")
    strangers = find_strangers(board.state, frozenset({os.getpid()}), holds_context=torch.cuda.memory_reserved() > 0)
    message = f"other processes use the GPU: {', '.join(map(str, strangers))}" if strangers else "no other process on the GPU"
    return _judge("processes", ok=not strangers, message=message, wanted="a GPU of its own", remedy="End them, or choose another GPU.")


def _check_power_limit(board: Board) -> Finding:
    limit, default = board.state.power_limit_w, board.default_power_limit_w
    if limit is None or default is None:
        reason = board.state.unavailable.get("power_limit_w") or board.unavailable.get("default_power_limit_w")
        return Finding("power limit", ok=True, message=f"cannot be told: {reason}")
    remedy = f"Set it back: nvidia-smi -pl {default:g}"
    return _judge("power limit", ok=limit >= default, message=f"{limit:g} W, default {default:g} W", wanted="the default or more", remedy=remedy)


def _check_clocks(state: BoardState) -> Finding:
    if state.event_reasons is None:
        return Finding("clocks", ok=True, message=f"cannot be told: {state.unavailable['event_reasons']}")
    message = f"held by: {', '.join(state.event_reasons) or 'nothing'}"
    slowed = {*state.event_reasons} & (THERMAL | POWER_BRAKE)
    wanted = "clocks that neither heat nor a power brake holds"
    return _judge("clocks", ok=not slowed, message=message, wanted=wanted, remedy="See to cooling and power supply, let the GPU rest, try again.")


def _check_ecc(state: BoardState) -> Finding:
    if state.ecc_uncorrected is None:
        return Finding("ecc", ok=True, message=f"cannot be told: {state.unavailable['ecc_uncorrected']}")
    message = f"{state.ecc_uncorrected} uncorrected memory errors since the driver was loaded"
    return _judge("ecc", ok=state.ecc_uncorrected == 0, message=message, wanted="none", remedy="Reset the GPU (nvidia-smi -r) or replace it.")


def _check_torch_build(board: Board | None) -> list[Finding]:
    built = torch.version.cuda
    if built is None:
        remedy = "Use the CUDA image (docker/cuda) or a CUDA build of torch, or choose --profile cpu."
        return [_judge("torch build", ok=False, message=f"torch {torch.__version__} is built without CUDA", wanted="a build with CUDA", remedy=remedy)]
    message = f"torch {torch.__version__} for CUDA {built}"
    remedy = "torch finds no CUDA device: check the driver, CUDA_VISIBLE_DEVICES and the container's GPU."
    findings = [_judge("torch build", ok=torch.cuda.is_available(), message=message, wanted="one that finds a device", remedy=remedy)]
    if board is not None and board.cuda_driver is not None:
        # any driver of a CUDA major version serves every minor version of it (CUDA Compatibility guide)
        ok = int(board.cuda_driver.split(".")[0]) >= int(built.split(".")[0])
        message = f"driver {board.driver} serves CUDA {board.cuda_driver}, torch is built for CUDA {built}"
        wanted = "a driver of the same CUDA major version or a later one"
        findings.append(_judge("cuda", ok=ok, message=message, wanted=wanted, remedy=f"Install a driver for CUDA {built}, or a torch build for an older CUDA."))
    if board is not None and board.compute_capability is not None:
        archs = torch.cuda.get_arch_list()
        message = f"compute capability {board.compute_capability}, torch is built for {' '.join(archs) or 'none'}"
        ok = serves_capability(archs, board.compute_capability)
        findings.append(_judge("architecture", ok=ok, message=message, wanted="a build that has it", remedy="Use a torch build that has this architecture."))
    return findings


def serves_capability(archs: Sequence[str], capability: str) -> bool:
    """Whether a build for these architectures (sm_80, compute_90, ...) runs on a GPU of this compute capability ("8.6").

    Machine code runs on later minor versions of the same major one, PTX (compute_) on everything later; code for an
    architecture with a suffix (sm_90a) runs on that one alone. Source: CUDA C++ programming guide, application compatibility.
    """
    major, minor = (int(part) for part in capability.split("."))
    for arch in archs:
        kind, _, digits = arch.partition("_")
        if not digits.isdigit():
            if digits[:-1] == f"{major}{minor}" and kind == "sm":
                return True
            continue
        built = int(digits[:-1]), int(digits[-1])
        if (kind == "sm" and built[0] == major and built[1] <= minor) or (kind == "compute" and built <= (major, minor)):
            return True
    return False


def _check_speed(profile: Profile, device: torch.device) -> list[Finding]:
    precisions = [p for p in DTYPES if p in profile.peak_flops] or ([Precision.FP32, Precision.BF16] if device.type == "cpu" else [Precision.FP32])
    reached = calibrate_device(device, precisions)
    products = []
    for precision, flops in reached.flops.items():
        message = f"{precision} matrix product {flops / 1e12:.3g} TFLOP/s"
        products.append(_compare_speed(f"matrix product {precision}", message, flops, profile.peak_flops.get(precision), PRODUCT_SHARE))
    chosen, reason = choose_precision(profile, precisions)
    return [
        *products,
        Finding("open division", ok=True, message=f"runs in {chosen}: {reason}"),
        _compare_speed("copy", f"copy {reached.bandwidth / 1e9:.3g} GB/s, read and written", reached.bandwidth, profile.bandwidth, COPY_SHARE),
    ]


def _compare_speed(name: str, message: str, reached: float, promised: Figure | None, least: float) -> Finding:
    if promised is None:
        return Finding(name, ok=True, message=f"{message}; the profile promises nothing")
    share = reached / promised.value
    remedy = "Something holds the machine back: other work, heat, a power limit, a PCIe fault, or the wrong profile."
    return _judge(name, ok=share >= least, message=f"{message}, {100 * share:.0f} % of the datasheet", wanted=f"{100 * least:.0f} % or more", remedy=remedy)
