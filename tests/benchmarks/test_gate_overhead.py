import random
import shutil

import pytest

from assay.bench.case import UsageError
from assay.bench.gate.verdict import GateVerdict
from benchmarks import gate_overhead
from benchmarks.gate_overhead import Rounds, judge_overhead, main, measure_pair
from tests.conftest import ROOT


def copy_clock(to):
    for name in ("assay/__init__.py", "bench/case.py", "bench/measure/__init__.py", "bench/measure/clock.py"):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to / name)
    (to / "assay" / "bench").symlink_to("../bench")
    return to


def test_a_harness_that_does_more_in_each_step_is_slower(tmp_path):
    plain, slow = copy_clock(tmp_path / "plain"), copy_clock(tmp_path / "slow")
    clock = slow / "bench" / "measure" / "clock.py"
    text = clock.read_text()
    assert text.count("        samples += step()\n") == 1
    clock.write_text(text.replace("        samples += step()\n", "        samples += step()\n        str(sum(range(20)))\n"))
    assert measure_pair(plain, slow, random.Random(1), rounds=5, steps=20_000) > 0.5


def test_the_two_stages_judge(monkeypatch, tmp_path):
    launches = []

    def measure(reference, candidate, *_):
        launches.append(candidate)
        return 0.1 + 0.001 * (len(launches) % 7) if candidate.name == "slow" else 0.0

    monkeypatch.setattr(gate_overhead, "measure_pair", measure)
    assert judge_overhead(tmp_path, tmp_path / "slow", 1).verdict is GateVerdict.REGRESSED
    assert len(launches) == 30
    assert judge_overhead(tmp_path, tmp_path / "same", 1).verdict is GateVerdict.EQUIVALENT
    assert len(launches) == 40


@pytest.mark.usefixtures("checkout")
def test_an_unknown_ref_is_wrong_use(capsys):
    assert main(["--reference", "no-such-ref"]) == 2
    assert "no commit of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("d", "code"),
    [([0.0] * 10, 0), ([-0.1] * 10, 0), ([0.1] * 30, 1), ([-0.3, 0.31] * 5, 3)],
    ids=["equivalent", "improved", "regressed", "inconclusive"],
)
def test_the_exit_code_is_the_gate_s(monkeypatch, d, code):
    values = iter(d)
    monkeypatch.setattr(gate_overhead, "measure_pair", lambda *_: next(values))
    assert main(["--reference", str(ROOT), "--candidate", str(ROOT)]) == code


def test_rounds_that_cannot_be_divided_are_not_comparable(monkeypatch, capsys):
    monkeypatch.setattr(Rounds, "time", lambda self, steps: 0.0)
    assert main(["--reference", str(ROOT), "--candidate", str(ROOT)]) == 3
    assert "not comparable: harness/empty-step: a round of the reference lasted 0 s" in capsys.readouterr().err


def test_a_clock_that_never_comes_back_is_not_waited_for(tmp_path):
    clock = copy_clock(tmp_path) / "bench" / "measure" / "clock.py"
    clock.write_text("import time\ndef run_round(*_):\n    time.sleep(3600)\n")
    with Rounds(tmp_path, silence=0.2) as rounds, pytest.raises(UsageError, match=r"gave no answer for 0\.2 s"):
        rounds.time(1)


def test_a_clock_that_does_not_run_is_told(tmp_path, capfd):
    (copy_clock(tmp_path) / "bench" / "measure" / "clock.py").write_text("")
    with Rounds(tmp_path) as rounds, pytest.raises(UsageError, match="does not run; what it printed"):
        rounds.time(1)
    assert "ImportError" in capfd.readouterr().err
