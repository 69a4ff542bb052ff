"""Hand-made records, claims and workloads for the pages."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay.bench.case import Case, Outcome, Quantity
from assay.bench.claims.documented import Claim, Claims, Fit
from assay.bench.records.record import CaseFields, Comparability, Dataset, Machine, Record
from assay.models.workload import Target

HASH = "0" * 64
BEGAN = datetime(2024, 1, 2, tzinfo=UTC)
XEON = Machine(cpu="Intel Xeon 6230", cores=4, threads=4, memory_bytes=2**34, system="Linux")
A40 = XEON.model_copy(update={"gpu": "NVIDIA A40", "gpu_memory_bytes": 45 << 30})
ABAG = Dataset(name="abag", sha256=HASH, synthetic=False, source="origin", licence="MIT", rows={"train": 231_532})
TWIN = Dataset(name="abag-twin", sha256=HASH, synthetic=True, source="generator", licence="Apache-2.0", rows={"train": 700})

MakeRecord = Callable[..., Record]


def _make_record(case: str = "affinity-v1/documented/train/smoke/closed/fp32", *, minutes: int = 0, identified: bool = True, older: bool = False, **changes: Any) -> Record:
    machine, data = changes.setdefault("machine", XEON), changes.setdefault("dataset", TWIN)
    key = Comparability(
        case=case,
        declaration_sha256="1" * 64 if older else HASH,
        dataset=(data or TWIN).name,  # a case knows what it is about to read
        dataset_sha256=HASH,
        environment=HASH,
        device=machine.gpu or machine.cpu,
        device_memory_gib=16,
        threads=4,
        seed=1,
        batch=changes.pop("batch", 128),
        torch="2.13.0",
    )
    fields: dict[str, Any] = {"run": "20240102-cpu-smoke", "sequence": 0, "case": CaseFields.of(Case.parse(case)), "outcome": Outcome.OK, "profile": "cpu"}
    fields |= {"started": BEGAN, "ended": BEGAN + timedelta(minutes=minutes), "comparability": key if identified else None}
    return Record.model_validate(fields | changes)


@pytest.fixture(autouse=True, scope="module")
def _present_source() -> Iterator[None]:
    """Hand-made records are of today's source unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.bench.records.comparability.hash_today", lambda case, profile: HASH)
        yield


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    return _make_record


@pytest.fixture
def workloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def declare(name: str, family: str, metric: str, summary: str, *, higher: bool) -> Any:
        return SimpleNamespace(name=name, family=family, summary=summary, target=Target(metric=metric, higher_is_better=higher))

    declared = {
        "affinity-v1": declare("affinity-v1", "affinity", "rmse", "Two hidden layers", higher=False),
        "affinity-v2": declare("affinity-v2", "affinity", "rmse", "Four hidden layers, the document's & <ours>.", higher=False),
        "splice-validated": declare("splice-validated", "splice", "pearson_sa", "Gated CNN", higher=True),
    }
    monkeypatch.setattr("assay.bench.report.leaderboard.load_workloads", lambda: declared)
    return declared


@pytest.fixture
def claims() -> Claims:
    def claim(name: str, value: str, **changes: Any) -> Claim:
        fields: dict[str, Any] = {"id": name, "workload": "affinity-v1", "metric": "rmse", "value": Decimal(value), "direction": "lower", "kind": "measured", "source": "004, v1 column"}
        return Claim.model_validate(fields | changes)

    real = {"variant": "documented", "dataset": "abag", "n_train": 231_532, "gpu": "A40"}
    return Claims(
        claim=(
            claim("affinity-v1-rmse", "1.4761", where=real),
            claim("affinity-v1-duration", "1860", metric="train_wall_s", where=real, source="004: 31 minutes."),
            claim("affinity-v1-params", "78000", metric="parameters", direction="equal", kind="fact", note="exactly 72,449 with batch norm"),
            claim("affinity-v1-small", "0.9", where=real | {"n_train": 1000, "epochs": 100}, note="two reports differ"),
            claim("splice-validated-r", "0.140", workload="splice-validated", metric="pearson_sa", direction="higher", source="000 | a table"),
        ),
        words={"rmse": "a root mean square error"},
        fits=(Fit(workload="affinity-v1", gpus={"A40-48GB": "oom", "M1-16GB": "slow"}), Fit(workload="splice-validated", called="large, 8K context", context_nt=8000, gpus={"A40-48GB": "fast"})),
    )


