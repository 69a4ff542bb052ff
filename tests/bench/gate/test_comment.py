import pytest

from assay.bench.case import Quantity
from assay.bench.gate.comment import join_reports, main
from assay.bench.gate.render import MARKER
from assay.bench.gate.verdict import Finding, FindingKind, GateVerdict
from tests.bench.gate.test_verdict import make_report


def test_several_runners_share_the_room_of_one_comment(tmp_path):
    findings = tuple(
        Finding(case_id=f"{i:05d}" + "x" * 200, kind=FindingKind.SPEED, verdict=GateVerdict.REGRESSED, reason="y" * 400, estimate=Quantity.missing("", "no"))
        for i in range(500)
    )
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        file.write_text(make_report(findings=findings).model_dump_json())
    text = join_reports(files)
    assert 50_000 < len(text) < 65_536
    assert text.count("### Assay gate: regressed") == 2


def test_a_missing_file_is_wrong_use(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "no.json")])
    assert end.value.code == 2
    assert "no such file; give what `python -m bench gate --report FILE` wrote" in capsys.readouterr().err


def test_a_run_without_a_verdict_says_so_instead_of_showing_an_old_one(tmp_path, capsys):
    main(["--conclusion", "failure"])
    text = capsys.readouterr().out
    assert text.startswith(f"{MARKER}\n### Assay gate: no verdict\n")
    assert "wrong use (an unknown ref, no such case)" in text


@pytest.mark.parametrize(
    ("verdict", "conclusion", "silent"),
    [
        (GateVerdict.EQUIVALENT, "success", False),
        (GateVerdict.EQUIVALENT, "failure", True),  # another runner left none
        (GateVerdict.REGRESSED, "failure", False),
        (GateVerdict.INCONCLUSIVE, "failure", False),
    ],
)
def test_a_runner_that_left_no_verdict_beside_one_that_did(tmp_path, verdict, conclusion, silent):
    file = tmp_path / "a.json"
    file.write_text(make_report(verdict).model_dump_json())
    text = join_reports([file], conclusion)
    assert ("### Assay gate: no verdict" in text) == silent
    assert text.count("### Assay gate: ") == 1 + silent
