"""Whether this machine may compare anything: the doctor's checks, for a GPU in a process whose CUDA context is gone before workers start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from assay.bench.case import ExitCode, UsageError
from assay.bench.checkout import ROOT
from assay.bench.measure.fitness import check_fitness, check_load
from assay.bench.measure.load import read_load
from assay.bench.profiles import Profile


def note_load(profile: Profile) -> list[str]:
    """What the doctor would refuse in a CPU's load, as a note. Takes 1 s; empty for a quiet machine and for a GPU.

    The gate does not refuse it: neighbours come and go for both sides of a launch pair alike, and what time a single-threaded worker
    waits for its core is subtracted. They widen the bounds, which then say so themselves. A run that is compared with a number of
    another day has no such protection, so there the same load is a refusal.
    """
    if profile.device != "cpu":
        return []
    load = check_load(read_load(), required=True)
    return [] if load.ok else [f"{load.message} Both sides had to live with it: it widens the bounds, and favours neither."]


def find_machine_faults(profile: Profile, results: Path) -> list[str]:
    """What the doctor refuses, one line each; empty for a machine that is fit. Calibrates where the profile promises a speed, which takes 5 s."""
    if profile.device != "cuda":
        promises = bool(profile.peak_flops or profile.bandwidth)
        findings = check_fitness(profile, torch.device(profile.device), results=results, calibrate=promises)
        return [f"{finding.name}: {finding.message} {finding.remedy}" for finding in findings if not finding.ok]
    command = [sys.executable, "-m", "assay", "doctor", "--profile", profile.name, "--results", str(results.resolve()), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (ExitCode.OK, ExitCode.MACHINE_NOT_FIT):
        raise UsageError(f"`{' '.join(command[1:])}` failed: {done.stderr.strip()[-500:]}")
    return [f"{f['name']}: {f['message']} {f['remedy']}" for f in json.loads(done.stdout)["findings"] if not f["ok"]]
