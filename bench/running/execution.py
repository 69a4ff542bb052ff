"""One case from open session to finished record: what the pytest cases call, step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from assay.bench.case import Case, Outcome, Phase, Preset, Quantity
from assay.bench.checkout import ROOT
from assay.bench.measure.clock import plan_rounds, run_round, summarise_rounds
from assay.bench.measure.flops import count_work, utilise
from assay.bench.measure.machine import identify_environment, identify_machine
from assay.bench.measure.meter import Meter, Window
from assay.bench.measure.precision import require_precision
from assay.bench.measure.torch21 import adapt_torch
from assay.bench.profiles import Profile
from assay.bench.records.comparability import choose_threads, compare_key, name_attention
from assay.bench.records.record import CaseFields, Comparability, Dataset, Environment, Machine, Record
from assay.bench.records.store import RunStore, read_record
from assay.bench.registry import get_variant, get_workload
from assay.datasets.card import DatasetIdentity, MissingData
from assay.models.workload import History, Progress, Resources, Session

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

adapt_torch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user may choose for a case without changing the case."""

    run: Path
    profile: Profile
    data: Path | None
    seed: int
    cache: Path
    round_seconds: float
    rounds: int
    warm_up_seconds: float  # at most
    parallel: int
    command: tuple[str, ...]
    emulated: tuple[str, ...] = ()


