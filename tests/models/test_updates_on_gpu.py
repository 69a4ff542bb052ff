"""What only a GPU can show of training: its updates are the CPU's, a seed repeats them, and no step waits for it. The CPU runs the same code."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from bench.case import Case, Division, Phase, Precision, Preset
from bench.registry import get_workload, load_workloads
from models.dnabert.attention.registry import AttentionKind, load_attention
from models.dnabert.tasks import FrozenSession, element_type
from models.dropout import QuickDropout
from models.workload import Resources, Session
from tests.models.test_training import open_session

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
STEPS = 3
FP32_TOLERANCE = 1e-3  # of the length of a network's whole gradient; the order of sums differs, and batch normalisation of a few rows magnifies it
OPTIMISER_TOLERANCE = 1e-4  # of the length of an update from equal gradients, in float32
Open = Callable[..., Session]


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
    """Every case on the GPU, and on the CPU, which checks the test itself, one of each family, in bfloat16 where there is one."""
    on_cpu = sorted((case for case in cases if case.precision is not Precision.FP16), key=lambda case: case.precision is Precision.BF16)
    families = {get_workload(case.workload).family: case for case in on_cpu}
    own = [pytest.param(case, CPU, id=f"cpu-{case.id}") for case in families.values()]
    return [*own, *(pytest.param(case, CUDA, id=f"cuda-{case.id}", marks=pytest.mark.gpu) for case in cases)]


@pytest.fixture
def open_case(tmp_path) -> Open:
    def open_on(case: Case, device: torch.device) -> Session:
        return get_workload(case.workload).open(case, Resources(device=device, data=None, batch=None, seed=3, cache=tmp_path))

    return open_on


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


def observe_update(session: Session, instead: Sequence[Tensor] = ()) -> tuple[list[Tensor], Tensor]:
    """One step: the gradients that reached the optimisers, and how far the weights went. instead: gradients to take the update by."""
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
    return seen, flatten(session.model) - before


def measure_error(own: Tensor, truth: Tensor) -> float:
    """Length of the difference over the length of the truth; 0 where both are zero, as the first update of a learning rate that rises from there."""
    return 0.0 if torch.equal(own, truth) else float((own - truth).norm() / truth.norm())


def observe(session: Session) -> tuple[Tensor, list[Tensor], Tensor]:
    """What stands for one step, and if it updates, its gradients and the update. A frozen encoder takes none: its embeddings decide predictions."""
    if isinstance(session, FrozenSession):
        predicted = torch.from_numpy(session.predict_test()).flatten()
        return predicted, [], predicted
    gradients, change = observe_update(session)
    assert len(gradients) > 0
    return torch.cat([gradient.flatten() for gradient in gradients]), gradients, change


@pytest.mark.parametrize(("case", "device"), mark_devices(list_cases()))
def test_an_update_is_the_cpus(case, device, open_case, monkeypatch):
    """Gradients in float32 within a thousandth; in half precision within twice what bfloat16 costs on the CPU. From one gradient, one update."""
    monkeypatch.setattr(torch.amp, "GradScaler", lambda kind, enabled, scaler=torch.amp.GradScaler: scaler(kind, init_scale=128.0, enabled=enabled))
    own, gradients, change = observe(open_case(case, device))
    exact = replace(case, precision=Precision.FP32)
    truth, _, _ = observe(open_case(exact, CPU))
    allowed = FP32_TOLERANCE
    if case.precision is not Precision.FP32:
        allowed += 2 * measure_error(observe(open_case(replace(case, precision=Precision.BF16), CPU))[0], truth)
    assert measure_error(own, truth) <= allowed
    if gradients:
        _, expected = observe_update(open_case(exact, CPU), gradients)
        assert measure_error(change, expected) <= OPTIMISER_TOLERANCE


@pytest.mark.parametrize(("case", "device"), mark_devices([case for case in list_cases() if case.precision is Precision.FP32]))
def test_a_seed_twice_gives_the_same_weights(case, device, open_case, monkeypatch):
    """To the last bit, where torch has kernels whose sums have an order; else it names those without, and the weights are close."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS promises no order
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            one, other = (take_steps(open_case(case, device)) for _ in range(2))
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
    case = Case("dnabert-s", "", Phase.ATTENTION, Preset.STANDARD, Division.OPEN, Precision.BF16)
    return [replace(case, variant=f"attention-{kind}") for kind in AttentionKind]


@pytest.mark.filterwarnings("default")  # torch's compiler imports what torch deprecates
@pytest.mark.parametrize(("case", "device"), mark_devices([*list_cases(), *list_attention()]))
def test_no_step_and_no_inference_waits(case, device, open_case):
    if case.phase is Phase.ATTENTION:
        backend = load_attention(AttentionKind(case.variant.removeprefix("attention-")))
        if (reason := backend.explain_absence(device, element_type(case.precision), needs_gradient=True)) is not None:
            pytest.skip(f"{case.variant} cannot run here: {reason}")
    session = open_case(case, device)
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
    assert caught.traceback[-1].path.name == "grad_scaler.py"
