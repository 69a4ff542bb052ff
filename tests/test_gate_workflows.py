"""The gate in CI: the files are what the services accept, the scripts do what they say, and nothing of a stranger's is executed or trusted."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import typer
from ruamel.yaml import YAML

from assay.bench.cli.main import app
from assay.bench.gate.render import MARKER
from assay.bench.gate.verdict import GateVerdict
from tests.bench.gate.test_render import hostile_report
from tests.bench.gate.test_verdict import make_report
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("checkout")

WORKFLOWS = ROOT / ".github" / "workflows"
GATE, COMMENT = WORKFLOWS / "gate.yml", WORKFLOWS / "gate-comment.yml"
CHECK = [sys.executable, "-m", "check_jsonschema"]


def load(path):
    return YAML(typ="safe").load(path.read_text())


def steps(path):
    (job,) = load(path)["jobs"].values()
    return job["steps"]


def script(path, name):
    return next(step["run"] for step in steps(path) if step.get("name") == name)


def run_step(text, cwd, **variables):
    """As a runner does: bash -e, variables from the step's env."""
    environment = {"PATH": f"{cwd / 'bin'}:{os.environ['PATH']}", "HOME": str(cwd)} | {name: str(value) for name, value in variables.items()}
    return subprocess.run(["bash", "-e", "-c", text], cwd=cwd, env=environment, capture_output=True, text=True)


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "one")
    return tmp_path, git


