"""Which profile this machine is of."""

from __future__ import annotations

import torch

from assay.bench.case import UsageError
from assay.bench.measure.nvml import query_board
from assay.bench.profiles import Profile, load_profile, match_gpu, name_apple_chip


def detect_profile() -> Profile:
    """The profile of the device that torch would compute on: the first CUDA device, an Apple GPU, else the CPU.

    Raises UsageError for a GPU without a profile, and where torch has CUDA and a GPU is there but cannot be used: taking
    the CPU in silence would hide that.
    """
    if torch.cuda.is_available():
        return match_gpu(torch.cuda.get_device_name(0))
    if torch.version.cuda is not None and not isinstance(board := query_board(), str):
        raise UsageError(f"torch {torch.__version__} cannot use the {board.name} that is here (driver {board.driver}): mend that, or run with --profile cpu")
    if torch.backends.mps.is_available():
        return match_gpu(name_apple_chip())
    return load_profile("cpu")


def choose_profile(name: str | None) -> Profile:
    """The profile of that name, else this machine's. Raises UsageError as `load_profile` and `detect_profile` do."""
    return load_profile(name) if name else detect_profile()
