"""A fixed matrix product in each precision and a fixed copy: what this machine reaches now of what its datasheet promises."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from assay.bench.case import Precision
from assay.bench.measure.clock import synchronise

SECONDS = 1.0  # each product and the copy
DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16, Precision.FP32: torch.float32}
PRODUCT_ROWS = {"cuda": 8192, "mps": 2048, "cpu": 1024}
COPY_BYTES = {"cuda": 1 << 30, "mps": 1 << 28, "cpu": 1 << 26}


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a machine reached: FLOP/s of a square matrix product by precision, bytes/s read and written by a copy."""

    flops: Mapping[Precision, float]
    bandwidth: float


def calibrate_device(device: torch.device, precisions: Sequence[Precision]) -> Calibration:
    """Runs the product in each of these precisions (fp32, fp16 or bf16) and the copy, for SECONDS each; the median call counts."""
    source = torch.ones(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _time_call(lambda: target.copy_(source), device)
    return Calibration({precision: time_product(device, precision) for precision in precisions}, 2 * source.numel() / copy)


def time_product(device: torch.device, precision: Precision) -> float:
    """FLOP/s of a square matrix product, median over SECONDS."""
    rows = PRODUCT_ROWS[device.type]
    # random numbers, not zeros: zeros draw less power and flatter the clock
    left = torch.randn(rows, rows, device=device, generator=torch.Generator(device).manual_seed(0)).to(DTYPES[precision])
    out = torch.empty_like(left)
    return 2 * rows**3 / _time_call(lambda: torch.mm(left, left, out=out), device)


def _time_call(call: Callable[[], object], device: torch.device) -> float:
    call()
    synchronise(device)
    times: list[float] = []
    while sum(times) < SECONDS:
        began = time.perf_counter()
        call()
        synchronise(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
