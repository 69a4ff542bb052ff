"""No step and no inference waits for its device, shown without one: on torch's meta device, and in a CUDA build on one that is not there."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.bench.registry import get_workload, load_workloads
from assay.models.transfer import send
from assay.models.workload import Resources, Session

if TYPE_CHECKING:
    from tests.models.rehearsal import Rehearsal

STEPS = 3
CUDA = torch.device("cuda", 0)
ATTENTION = [f"dnabert-s/attention-{kind}/attention/standard/closed/fp32" for kind in ("eager", "sdpa")]
STREAMED = ["tissuebert/batch8/train/scale/closed/fp32", "tissuebert-region/documented/train/scale/closed/fp32"]  # no smoke case reads while it trains
Open = Callable[[torch.device], Session]


def list_cases() -> list[str]:
    """Of each workload and division one variant."""
    found: dict[tuple[str, Division], str] = {}
    for workload in load_workloads().values():
        for variant in workload.variants.values():
            for division, precisions in variant.precisions.items():
                case = Case(workload.name, variant.name, Phase.TRAIN, Preset.SMOKE, division, Precision.FP32)
                if Preset.SMOKE in variant.presets and Phase.TRAIN in variant.phases and Precision.FP32 in precisions:
                    found.setdefault((workload.name, division), case.id)
    return [*found.values(), *ATTENTION, *STREAMED]


def take_steps(session: Session) -> None:
    for _ in range(STEPS):
        assert session.infer() > 0
        assert session.step() > 0


@pytest.fixture
def open_case(tmp_path, request) -> Open:
    case = Case.parse(request.param)
    return lambda device: get_workload(case.workload).open(case, Resources(device=device, data=None, batch=None, seed=3, cache=tmp_path))


@pytest.mark.parametrize("open_case", list_cases(), indirect=True)
def test_values_are_asked_of_no_device(open_case, monkeypatch):
    """Tensors of the meta device have none to give: forward, backward and update."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda kind, *given, **named: nullcontext() if kind == "meta" else autocast(kind, *given, **named))
    monkeypatch.setattr(importlib.import_module("torch.optim.optimizer"), "_get_fused_kernels_supported_devices", lambda: ["meta"])
    take_steps(open_case(torch.device("meta")))


@pytest.fixture
def rehearsal(monkeypatch) -> "Rehearsal":
    if not torch.backends.cuda.is_built():
        pytest.skip("torch is a CPU build: a GPU that is not there takes a CUDA build")
    from torch._subclasses.fake_tensor import FakeTensor

    from tests.models.rehearsal import Rehearsal

    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)  # the driver pins
    monkeypatch.setattr(FakeTensor, "data_ptr", Tensor.__hash__, raising=False)  # tells whether weights were exchanged
    monkeypatch.setattr("assay.models.splice.ensemble.declaration.measure_memory", lambda member, device: None)
    return Rehearsal()


@pytest.mark.parametrize("open_case", list_cases(), indirect=True)
def test_no_step_waits_for_a_gpu(open_case, rehearsal, monkeypatch):
    """Forward and update; the gradients between them are zeros."""
    with rehearsal:
        session = open_case(CUDA)

        def differentiate(loss: Tensor) -> None:
            assert loss.device == CUDA
            for weights in session.model.parameters():
                weights.grad = torch.zeros_like(weights) if weights.requires_grad else None

        monkeypatch.setattr(Tensor, "backward", differentiate)
        monkeypatch.setattr(torch.autograd, "grad", lambda out, leaf, upstream: (torch.zeros_like(leaf),))
        rehearsal.strict = True
        take_steps(session)


@pytest.mark.parametrize(
    ("meet", "error"),
    [
        (lambda there: there.sum().item(), "DataDependentOutputException"),
        (lambda there: bool((there > 0).any()), "DataDependentOutputException"),
        (lambda there: there.tolist(), "DataDependentOutputException"),
        (lambda there: there[there > 0], "DynamicOutputShapeException"),
        (lambda there: there.nonzero(), "DynamicOutputShapeException"),
        (lambda there: there.cpu(), "WouldWait"),
        (lambda there: torch.ones(3).to(there.device), "WouldWait"),
        (lambda there: torch.tensor([1.0, 2.0, 3.0], device=there.device), "WouldWait"),
        (lambda there: there[torch.tensor([0, 2])], "WouldWait"),
        (lambda there: there.copy_(torch.ones(3)), "WouldWait"),
        (lambda there: there + torch.ones(3), "RuntimeError"),
    ],
)
def test_the_rehearsal_stops_where_host_and_gpu_meet(meet, error, rehearsal):
    with rehearsal:
        there = torch.zeros(3, device=CUDA)
        rehearsal.strict = True
        with pytest.raises(getattr(importlib.import_module("tests.models.rehearsal"), error, RuntimeError)) as caught:
            meet(there)
    assert any(entry.name == "<lambda>" for entry in caught.traceback)  # the line that is at fault


def test_the_rehearsal_lets_through_what_waits_for_nothing(rehearsal):
    with rehearsal:
        network = nn.Linear(3, 2).to(CUDA)
        rehearsal.strict = True
        out = network(send(torch.ones(4, 3), CUDA))
        assert (out.device, out.shape) == (CUDA, (4, 2))
        assert torch.arange(3).tolist() == [0, 1, 2]  # in the host's memory