@pytest.fixture
def records() -> list[Record]:
    """A real run on a GPU, a twin's run on a CPU with ties, and every way to fail."""
    speed = {"samples_per_s": Quantity(12_345.6, "samples/s", 10, 12_001, 12_700), "train_wall_s": Quantity(1800.4, "s"), "time_to_best_s": Quantity(1500.0, "s")}
    gpu = {
        "allocated_peak": Quantity(0.33e9, "bytes"),
        "reserved_peak": Quantity(0.68e9, "bytes"),
        "device_peak": Quantity(1.1e9, "bytes"),
        "energy_per_1000_samples": Quantity(12.3, "J"),
        "mfu": Quantity(0.0312, "share"),
    }
    missing = {name: Quantity.missing("bytes", "the case ran on the CPU") for name in ("allocated_peak", "reserved_peak", "device_peak")}
    cpu = missing | {"samples_per_s": Quantity(5000.0, "samples/s", 10, 4900, 5100), "rss_peak": Quantity(0.512e9, "bytes")}
    real: dict[str, Any] = {"run": "20240102-a40-documented", "machine": A40, "dataset": ABAG, "profile": "a40", "facts": {"parameters": 72_449}}
    real["conditions"] = {"dataset": "abag", "n_train": 231_532, "batch": 128}

    def quality(value: float, half: float, name: str = "rmse") -> dict[str, Quantity]:
        return {name: Quantity(value, "pKd", 100, value - half, value + half)}

    v2 = "affinity-v2/documented/train/smoke/closed/fp32"
    splice = "splice-validated/hidden128-layers6/train/smoke/closed/"
    return [
        _make_record("affinity-v1/documented/train/documented/closed/fp32", quality=quality(1.48, 0.01), measurements=speed | gpu, **real),
        _make_record("affinity-v2/documented/train/documented/open/bf16", quality=quality(1.38, 0.008), measurements=speed | gpu, sequence=1, **real),
        _make_record(quality=quality(2.5, 0.2), measurements=cpu),
        _make_record(v2, quality=quality(2.4, 0.2), measurements=cpu, sequence=1),
        _make_record("affinity-v2/without-gelu/train/smoke/closed/fp32", quality=quality(3.0, 0.1), measurements=cpu, sequence=2),
        _make_record("affinity-v2/by-complex/train/smoke/closed/fp32", quality={"rmse": Quantity.missing("pKd", "one complex")}, measurements=cpu, sequence=3),
        _make_record(v2.replace("train", "eval"), outcome=Outcome.SKIPPED, reason="no trained weights", dataset=None, sequence=4),
        _make_record(splice + "fp32", outcome=Outcome.INVALID, reason="the GPU was throttled", quality=quality(0.5, 0.1, "pearson_sa"), machine=A40, run="other"),
        _make_record(splice + "bf16", outcome=Outcome.OOM, reason="CUDA out of memory | tried 2 GiB & <failed>", machine=A40, dataset=None, identified=False, run="other", sequence=1),
        _make_record(splice + "fp16", quality=quality(0.4, 0.1, "pearson_sa"), emulated=("gpu: fake NVML", "memory: <A40> & its limit"), machine=A40, run="other", sequence=2),
        _make_record("retired/old/train/smoke/closed/fp32", quality=quality(1.0, 0.1), run="other", sequence=3),
    ]


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compares a page with the one in golden/, or rewrites that one when REFRESH_GOLDEN is set."""

    def compare(page: str, name: str) -> None:
        kept = Path(__file__).parent / "golden" / name
        if os.environ.get("REFRESH_GOLDEN"):
            kept.write_text(page)
        hint = "the page changed: look at it, and if it is right run `REFRESH_GOLDEN=1 python -m pytest tests/bench/report` and commit golden/"
        assert page == kept.read_text(), hint

    return compare
