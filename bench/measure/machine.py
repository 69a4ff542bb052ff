"""Where and with what a case runs: the provenance of a record."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from assay import __version__
from assay.bench.checkout import CHECKOUT, ROOT
from assay.bench.measure.board import Board
from assay.bench.measure.device import find_uuid
from assay.bench.measure.nvml import query_board
from assay.bench.profiles import name_apple_chip
from assay.bench.records.record import Environment, Machine

IMAGE_VARIABLE = "ASSAY_IMAGE"  # set in the images: which of them this is
REVISION_VARIABLE = "ASSAY_REVISION"  # likewise: the commit that it was built from
DIGEST_VARIABLE = "BENCH_IMAGE_DIGEST"
CPUINFO = Path("/proc/cpuinfo")


def identify_machine(device: torch.device) -> Machine:
    """The machine, and the GPU when the device is one."""
    unavailable: dict[str, str] = {}
    cpu = _name_cpu()
    if cpu is None:
        unavailable["cpu"] = "the system names no CPU model; its architecture stands instead"
    gpu: dict[str, object] = {}
    if device.type == "cuda":
        board = query_board(find_uuid(device))
        gpu, missing = _describe_torch_gpu(device, board) if isinstance(board, str) else _describe_board(board)
        unavailable |= missing
    elif device.type == "mps":
        gpu["gpu"] = name_apple_chip()
        unavailable["gpu_memory_bytes"] = "the GPU shares the main memory"
    else:
        unavailable["gpu"] = f"the case ran on {device.type}"
    return Machine.model_validate(
        {
            "cpu": cpu or platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.platform(),
            "unavailable": unavailable,
        }
        | gpu
    )


def _name_cpu() -> str | None:
    if CPUINFO.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
        return found[1].strip() if found else None
    return name_apple_chip() if platform.system() == "Darwin" else None


def _describe_board(board: Board) -> tuple[dict[str, object], dict[str, str]]:
    state = board.state
    gpu: dict[str, object] = {
        "gpu": board.name,
        "gpu_memory_bytes": board.memory_bytes,
        "gpu_uuid_sha256": None if board.uuid is None else hashlib.sha256(board.uuid.encode()).hexdigest(),
        "compute_capability": board.compute_capability,
        "driver": board.driver,
        "cuda_driver": board.cuda_driver,
        "ecc": board.ecc,
        "mig": board.mig,
        "power_limit_w": state.power_limit_w,
        "sm_clock_mhz": state.sm_clock_mhz,
        "memory_clock_mhz": state.memory_clock_mhz,
        "event_reasons": state.event_reasons or (),
    }
    missing = board.unavailable | state.unavailable
    names = {"name": "gpu", "uuid": "gpu_uuid_sha256"}
    return gpu, {names.get(field, field): reason for field, reason in missing.items() if names.get(field, field) in gpu}


def _describe_torch_gpu(device: torch.device, reason: str) -> tuple[dict[str, object], dict[str, str]]:
    absent = ("gpu_uuid_sha256", "driver", "cuda_driver", "ecc", "mig", "power_limit_w", "sm_clock_mhz", "memory_clock_mhz", "event_reasons")
    missing = dict.fromkeys(absent, reason)
    if not torch.cuda.is_available():
        return {}, missing | {"gpu": reason}
    properties = torch.cuda.get_device_properties(device)
    gpu = {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "compute_capability": f"{properties.major}.{properties.minor}"}
    return dict(gpu), missing


def identify_environment(root: Path, command: Sequence[str]) -> Environment:
    """Versions, lock, image and source below root, and the command that was given."""
    unavailable: dict[str, str] = {}

    def keep(field: str, found: str | None, reason: str) -> str | None:
        if found is None:
            unavailable[field] = reason
        return found

    packages = {distribution.name: distribution.version for distribution in importlib.metadata.distributions()}
    lock = Path("docker", os.environ.get(IMAGE_VARIABLE, "cpu"), "requirements.txt")
    lock_bytes = (root / lock).read_bytes() if (root / lock).exists() else None
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    sha, dirty = _describe_source(root, unavailable)
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        cuda=keep("cuda", torch.version.cuda, "this torch is built without CUDA"),
        cudnn=keep("cudnn", None if cudnn is None else str(cudnn), "this torch is built without cuDNN"),
        triton=keep("triton", packages.get("triton"), "not installed"),
        packages_sha256=hashlib.sha256("\n".join(sorted(f"{name}=={version}" for name, version in packages.items())).encode()).hexdigest(),
        lock_sha256=keep("lock_sha256", None if lock_bytes is None else hashlib.sha256(lock_bytes).hexdigest(), f"no {lock} here"),
        image_digest=_read_image_digest(unavailable),
        git_sha=sha,
        git_dirty_sha256=dirty,
        command=tuple(command),
        unavailable=unavailable,
    )


def _read_image_digest(unavailable: dict[str, str]) -> str | None:
    digest = os.environ.get(DIGEST_VARIABLE, "")
    if re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return digest
    what = f"is {digest!r}, not sha256:<64 hexadecimal digits>" if digest else "is not set: not run from a known image"
    unavailable["image_digest"] = f"{DIGEST_VARIABLE} {what}"
    return None


class _GitFailed(Exception):
    """git is missing or refused; the message is the reason."""


def _describe_source(root: Path, unavailable: dict[str, str]) -> tuple[str | None, str | None]:
    """Commit, and a hash over every file that differs from it, or None for a clean tree.

    results/ is left out: a run writes there, and its second record would differ from its first for that alone.
    """
    if revision := os.environ.get(REVISION_VARIABLE):
        return _read_revision(revision, unavailable)
    if root == ROOT and CHECKOUT is None:  # a repository around it is somebody else's
        unavailable["git_sha"] = unavailable["git_dirty_sha256"] = f"assay {__version__} was installed without its checkout"
        return None, None
    here = [".", ":(exclude)results"]
    try:
        sha = _ask_git(root, "rev-parse", "HEAD").decode().strip()
        changed = _ask_git(root, "diff", "--name-only", "--relative", "-z", "HEAD", "--", *here)
        untracked = _ask_git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *here)
    except _GitFailed as failure:
        unavailable["git_sha"] = unavailable["git_dirty_sha256"] = str(failure)
        return None, None
    names = sorted({*changed.split(b"\0"), *untracked.split(b"\0")} - {b""})
    return sha, _hash_named_files(root, names) if names else None


def _read_revision(revision: str, unavailable: dict[str, str]) -> tuple[str | None, None]:
    """The commit that an image was built from; nothing in an image changes after that."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision, None
    reason = f"{REVISION_VARIABLE} is {revision!r}: the image was not built from a commit as it stands"
    unavailable["git_sha"] = unavailable["git_dirty_sha256"] = reason
    return None, None


def _ask_git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False, timeout=30)
    except FileNotFoundError:
        raise _GitFailed("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise _GitFailed("git did not answer within 30 s") from None
    if done.returncode:
        raise _GitFailed((done.stderr.decode(errors="replace").strip().splitlines() or ["git failed"])[0])
    return done.stdout


def _hash_named_files(root: Path, names: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for name in names:
        path = root / os.fsdecode(name)
        digest.update(name + b"\0" + (hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"gone"))
    return digest.hexdigest()
