"""Follows CONTRIBUTING.md step by step in a copy of the project: one more workload (the `project` fixture adds it), profile and claim."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROFILE = """
title = "NVIDIA L40S 48 GB"
device = "cuda"
gpu = "NVIDIA L40S"
memory_gib = 48
compute_capability = "8.9"
"""
CLAIM = """
[[claim]]
id = "accidents-params"
workload = "accidents"
metric = "parameters"
value = 2
direction = "equal"
kind = "fact"
where = { variant = "well" }
source = "tests/fakes/misbehaving.py: a slope and an intercept"
"""


def bench(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=project, capture_output=True, text=True, timeout=240)


@pytest.fixture
def extended(project: Path, tmp_path: Path) -> Path:
    """The copied project with a profile and a claim added as CONTRIBUTING says."""
    copy = shutil.copytree(project, tmp_path / "extended", ignore=shutil.ignore_patterns("runs", "__pycache__"))
    (copy / "bench" / "profiles" / "l40s.toml").write_text(PROFILE)
    with (copy / "results" / "baselines" / "documented.toml").open("a") as claims:
        claims.write(CLAIM)
    return copy


def test_workload_profile_and_claim_are_added_by_the_steps(extended: Path) -> None:
    checked = bench(extended, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    doctor = bench(extended, "doctor", "--profile", "l40s", "--json")
    assert doctor.returncode == 4
    assert any(not finding["ok"] and finding["remedy"] for finding in json.loads(doctor.stdout)["findings"])
    ran = bench(extended, "run", "--profile", "cpu", "--select", "accidents and well and train")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    judged = {entry["claim"]["id"]: entry for entry in json.loads(bench(extended, "claims", "--json").stdout)}
    assert judged["accidents-params"]["verdict"] == "reproduced"
    assert judged["accidents-params"]["measured"]["value"] == 2
