"""Which precision the open division takes: the fastest that the machine has units for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from assay.bench.case import Case, Division, Outcome, Precision, Unsupported
from assay.bench.checkout import ROOT
from assay.bench.measure import precision
from assay.bench.measure.machine import identify_environment, identify_machine
from assay.bench.measure.precision import choose_precision, require_precision
from assay.bench.profiles import load_profile
from assay.bench.records.record import Record
from assay.bench.records.store import RunStore
from assay.bench.registry import get_workload
from assay.bench.running.campaign import Campaign
from assay.bench.running.local import Limits
from assay.models.workload import CLOSED_AND_OPEN

OFFERED = CLOSED_AND_OPEN[Division.OPEN]
CASE = Case.parse("affinity-v2/documented/train/smoke/open/bf16")
VARIANT = get_workload("affinity-v2").variants["documented"]


def pretend_cpu(monkeypatch, tmp_path, flags):
    info = tmp_path / f"cpuinfo-{len(flags)}-{abs(hash(flags))}"
    info.write_text(f"model name : Some CPU\nflags : {flags}\n")
    monkeypatch.setattr(precision, "CPU_INFO", info)


@pytest.mark.parametrize(
    ("flags", "expected", "reason"),
    [
        ("fpu avx2 avx512f", Precision.FP32, "the CPU multiplies bfloat16 in software, which is slower than float32"),
        ("fpu avx512_bf16", Precision.BF16, "the CPU has avx512_bf16"),
        ("amx_bf16 amx_tile avx512_bf16", Precision.BF16, "the CPU has amx_bf16 and avx512_bf16"),
        ("fp asimd bf16", Precision.BF16, "the CPU has bf16"),
    ],
)
def test_a_cpu_is_asked_for_its_units(monkeypatch, tmp_path, flags, expected, reason):
    pretend_cpu(monkeypatch, tmp_path, flags)
    assert choose_precision(load_profile("cpu"), OFFERED) == (expected, reason)


@pytest.mark.parametrize(("bf16", "expected"), [(26e9, Precision.FP32), (150e9, Precision.FP32), (262e9, Precision.BF16)])
def test_a_cpu_that_does_not_list_its_units_is_measured_in_both(monkeypatch, tmp_path, bf16, expected):
    silent = tmp_path / f"{bf16}"
    silent.write_text("processor : 0\n")
    monkeypatch.setattr(precision, "CPU_INFO", silent)
    monkeypatch.setattr("assay.bench.measure.calibration.time_product", lambda _, p: bf16 if p is Precision.BF16 else 131e9)
    assert choose_precision(load_profile("cpu"), OFFERED) == (expected, f"a matrix product reached bf16 {bf16 / 1e9:.0f} GFLOP/s and fp32 131 GFLOP/s")


@pytest.mark.parametrize(("name", "expected"), [("a40", "bf16"), ("h200", "bf16"), ("t4", "fp16"), ("m1", "fp32")])
def test_a_gpu_is_taken_by_the_peaks_of_its_datasheet(name, expected):
    assert choose_precision(load_profile(name), OFFERED)[0] == expected


def test_what_a_variant_does_not_offer_is_not_taken():
    assert choose_precision(load_profile("t4"), (Precision.BF16, Precision.FP32)) == (
        Precision.FP32,
        "profile t4 lists a peak for it, and this variant offers bf16, fp32",
    )


def test_open_cases_of_other_precisions_are_unsupported_and_closed_ones_are_left_alone():
    t4 = load_profile("t4")
    require_precision(replace(CASE, precision=Precision.FP16), VARIANT, t4)
    require_precision(replace(CASE, division=Division.CLOSED), VARIANT, t4)
    with pytest.raises(Unsupported, match="the open division runs in fp16 here: profile t4 lists a peak for it"):
        require_precision(CASE, VARIANT, t4)


class NoProcess:
    """A launcher that must not be asked for a process."""

    @property
    def folders(self) -> list[str]:
        return []

    def identify(self, device):
        return identify_machine(device), identify_environment(ROOT, ())

    def launch(self, *_):
        raise AssertionError("a process was started")


def test_a_run_tells_so_without_a_process(monkeypatch, tmp_path):
    pretend_cpu(monkeypatch, tmp_path, "fpu avx2")
    limits = Limits(wall_seconds=60, silent_seconds=60, memory_bytes=1 << 30)
    store = RunStore.create(tmp_path / "runs", "told")
    told: list[Case | Record] = []
    display = SimpleNamespace(start=told.append, advance=told.append, finish=told.append, skip=told.append)
    run = Campaign(cases=[CASE], store=store, profile=load_profile("cpu"), launcher=NoProcess(), data=None, seed=1, limits=limits, command=("run",), find_neighbours=tuple)
    (record,) = run.execute(display)
    assert (record.outcome, record.reason) == (
        Outcome.UNSUPPORTED,
        "the open division runs in fp32 here: the CPU multiplies bfloat16 in software, which is slower than float32",
    )
    assert told == [CASE, record]
    assert list(store.read()) == [record]
