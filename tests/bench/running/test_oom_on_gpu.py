"""A case that does not fit costs nothing but itself."""

import subprocess
import sys

import pytest
import torch

from assay.bench.case import Outcome, UsageError
from assay.bench.profiles import match_gpu
from assay.bench.records.store import RunStore


def find_profile(device: str) -> str:
    if device == "cpu":
        return "cpu"
    try:
        return match_gpu(torch.cuda.get_device_name(0)).name
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_case_too_large_has_its_record_and_the_next_one_runs(project, device):
    command = [sys.executable, "-m", "bench", "run", "--profile", find_profile(device), "--jobs", "1", "--name", f"too-large-{device}"]
    done = subprocess.run([*command, "--select", "accidents and (runs-out or well) and train"], cwd=project, capture_output=True, text=True, timeout=200)
    too_large, well = RunStore(project / "results" / "runs" / f"too-large-{device}").read()
    assert (too_large.case.variant, too_large.outcome) == ("runs-out", Outcome.OOM), done.stderr
    assert ("OutOfMemoryError" if device == "cuda" else "MemoryError") in (too_large.reason or "")
    assert (well.case.variant, well.reason) == ("well", None), done.stderr
    assert well.outcome is Outcome.OK
    assert "rmse" in well.quality