@dataclass(slots=True)
class Execution:
    """A case under way. Collects what the record will say; nothing is written before `finish`."""

    case: Case
    settings: Settings
    progress: Progress
    find_neighbours: Callable[[], Collection[str]]  # other runs on this machine
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    measurements: dict[str, Quantity] = field(default_factory=dict)
    quality: dict[str, Quantity] = field(default_factory=dict)
    curves: dict[str, Sequence[float]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    weights_sha256: str | None = None
    _beside: set[str] = field(default_factory=set)
    _watch: ExitStack = field(default_factory=ExitStack)
    _meter: Meter | None = None
    _session: Session | None = None
    _machine: Machine | None = None
    _environment: Environment | None = None
    _identity: DatasetIdentity | None = None
    _comparability: Comparability | None = None

    @property
    def device(self) -> torch.device:
        # nobody has emulated CUDA: such a case runs on the CPU, and its record says that it is no measurement
        return torch.device("cpu" if self.settings.emulated else self.settings.profile.device)

    def open(self) -> Session:
        """Watches the profile's device from before its first use, identifies machine and environment, and opens the workload's session there."""
        self._meter = self._watch.enter_context(Meter(self.device))
        torch.set_num_threads(choose_threads(self.case, torch.get_num_threads()))
        if self.device.type == "cpu":
            torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, without its import of the whole compiler
        workload, settings = get_workload(self.case.workload), self.settings
        require_precision(self.case, get_variant(workload, self.case.variant), settings.profile)
        batch = settings.profile.choose_batch(self.case)
        self._machine = identify_machine(self.device)
        self._environment = identify_environment(ROOT, settings.command)
        self._identity = workload.identify(self.case, settings.data)
        self._comparability = self._compare(self.case)
        self._live(0, 0, "opening data and model")
        resources = Resources(device=self.device, data=settings.data, batch=batch, seed=settings.seed, cache=settings.cache, progress=self._live)
        self._session = workload.open(self.case, resources)
        self._comparability = name_attention(self._comparability, self._session.conditions)
        return self._session

    def _compare(self, case: Case) -> Comparability:
        """What this case, or another phase of it, is compared by here. All phases use the same data, which are hashed once."""
        assert self._machine is not None  # noqa: S101  # `open` comes first
        assert self._environment is not None  # noqa: S101
        assert self._identity is not None  # noqa: S101
        settings = self.settings
        return compare_key(case, self._identity, self._machine, self._environment, profile=settings.profile, seed=settings.seed, parallel=settings.parallel)

    def time(self, benchmark: BenchmarkFixture, step: Callable[[], int]) -> None:
        """Warms up, times rounds of steps through pytest-benchmark and watches memory and energy meanwhile."""
        assert self._meter is not None  # noqa: S101  # `open` comes first
        settings = self.settings
        self._live(0, 0, "warming up")
        samples: list[int] = []
        # before the window opens: energy per sample counts the samples of the rounds alone
        plan = plan_rounds(step, self.device, round_seconds=settings.round_seconds, rounds=settings.rounds, max_warmup_seconds=settings.warm_up_seconds)

        def timed_round() -> None:
            samples.append(run_round(step, self.device, plan.steps_per_round))
            self._live(len(samples), plan.rounds, "timing")

        with self._meter.window() as window:
            benchmark.pedantic(timed_round, rounds=plan.rounds, iterations=1)  # type: ignore[no-untyped-call]
        seconds: list[float] = benchmark.stats.stats.data  # type: ignore[union-attr]
        self.measurements |= summarise_rounds(seconds, samples, plan.steps_per_round)
        self.curves["step_s"] = [s / plan.steps_per_round for s in seconds]  # round by round, for tools that want more than a median
        self._keep(window, samples=sum(samples))
        if not plan.settled:
            self.measurements["warm_up_settled"] = Quantity.missing("", f"step time still drifted after {plan.warmup_steps} warm-up steps")
        self._use_of_peak(step, mean_samples=sum(samples) / (len(samples) * plan.steps_per_round))

    def fit(self, session: Session) -> None:
        """The full recipe as one round: wall time, time to the best epoch, loss curves, weights."""
        metric = get_workload(self.case.workload).target.metric
        reached: list[float] = []

        def follow() -> None:
            value = session.evaluate()[metric].value
            if value is not None:
                reached.append(value)

        # only documented conditions have a documented quality to wait for, and testing after every epoch is not free
        history = session.fit(self._live, follow if self.case.preset is Preset.DOCUMENTED else None)
        wall = history.seconds[-1]
        how = f"one training of {len(history.train_loss)} epochs"
        self.measurements |= {
            "train_wall_s": Quantity(wall, "s", how=how),
            "time_to_best_s": Quantity(history.seconds[history.best_epoch], "s", how=f"end of epoch {history.best_epoch + 1}, whose weights are kept"),
            "train_loss_first": Quantity(history.first_loss, "loss", how="first batch, before any update"),
            "train_loss_final": Quantity(history.train_loss[-1], "loss", how="mean over the last epoch"),
        }
        self._keep_curves(history)
        if len(reached) == len(history.seconds):
            self.curves[f"test_{metric}"] = reached
        self._save_weights(session)

    def load_weights(self, session: Session) -> str | None:
        """Loads what the training case of the same run left. Returns None, or the reason why there is nothing to load.

        Raises MissingData, which ends the case as skipped, for weights that this run's case would not have trained, or that no record vouches for.
        """
        training = replace(self.case, phase=Phase.TRAIN)
        path = self._weights_path(training)
        if not path.exists():
            return "no trained weights: the training case of this run did not finish here"
        weights = load_file(path)
        found = _hash_weights(weights)
        if fault := self._find_fault(training, found):
            remedy = f"Train them anew with --select '{training.id}', or choose another --name"
            raise MissingData(f"weights/{path.name}", fault, remedy)
        session.model.load_state_dict(weights)
        self.weights_sha256 = found
        return None

    def _find_fault(self, training: Case, weights_sha256: str) -> str | None:
        """Why the run's weights are not those that the training case would leave here and now; None when they are."""
        records = [record for record in map(read_record, RunStore(self.settings.run).find(training)) if record.weights_sha256 == weights_sha256]
        trained = records[-1].comparability if records else None
        if trained is None:
            return "no record of this run says how they were trained: the training was ended before its record, or the file was changed since"
        here = self._compare(training)
        # the session knows the attention kernel later, and how many cases ran beside the training changes its time only
        differences = here.model_copy(update={"attention": trained.attention, "parallel": trained.parallel}).differences(trained)
        return f"trained under other conditions (here -> there: {', '.join(differences)})" if differences else None

    def evaluate(self, session: Session) -> None:
        """Quality of the present weights on the test split."""
        self._live(0, 0, "scoring")
        self.quality |= session.evaluate()
        self.curves |= getattr(session, "curves", {})  # a session may leave some, e.g. the rows of a confusion matrix

    def finish(self, outcome: Outcome, reason: str | None) -> Path:
        """Writes the record, whatever happened before, and returns its path."""
        self._watch.close()
        self._beside.update(self.find_neighbours())
        if outcome is Outcome.OK and self.findings:
            outcome, reason = Outcome.INVALID, "; ".join(self.findings)
        session, settings = self._session, self.settings
        workload = get_workload(self.case.workload)
        card = None if session is None else session.card
        record = Record(
            run=settings.run.name,
            sequence=0,
            case=CaseFields.of(self.case),
            outcome=outcome,
            reason=reason,
            started=self.started,
            ended=datetime.now(UTC),
            profile=settings.profile.name,
            emulated=settings.emulated,
            comparability=self._comparability,
            conditions={} if session is None else session.conditions,
            dataset=None if card is None else Dataset.model_validate(asdict(card.identity) | {k: v for k, v in asdict(card).items() if k != "identity"}),
            recipe=workload.recipe(self.case),
            facts=workload.facts(self.case.variant),
            measurements=self.measurements,
            quality=self.quality,
            curves=self.curves,
            seeds={"python": settings.seed, "numpy": settings.seed, "torch": settings.seed, "loader": settings.seed},
            weights_sha256=self.weights_sha256,
            machine=self._machine,
            environment=self._environment,
            fitness=tuple(self.findings),
            beside=tuple(sorted(self._beside)),
        )
        return RunStore(settings.run).append(record)

    def _live(self, done: int, total: int, note: str, /) -> None:
        """A sign of life, and a moment to see who else runs."""
        self._beside.update(self.find_neighbours())
        self.progress(done, total, note)

    def _keep(self, window: Window, samples: int) -> None:
        self.measurements |= window.measurements(samples)
        self.findings += window.findings

    def _use_of_peak(self, step: Callable[[], int], mean_samples: float) -> None:
        work = count_work(step, mean_samples)
        speed = self.measurements["samples_per_s"].value
        if speed:
            # the mean step's time by its samples: rounds may hold more or fewer short batches than the median of step_ms has
            self.measurements |= work | utilise(work, mean_samples / speed, self.settings.profile, self.case.precision)

    def _keep_curves(self, history: History) -> None:
        self.curves |= {"train_loss": list(history.train_loss), "epoch_end_s": list(history.seconds)}
        if history.validation_loss:
            self.curves["validation_loss"] = list(history.validation_loss)
        self.curves |= {name: list(curve) for name, curve in history.curves.items()}

    def _weights_path(self, case: Case) -> Path:
        return self.settings.run / "weights" / (case.id.replace("/", ".") + ".safetensors")

    def _save_weights(self, session: Session) -> None:
        path = self._weights_path(self.case)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in session.model.state_dict().items()}, temporary)
        temporary.rename(path)
        self.weights_sha256 = _hash_weights(session.model.state_dict())


def _hash_weights(weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else str(tensor.item()).encode())
    return digest.hexdigest()
