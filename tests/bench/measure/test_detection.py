"""Which profile a machine is of: by what torch can use, and never the CPU in silence."""

import pytest
import torch

from assay.bench.case import UsageError
from assay.bench.measure import detection
from assay.bench.measure.detection import detect_profile


def detect_with(monkeypatch, *, cuda=None, built_for=None, mps=None):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: cuda)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps is not None)
    monkeypatch.setattr(detection, "name_apple_chip", lambda: mps)
    return detect_profile()


def test_detection_takes_what_torch_can_use(monkeypatch):
    assert detect_with(monkeypatch).name == "cpu"
    assert detect_with(monkeypatch, cuda="NVIDIA A40", built_for="13.0").name == "a40"
    assert detect_with(monkeypatch, mps="Apple M1").name == "m1"
    with pytest.raises(UsageError, match="no profile for the GPU 'NVIDIA GeForce GTX 1080'"):
        detect_with(monkeypatch, cuda="NVIDIA GeForce GTX 1080", built_for="12.6")
