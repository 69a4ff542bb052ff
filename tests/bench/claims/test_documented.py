"""The claims file: what it must say, and where each fault is."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from assay.bench.case import UsageError
from assay.bench.claims.documented import Claim, find_claims, load_claims
from tests.conftest import ROOT

DOCUMENTED = ROOT / "results" / "baselines" / "documented.toml"

GOOD = '[[claim]]\nid = "a"\nworkload = "w"\nmetric = "m"\nvalue = 0.140\ndirection = "higher"\nkind = "fact"\nsource = "s"\n'


class TestFile:
    def test_the_documented_numbers_load(self) -> None:
        claims = load_claims(DOCUMENTED)
        by_id = {one.id: one for one in claims.claim}
        assert by_id["splice-validated-50k-fpr"].value == Decimal("0.140")
        assert by_id["splice-validated-50k-fpr"].tolerance == Decimal("0.0005")
        assert by_id["affinity-v2-second-restart"].value == 40
        assert claims.fits[0].gpus["A40-48GB"] == "fast"

    def test_json_has_plain_numbers(self) -> None:
        fields = {"id": "c", "workload": "w", "metric": "spearman", "value": Decimal("0.3912"), "direction": "higher", "kind": "measured", "source": "004"}
        assert json.loads(Claim.model_validate(fields | {"where": {"ratio": Decimal("0.5"), "gpu": "T4"}}).model_dump_json())["value"] == 0.3912
        assert Claim.model_validate(fields | {"where": {"ratio": Decimal("0.5"), "n": 3, "gpu": "T4"}}).model_dump(mode="json")["where"] == {"ratio": 0.5, "n": 3, "gpu": "T4"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (GOOD.replace('"higher"', '"up"'), ":1: claim 'a': direction: Input should be 'higher', 'lower' or 'equal'"),
            (GOOD + GOOD.replace('id = "a"', 'id = "b"').replace("0.140", "nan"), ":9: claim 'b': value: Input should be a finite number"),
            (GOOD + GOOD, ":9: claim 'a' is there already, in line 1; give one of them another id"),
            (GOOD + "surprise = 1\n", ":1: claim 'a': surprise: Extra inputs are not permitted"),
            (GOOD.replace('id = "a"\n', ""), ":1: claim 'w': id: Field required"),
            (GOOD + '[[fits]]\nworkload = "w"\ngpus = { A40 = "roomy" }\n', ":9: fits 'w': gpus.A40: Input should be 'fast', 'slow', 'tight' or 'oom'"),
            ("plan = []\n" + GOOD, ": plan: Extra inputs are not permitted"),
            (GOOD.replace("0.140", "0.1.4"), ": not valid TOML: "),
        ],
    )
    def test_faults_name_file_line_and_claim(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "documented.toml"
        path.write_text(text)
        with pytest.raises(UsageError) as caught:
            load_claims(path)
        assert str(caught.value).startswith(f"{path}{message}")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read: No such file or directory; restore it"):
            load_claims(tmp_path / "documented.toml")

    def test_folder_without_claims_is_judged_by_the_checkout(self, tmp_path: Path) -> None:
        assert find_claims(tmp_path) == DOCUMENTED
        (tmp_path / "baselines").mkdir()
        (tmp_path / "baselines" / "documented.toml").write_text(GOOD)
        assert find_claims(tmp_path) == tmp_path / "baselines" / "documented.toml"


def test_importing_claims_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, assay.bench.claims.documented, assay.bench.claims.judgement; sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
