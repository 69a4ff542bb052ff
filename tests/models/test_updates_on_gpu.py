"""What only a GPU can show of training: its updates are the CPU's, a seed repeats them, and no step waits for it. The CPU runs the same code."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.bench.registry import get_workload, load_workloads
from assay.models.dnabert.attention.registry import AttentionKind, load_attention
from assay.models.dnabert.tasks import element_type
from assay.models.dropout import QuickDropout
from assay.models.workload import Resources, Session
from tests.models.test_training import open_session

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
STEPS = 3
FP32_TOLERANCE = 1e-3  # of the length of a network's whole gradient; the order of sums differs, and batch normalisation of a few rows magnifies it
OPTIMISER_TOLERANCE = 1e-4  # of the length of an update from equal gradients, in float32


def list_cases() -> list[Case]:
    """Of each workload, division and precision one variant."""
    found: dict[tuple[str, Division, Precision], Case] = {}
    for workload in load_workloads().values():
        for variant in workload.variants.values():
            for division, precisions in variant.precisions.items():
                for precision in precisions:
                    if Preset.SMOKE in variant.presets and Phase.TRAIN in variant.phases:
                        case = Case(workload.name, variant.name, Phase.TRAIN, Preset.SMOKE, division, precision)
                        found.setdefault((workload.name, division, precision), case)
    return list(found.values())


def mark_devices(cases: Sequence[Case]) -> list[Any]:
    """Every case on the GPU, and on the CPU, which checks the test itself, one of each family in float32 and one in bfloat16."""
    families = {get_workload(case.workload).family: case for case in cases if case.precision is Precision.FP32}
    halves = [case for case in cases if case.precision is Precision.BF16][:1]
    own = [pytest.param(case, CPU, id=f"cpu-{case.id}") for case in (*families.values(), *halves)]
    return [*own, *(pytest.param(case, CUDA, id=f"cuda-{case.id}", marks=pytest.mark.gpu) for case in cases)]


class Opened:
    """Sessions, of which the latest of each case and device is kept for tests that do not ask for a fresh one."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._latest: dict[tuple[Case, torch.device], Session] = {}

    def anew(self, case: Case, device: torch.device) -> Session:
        resources = Resources(device=device, data=None, batch=None, seed=3, cache=self._cache)
        session = self._latest[case, device] = get_workload(case.workload).open(case, resources)
        return session

    def latest(self, case: Case, device: torch.device) -> Session:
        return self._latest.get((case, device)) or self.anew(case, device)


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Opened:
    return Opened(tmp_path_factory.mktemp("cache"))