@pytest.mark.parametrize(
    "arguments",
    [["vendor.github-workflows", *sorted(map(str, WORKFLOWS.glob("*.yml")))], ["vendor.gitlab-ci", "--data-transform", "gitlab-ci", "docs/gitlab-ci.yml"]],
    ids=["github", "gitlab"],
)
def test_the_services_schemas_accept_the_files(arguments):
    done = subprocess.run([*CHECK, "--builtin-schema", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_no_expression_is_pasted_into_a_script(path):
    for job in load(path)["jobs"].values():
        assert not any("${{" in step.get("run", "") for step in job.get("steps", []))


def test_only_the_comment_may_write_and_it_never_runs_a_pull_request():
    assert load(GATE)["permissions"] == {"contents": "read"}
    assert load(WORKFLOWS / "pull-request-gate.yml")["permissions"] == {"contents": "read"}
    checkout = next(step for step in steps(COMMENT) if "checkout" in step.get("uses", ""))
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    assert load(COMMENT)["on"]["workflow_run"]["workflows"] == [load(WORKFLOWS / "pull-request-gate.yml")["name"]]


def choose_lanes(runner, repository, event):
    """The matrix's expression, with GitHub's rules: what is missing is null, `&&` and `||` give one of their operands."""
    text = load(GATE)["jobs"]["gate"]["strategy"]["matrix"]["lane"].removeprefix("${{ fromJSON(").removesuffix(") }}")
    text = text.replace("&&", " and ").replace("||", " or ")
    names = {"inputs.gpu-runner": runner, "github.event.pull_request.head.repo.full_name": None, "github.event.pull_request": None, "github.repository": repository}
    pull = event.get("pull_request")
    if pull is not None:
        names["github.event.pull_request"] = pull
        names["github.event.pull_request.head.repo.full_name"] = (pull["head"]["repo"] or {}).get("full_name")
    for name, value in names.items():
        text = text.replace(name, repr(value))
    return json.loads(eval(text, {"__builtins__": {}}))  # our own file's text


@pytest.mark.parametrize(
    ("event", "lanes"),
    [
        ({}, ["cpu", "gpu"]),  # a push
        ({"pull_request": {"head": {"repo": {"full_name": "lab/assay", "fork": True}}}}, ["cpu", "gpu"]),  # this repository is itself a fork
        ({"pull_request": {"head": {"repo": {"full_name": "mallory/assay", "fork": True}}}}, ["cpu"]),
        ({"pull_request": {"head": {"repo": {"full_name": "upstream/assay", "fork": False}}}}, ["cpu"]),  # from the repository that this one forked
        ({"pull_request": {"head": {"repo": None}}}, ["cpu"]),  # the fork was deleted
    ],
)
def test_forks_do_not_get_the_lane_of_the_self_hosted_runner(event, lanes):
    assert choose_lanes('["self-hosted"]', "lab/assay", event) == lanes
    assert choose_lanes("", "lab/assay", event) == ["cpu"]


@pytest.fixture
def change(repository):
    """As checked out by the workflow: change/, with a commit on top of the base."""
    folder, _ = repository
    (folder / "change").mkdir()
    (folder / ".git").rename(folder / "change" / ".git")
    base = subprocess.run(["git", "-C", folder / "change", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["git", "-C", folder / "change", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "two"], check=True)
    return folder, base


@pytest.mark.parametrize("reference", ["", "no-such-branch"])
def test_without_a_commit_to_compare_with_the_step_ends_as_wrong_use(change, reference):
    folder, _ = change
    done = run_step(script(GATE, "base"), folder, REFERENCE=reference, BASE="0" * 40)
    assert done.returncode == 2
    assert "::error::no" in done.stdout


@pytest.mark.parametrize("named", [False, True])
def test_the_base_is_what_the_change_branched_off_from(change, named):
    folder, base = change
    done = run_step(script(GATE, "base"), folder, REFERENCE=base if named else "", BASE="f" * 40 if named else base)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["git", "-C", folder / "base", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip() == base


def test_gate_and_environment_are_the_base_s_and_never_the_change_s():
    """No step but git and the gate itself, which takes models/ and datasets/ alone, touches the change."""
    checkout, *others = steps(GATE)
    assert checkout["with"]["path"] == "change"
    gate = next(step for step in others if step.get("name") == "gate")
    assert gate["working-directory"] == "base"
    assert "--candidate ../change" in gate["run"]
    assert next(step["run"] for step in others if step.get("name") == "environment") == "make --silent -C base .venv/ready"
    for step in others:
        lines = [line for line in step.get("run", "").splitlines() if "change" in line and not line.strip().startswith("#")]
        assert all("git -C change " in line or "--candidate ../change" in line for line in lines)
        assert not step.get("working-directory", "").startswith("change")
    for job in ("gate", "gate-gpu"):
        *_, entered, call = load(ROOT / "docs" / "gitlab-ci.yml")[job]["script"]
        assert entered == "cd ../assay-base"
        assert '--reference HEAD --candidate "$CI_PROJECT_DIR"' in call


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq, which GitHub's runners have, is not installed")
@pytest.mark.parametrize(("names", "downloads"), [([], False), (["other"], False), (["gate-cpu", "gate-gpu"], True)])
def test_verdicts_are_fetched_only_where_a_runner_left_some(tmp_path, names, downloads):
    (tmp_path / "artifacts").write_text(json.dumps({"artifacts": [{"name": name} for name in names]}))
    put(tmp_path / "bin" / "gh", '#!/bin/bash\ncase "$*" in\napi*) cat artifacts;;\n*) echo "$*" > downloaded;;\nesac\n')
    done = run_step(script(COMMENT, "fetch the verdicts"), tmp_path, REPOSITORY="o/r", RUN="7")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "downloaded").exists() == downloads


def test_a_run_that_left_nothing_replaces_the_comment(tmp_path):
    put(tmp_path / ".venv" / "bin" / "python", f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    done = run_step(script(COMMENT, "write the comment"), tmp_path, PYTHONPATH=ROOT, CONCLUSION="failure")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "comment.md").read_text().startswith(f"{MARKER}\n### Assay gate: no verdict\n")


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_gate_step_runs_in_the_base_and_ends_as_the_gate_does(tmp_path, code):
    fake = f'#!/bin/bash\nprintf "%s\\n" "$@" > arguments\nmkdir ../gate\necho verdict > ../gate/verdict.json\necho "::error::x" > ../gate/annotations.txt\necho comment > ../gate/comment.md\nexit {code}\n'
    put(tmp_path / "base" / "python", fake)
    variables = {"SELECT": "a and $(touch pwned)", "PRESET": "smoke", "PROFILE": "cpu", "BUDGET": "5", "ALLOW": "--allow-inconclusive", "HARNESS": ""}
    done = run_step(script(GATE, "gate"), tmp_path / "base", PYTHON="./python", GITHUB_STEP_SUMMARY=tmp_path / "summary", **variables)
    assert done.returncode == code, done.stderr
    arguments = (tmp_path / "base" / "arguments").read_text().splitlines()
    assert arguments[:8] == ["-m", "bench", "gate", "--reference", "HEAD", "--candidate", "../change", "--select"]
    assert arguments[8] == "a and $(touch pwned)"
    assert "--allow-inconclusive" in arguments
    assert "" not in arguments
    assert (done.stdout, (tmp_path / "summary").read_text()) == ("::error::x\n", "comment\n")
    assert not list(tmp_path.rglob("pwned"))


def test_the_scripts_use_options_that_the_gate_has():
    command = typer.main.get_group(app).commands["gate"]
    known = {option for parameter in command.params for option in parameter.opts}
    for text in (script(GATE, "gate"), (ROOT / "docs" / "gitlab-ci.yml").read_text(), (ROOT / "docs" / "gate-ci.md").read_text(), (ROOT / ".ci" / "run").read_text()):
        (call,) = re.findall(r"-m bench gate .*?(?=\n\S|\n\n|\nelse)", text.split("gate-gpu:")[0], re.DOTALL)[-1:]
        assert set(re.findall(r"(?<=\s)--[a-z-]+", call)) <= known


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq, which GitHub's runners have, is not installed")
@pytest.mark.parametrize(
    ("pulls", "comments", "posted"),
    [
        ([{"number": 7, "head": {"sha": "abc"}}], [], "POST repos/o/r/issues/7/comments"),
        ([{"number": 7, "head": {"sha": "abc"}}], [{"id": 5, "user": {"login": "github-actions[bot]"}, "body": f"{MARKER}\nold"}], "PATCH repos/o/r/issues/comments/5"),
        # a stranger's copy of the marker is not ours to change
        ([{"number": 7, "head": {"sha": "abc"}}], [{"id": 6, "user": {"login": "mallory"}, "body": MARKER}], "POST repos/o/r/issues/7/comments"),
        # the head has moved on, or the branch belongs to another pull request
        ([{"number": 8, "head": {"sha": "other"}}], [], None),
    ],
)
def test_one_comment_is_posted_and_then_kept_up_to_date(tmp_path, pulls, comments, posted):
    (tmp_path / "pulls").write_text(json.dumps(pulls))
    (tmp_path / "comments").write_text(json.dumps(comments))
    (tmp_path / "comment.md").write_text("body")
    put(
        tmp_path / "bin" / "gh",
        '#!/bin/bash\ncase "$*" in\n*"GET repos/o/r/pulls"*) cat pulls;;\n*--paginate*) cat comments;;\n*) echo "$4 $5 $6 $7" >> posted;;\nesac\n',
    )
    done = run_step(script(COMMENT, "post the comment"), tmp_path, REPOSITORY="o/r", HEAD_SHA="abc", HEAD_BRANCH="b&state=all", HEAD_OWNER="mallory")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "posted").read_text().splitlines() if (tmp_path / "posted").exists() else []
    assert written == ([] if posted is None else [f"{posted} -F body=@comment.md"])


def test_the_comment_step_shows_every_runner_and_survives_a_forged_verdict(tmp_path):
    for lane, content in {
        "cpu": make_report(GateVerdict.REGRESSED).model_dump_json(),
        "evil": hostile_report().model_dump_json(),
        "broken": "<script>",
    }.items():
        put(tmp_path / "verdicts" / f"gate-{lane}" / "verdict.json", content)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    put(tmp_path / ".venv" / "bin" / "python", f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    done = run_step(script(COMMENT, "write the comment"), tmp_path, PYTHONPATH=ROOT, CONCLUSION="failure")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "comment.md").read_text()
    assert text.startswith(MARKER + "\n")
    assert text.count(MARKER) == 1
    assert text.count("### Assay gate: ") == 3
    assert "a runner left a file that is no verdict" in text
    assert "<script" not in text
    assert "<img" not in text
    assert len(text) < 65_536


def test_the_gitlab_job_runs_in_the_image_that_ours_start_from():
    base = re.search(r"^ARG BASE_IMAGE=(.+)$", (ROOT / "docker" / "cpu" / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert load(ROOT / "docs" / "gitlab-ci.yml")["gate"]["image"] == base[1]
