import json
import subprocess
import sys

import pytest

from assay.bench.case import Quantity
from benchmarks.harness_overhead import format_table, measure_sampler, relate_to_rounds
from tests.conftest import ROOT
from tests.fakes.nvml import compile_nvml, install_nvml


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compile_nvml(tmp_path_factory.mktemp("nvml"))


def test_the_harness_is_cheap_beside_what_it_measures(library, tmp_path, monkeypatch):
    install_nvml(library, tmp_path, monkeypatch)
    command = [sys.executable, str(ROOT / "benchmarks" / "harness_overhead.py"), "--json", "--device", "cpu", "--rounds", "30", "--seconds", "0.2"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert all(quantity["value"] > 0 for quantity in found.values())
    # a round lasts 20 ms at least: the loop and the wait around an empty step must not show in it
    assert found["share_of_a_round"]["value"] < 0.01
    assert found["each_further_step"]["value"] < 20  # us
    assert found["sampler_load"]["value"] < 0.25


def test_without_a_gpu_the_table_gives_the_reason(tmp_path, monkeypatch):
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    found = {"round_of_one_step": Quantity(50.0, "us", how="by hand")}
    found |= {"share_of_a_round": relate_to_rounds(found)} | measure_sampler(0.0)
    assert [line.split() for line in format_table(found).splitlines()[:2]] == [
        ["round_of_one_step", "50", "us", "by", "hand"],
        ["share_of_a_round", "0.0025", "share", "round_of_one_step", "over", "the", "suite's", "shortest", "round,", "20", "ms"],
    ]
    for name in ("sampler_start", "sampler_load", "sampler_largest_gap"):
        assert found[name].reason == "NVML: NVML Shared Library Not Found (error 12)"