class WithoutChance(TorchFunctionMode):
    """No dropout, and every other random number drawn on the CPU: the devices' generators differ."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {**(kwargs or {})}
        if func is F.dropout:
            return args[0]
        if func is F.scaled_dot_product_attention:
            return func(*args[:4], **{**given, "dropout_p": 0.0})
        if func is torch.rand:
            return func(*args, **{**given, "device": CPU}).to(given.get("device", CPU))
        if func is torch.randn_like:
            return torch.randn(args[0].shape, dtype=args[0].dtype).to(args[0].device)
        return func(*args, **given)


def flatten(model: nn.Module) -> Tensor:
    """All weights as float64 on the CPU."""
    return torch.cat([weights.detach().cpu().double().flatten() for weights in model.parameters()])


@dataclass(frozen=True)
class Update:
    """What one step did: the gradients that reached the optimisers, and how far the weights went."""

    gradients: list[Tensor]
    change: Tensor

    @property
    def gradient(self) -> Tensor:
        return torch.cat([gradient.flatten() for gradient in self.gradients])


def observe_update(session: Session, instead: Sequence[Tensor] = ()) -> Update:
    """One step. instead: gradients to go by in place of its own."""
    seen: list[Tensor] = []

    def note(optimiser: Optimizer, _args: object, _kwargs: object) -> None:
        scale = getattr(optimiser, "grad_scale", None)  # of a fused optimiser in float16, which takes it out by itself
        for weights in (weights for group in optimiser.param_groups for weights in group["params"] if weights.grad is not None):
            seen.append((weights.grad if scale is None else weights.grad / scale).cpu().double())
            if instead:
                weights.grad.copy_(instead[len(seen) - 1])

    for module in session.model.modules():
        if isinstance(module, QuickDropout):
            module.dropped = 0
    before = flatten(session.model)
    handle = register_optimizer_step_pre_hook(note)
    try:
        with WithoutChance():
            session.step()
    finally:
        handle.remove()
    return Update(seen, flatten(session.model) - before)


def measure_error(own: Tensor, truth: Tensor) -> float:
    """Length of the difference over the length of the truth; 0 where both are zero, as the first update of a learning rate that rises from there."""
    return 0.0 if torch.equal(own, truth) else float((own - truth).norm() / truth.norm())


@pytest.mark.parametrize(("case", "device"), mark_devices([case for case in list_cases() if case.workload != "dnabert-s"]))
def test_an_update_is_the_cpus(case, device, opened, monkeypatch):
    """Gradients in float32 within a thousandth; in half precision within twice what bfloat16 costs on the CPU. From one gradient, one update."""
    monkeypatch.setattr(torch.amp, "GradScaler", lambda kind, enabled, scaler=torch.amp.GradScaler: scaler(kind, init_scale=128.0, enabled=enabled))
    own = observe_update(opened.anew(case, device))
    exact = observe_update(opened.anew(replace(case, precision=Precision.FP32), CPU), own.gradients)
    allowed = FP32_TOLERANCE
    if case.precision is not Precision.FP32:
        rounded = observe_update(opened.anew(replace(case, precision=Precision.BF16), CPU))
        allowed += 2 * measure_error(rounded.gradient, exact.gradient)
    assert measure_error(own.gradient, exact.gradient) <= allowed
    assert measure_error(own.change, exact.change) <= OPTIMISER_TOLERANCE


@pytest.mark.parametrize("device", [CPU, pytest.param(CUDA, marks=pytest.mark.gpu)])
def test_a_frozen_encoder_tells_the_same_of_the_test_rows(device, opened):
    """It takes no updates: its embeddings decide what the untrained head says."""
    case = next(case for case in list_cases() if case.workload == "dnabert-s")
    own, exact = (torch.from_numpy(opened.anew(case, place).predict_test()) for place in (device, CPU))
    assert measure_error(own, exact) <= FP32_TOLERANCE


@pytest.mark.parametrize(("case", "device"), mark_devices([case for case in list_cases() if case.precision is Precision.FP32]))
def test_a_seed_twice_gives_the_same_weights(case, device, opened, monkeypatch):
    """To the last bit, where torch has kernels whose sums have an order; else it names those without, and the weights are close."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS promises no order
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            one, other = (take_steps(opened.anew(case, device)) for _ in range(2))
    finally:
        torch.set_deterministic_debug_mode(before)
    if any("deterministic" in str(warning.message) for warning in told):
        assert measure_error(one, other) <= FP32_TOLERANCE
    else:
        assert torch.equal(one, other)


def take_steps(session: Session) -> Tensor:
    for _ in range(STEPS):
        session.step()
    return flatten(session.model)


@contextmanager
def forbid_waiting(device: torch.device) -> Iterator[None]:
    """Whatever waits for the GPU within raises RuntimeError."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def list_attention() -> list[Case]:
    """All backends but FlexAttention, for which torch's compiler would take most of a minute."""
    case = Case("dnabert-s", "", Phase.ATTENTION, Preset.STANDARD, Division.OPEN, Precision.BF16)
    return [replace(case, variant=f"attention-{kind}") for kind in AttentionKind if kind is not AttentionKind.FLEX]


@pytest.mark.parametrize(("case", "device"), mark_devices([*list_cases(), *list_attention()]))
def test_no_step_and_no_inference_waits(case, device, opened):
    if case.phase is Phase.ATTENTION:
        backend = load_attention(AttentionKind(case.variant.removeprefix("attention-")))
        if (reason := backend.explain_absence(device, element_type(case.precision), needs_gradient=True)) is not None:
            pytest.skip(f"{case.variant} cannot run here: {reason}")
    session = opened.latest(case, device)
    for _ in range(STEPS):  # libraries load and kernels are compiled
        session.step()
        session.infer()
    with forbid_waiting(device):
        for _ in range(STEPS):
            session.step()
            session.infer()


@pytest.mark.gpu
def test_in_float16_only_an_optimiser_that_is_not_fused_asks_whether_a_gradient_overflowed():
    apart, fused = (open_session(precision=Precision.FP16, device=CUDA, fused=fused) for fused in (False, True))
    for session in (apart, fused):
        session.step()
    with forbid_waiting(CUDA):
        fused.step()
        with pytest.raises(RuntimeError, match="synchroniz") as caught:
            apart.step()
    assert Path(caught.traceback[-1].path).name == "grad_scaler.py"
