"""Whether this machine may compare anything: the doctor's checks, for a GPU in a process whose CUDA context is gone before workers start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from bench.case import ExitCode, UsageError
from bench.measure.fitness import check_fitness
from bench.profiles import Profile

ROOT = Path(__file__).resolve().parents[2]


def find_machine_faults(profile: Profile, results: Path) -> list[str]:
    """What the doctor refuses, one line each; empty for a machine that is fit. Calibrates where the profile promises a speed, which takes 5 s."""
    if profile.device != "cuda":
        promises = bool(profile.peak_flops or profile.bandwidth)
        findings = check_fitness(profile, torch.device(profile.device), results=results, calibrate=promises)
        return [f"{finding.name}: {finding.message} {finding.remedy}" for finding in findings if not finding.ok]
    command = [sys.executable, "-m", "bench", "doctor", "--profile", profile.name, "--results", str(results.resolve()), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (ExitCode.OK, ExitCode.MACHINE_NOT_FIT):
        raise UsageError(f"`{' '.join(command[1:])}` failed: {done.stderr.strip()[-500:]}")
    return [f"{f['name']}: {f['message']} {f['remedy']}" for f in json.loads(done.stdout)["findings"] if not f["ok"]]
