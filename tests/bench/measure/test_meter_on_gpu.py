"""What a real board says: its peak lies between torch's and its size, its energy counter moves, and a neighbour on it is noticed."""

import subprocess
import sys
import time

import pytest
import torch

from assay.bench.measure.energy import MIN_SECONDS
from assay.bench.measure.meter import Meter
from assay.bench.measure.nvml import query_board

MIB = 1 << 20
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
HELD = 512 * MIB
NEIGHBOUR = """
import sys, torch
held = torch.ones(64 << 20, device=sys.argv[1])
if held.device.type == "cuda":
    torch.cuda.synchronize()
print("ready", flush=True)
sys.stdin.read()
"""


def work(device, seconds):
    """Holds memory and computes for so long; at least one product."""
    held, until = torch.ones(HELD // 4, device=device), time.monotonic() + seconds
    square = torch.ones(512, 512, device=device)
    while True:
        product = square @ square
        if time.monotonic() >= until:
            return float(product[0, 0]) + float(held[0])


@pytest.mark.parametrize(("device", "seconds"), [(CPU, 0.0), pytest.param(CUDA, MIN_SECONDS + 0.5, marks=pytest.mark.gpu)])
def test_the_boards_peak_lies_between_torchs_and_its_size_and_its_energy_counter_moves(device, seconds):
    with Meter(device) as meter, meter.window() as window:
        assert work(device, seconds) == 513
    measured = window.measurements(samples=1)
    if device == CPU:
        assert measured["device_peak"].reason == measured["energy"].reason == "the case ran on the CPU"
        return
    board = query_board()
    assert not isinstance(board, str), board
    assert window.findings == ()
    allocated, reserved, peak = (measured[name].value or 0 for name in ("allocated_peak", "reserved_peak", "device_peak"))
    assert HELD <= allocated <= reserved <= peak <= board.memory_bytes
    assert (measured["non_torch"].value or 0) == peak - reserved
    assert (measured["energy"].value or 0) > 0, measured["energy"].reason


@pytest.mark.parametrize("device", [CPU, pytest.param(CUDA, marks=pytest.mark.gpu)])
def test_a_neighbour_on_the_board_is_noticed(device):
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(device)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with neighbour, Meter(device) as meter:
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == "ready\n"
        with meter.window() as window:
            work(device, 0.5 if device.type == "cuda" else 0.0)
        neighbour.communicate("")
    if device == CPU:
        assert window.findings == ()
        return
    board = query_board()
    if isinstance(board, str) or not board.state.processes:
        pytest.skip("NVML lists no process here, not even this one: in a container without the host's process ids a neighbour cannot be seen")
    assert any("another process used the GPU" in finding for finding in window.findings), window.findings
