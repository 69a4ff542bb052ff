import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from assay.bench.case import Case, Division, Phase, Preset, UsageError
from assay.bench.profiles import load_profile
from assay.bench.records.store import RunStore
from assay.bench.registry import expand_cases, find_roots, get_variant, get_workload, hash_declaration, load_workloads, select_cases
from assay.bench.source import Trees
from assay.models.splice.encoder import GatedEncoder
from assay.models.splice.recipes import ResolvedRecipe


def test_every_declared_case_is_unique_and_trains_before_it_evaluates() -> None:
    cases = expand_cases()
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        if case.phase is Phase.EVAL and Phase.TRAIN in get_workload(case.workload).variants[case.variant].phases:
            trained = [other.id for other in cases].index(case.id.replace("/eval/", "/train/"))
            assert trained < cases.index(case)


def test_selection_speaks_pytest_k() -> None:
    chosen = select_cases(Preset.SMOKE, Division.CLOSED, "affinity-v1 and not eval")
    assert chosen
    assert all(case.workload == "affinity-v1" and case.phase is Phase.TRAIN and case.preset is Preset.SMOKE for case in chosen)


@pytest.mark.parametrize(("expression", "remedy"), [("no-such-thing", "bench list"), ("affinity and", "like pytest -k")])
def test_selection_that_cannot_match_is_refused(expression: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        select_cases(expression=expression)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match="affinity-v1"):
        get_workload("affinity-v3")
    with pytest.raises(UsageError, match="documented"):
        get_variant(get_workload("affinity-v1"), "tiny")


def test_the_declaration_hash_tells_recipes_apart() -> None:
    smoke, standard = (next(c for c in expand_cases([load_workloads()["affinity-v1"]]) if c.preset is p) for p in (Preset.SMOKE, Preset.STANDARD))
    cpu = load_profile("cpu")
    assert hash_declaration(smoke, cpu) == hash_declaration(smoke, cpu)
    assert hash_declaration(smoke, cpu) != hash_declaration(standard, cpu)


def test_the_declaration_hash_follows_the_peaks_that_utilisation_is_counted_against() -> None:
    case, a40 = Case.parse("affinity-v2/documented/train/scale/open/bf16"), load_profile("a40")
    peak = a40.peak_flops[case.precision]
    faster = a40.model_copy(update={"peak_flops": {**a40.peak_flops, case.precision: peak.model_copy(update={"value": 2 * peak.value})}})
    renamed = a40.model_copy(update={"title": "another name", "batch": {}})
    assert hash_declaration(case, faster) != hash_declaration(case, a40) == hash_declaration(case, renamed)


def test_a_workload_says_itself_where_its_source_begins() -> None:
    def make(kind: type) -> Callable[[], type]:
        return lambda: kind

    held = {
        "in a call with arguments": [partial(print, GatedEncoder)],
        "in a function made by another": make(ResolvedRecipe),
        "of an object with slots": Case.parse("a/b/eval/smoke/open/fp32"),
        "of a method": RunStore(Path()).read,
        "kept by a cache": [load_profile],
        "a container of ours": Trees(Path()),
    }
    assert find_roots(held, Phase.EVAL) == {  # type: ignore[arg-type]
        *("assay.bench.cases.conftest", "assay.bench.cases.test_eval"),
        *("assay.models.splice.encoder", "assay.models.splice.recipes", "assay.bench.case", "assay.bench.records.store", "assay.bench.profiles", "assay.bench.source"),
    }


def test_a_case_process_imports_its_own_family_alone() -> None:
    code = "import sys; from assay.bench.registry import get_workload; get_workload('affinity-v2'); print(*sorted(name for name in sys.modules if name.startswith('assay.models.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "assay.models.affinity" in loaded
    assert not {"assay.models.splice", "assay.models.tissuebert", "assay.models.dnabert"} & set(loaded)
