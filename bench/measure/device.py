"""Which GPU of NVML a torch device is."""

from __future__ import annotations

import os

import torch


def find_uuid(device: torch.device) -> str | None:
    """UUID of torch's CUDA device, as NVML writes it.

    torch and NVML number GPUs differently, so an index would not do. None where nothing names the GPU (torch before 2.4,
    or a build without CUDA): NVML then takes the only GPU that it sees, and refuses to choose among several.
    """
    index = device.index or 0
    if torch.cuda.is_available():
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        if uuid is not None:
            return f"GPU-{uuid}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    chosen = visible[index].strip() if index < len(visible) else ""
    return chosen if chosen.startswith(("GPU-", "MIG-")) else None
