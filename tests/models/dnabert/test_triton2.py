"""The proof of the Triton 2 image. Its environment takes 6 GB, so it is made by `make triton2-proof` and not by every test run."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from assay.models.dnabert.attention import triton2
from assay.models.dnabert.attention.proof import Compiled
from assay.models.dnabert.attention.triton2 import Facts, main

VENV = os.environ.get("ASSAY_TRITON2_VENV")
SOUND = Facts(
    versions={"python": "3.11.2", "torch": "2.1.2", "triton": "2.1.0", "numpy": "1.26.4"},
    dot_parameters=("input", "other", "allow_tf32", "out_dtype"),
    negative=Compiled("product_transposed", 80, "fp16", "2.1.0", failure="CompilationError: TypeError: dot() got an unexpected keyword argument 'trans_b'"),
    compiled=(Compiled("attention_forward", 86, "fp16", "2.1.0", None, "sm_86", ("mma.sync",), 40_960, 0, 1_000),),
    tests="20 passed, 2 skipped",
    tests_passed=True,
)


def test_documented_facts_have_no_faults():
    assert SOUND.find_faults() == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"versions": {**SOUND.versions, "triton": "2.2.0"}}, "triton is 2.2.0, not 2.1.0"),
        ({"dot_parameters": ("input", "other", "trans_b")}, "tl.dot has a parameter trans_b"),
        ({"negative": replace(SOUND.negative, failure=None)}, "the published call was to fail for its argument trans_b, but: it compiled"),
        ({"compiled": (replace(SOUND.compiled[0], spill_bytes=8),)}, "attention_forward fp16 sm_86: spills 8 bytes of registers"),
        ({"tests_passed": False, "tests": "1 failed"}, "tests: 1 failed"),
    ],
)
def test_each_fault_is_named(change, fault):
    assert replace(SOUND, **change).find_faults() == [fault]


def test_the_document_is_about_the_locked_requirements():
    text = triton2.DOCUMENT.read_text()
    assert f"`{triton2.hash_lock()}`" in text, "docker/triton2/requirements.txt has changed: run `make triton2-proof` and commit docs/triton2.md"
    assert all(f"{name} {version}" in text for name, version in triton2.PINNED.items())
    rows = re.findall(r"^\| (sm_\d+) \| (\w+) \| `(\w+)` \| mma\.sync \| ([\d,]+) of ([\d,]+) \| 0 \| [\d,]+ \|$", text, re.MULTILINE)
    assert len(rows) == len({row[:3] for row in rows}) == 4 * 2 * 3
    assert all(int(used.replace(",", "")) <= int(limit.replace(",", "")) for *_, used, limit in rows)


def test_an_environment_without_python_3_11_is_wrong_use(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--venv", str(tmp_path / "venv")]) == 2
    assert "python3.11 is not installed" in capsys.readouterr().err


@pytest.mark.skipif(VENV is None, reason="ASSAY_TRITON2_VENV names no environment: `make triton2-proof` makes one, 6 GB in .venv-triton2")
def test_the_facts_hold_in_the_environment(capfd):
    assert main(["--venv", str(Path(VENV or ""))]) == 0, capfd.readouterr().out
    assert capfd.readouterr().out.strip() == triton2.DOCUMENT.read_text().strip()
