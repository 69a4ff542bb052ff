"""The few names that torch 2.1, the one of the Triton 2 image, has under other names. Goes when that image goes.

Here and not where they are used: the workloads' sources decide which records may be compared, and they need not change for an old torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def adapt_torch() -> None:
    """Adds what is missing; does nothing on torch 2.5 and later."""
    amp: Any = torch.amp
    if not hasattr(amp, "GradScaler"):  # 2.3
        amp.GradScaler = _make_scaler
    module: Any = torch.nn.Module
    if not hasattr(module, "register_load_state_dict_pre_hook"):  # 2.5
        module.register_load_state_dict_pre_hook = _register_pre_hook


def _make_scaler(device: str, *, enabled: bool) -> Any:
    if enabled and device != "cuda":
        raise RuntimeError(f"torch {torch.__version__} scales gradients on CUDA only, not on {device}")
    scaler: Any = torch.cuda.amp.GradScaler
    return scaler(enabled=enabled)


def _register_pre_hook(module: Any, hook: Callable[..., None]) -> Any:
    return module._register_load_state_dict_pre_hook(hook, with_module=True)
