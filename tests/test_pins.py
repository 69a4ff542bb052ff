"""Nothing that the project installs or runs may move under its name."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKS = sorted(ROOT.glob("docker/*/*.txt"))


def requirements(lock: Path) -> list[str]:
    text = lock.read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "--"))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_requirement_is_pinned_by_version_and_hash(lock: Path) -> None:
    for requirement in requirements(lock):
        assert re.match(r"^[A-Za-z0-9._-]+==[^ ;]+", requirement), requirement[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", requirement), requirement[:80]


def test_every_dependency_is_locked_for_the_cpu() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    extras = [name for names in project["project"]["optional-dependencies"].values() for name in names]
    wanted = project["project"]["dependencies"] + extras + [name for name in groups["test"] + groups["dev"] if isinstance(name, str)]
    locked = {re.split(r"==", line)[0].lower().replace("_", "-") for lock in (ROOT / "docker" / "cpu").glob("*.txt") for line in requirements(lock)}
    assert {re.split(r"[=<>\[ ]", name)[0].lower() for name in wanted} - locked == set()


def test_the_wheel_is_built_by_what_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (builder,) = project["build-system"]["requires"]
    assert re.fullmatch(r"hatchling==[\d.]+", builder)
    assert builder in project["dependency-groups"]["dev"]


def test_ci_runs_in_the_base_of_the_images() -> None:
    """Pinned in one more place, and refreshed with them."""
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "docker" / "cpu" / "Dockerfile").read_text(), re.MULTILINE)
    images = [image for path in (ROOT / ".github" / "workflows").glob("*.yml") for image in re.findall(r"^\s*(?:image|container):\s*(\S+)$", path.read_text(), re.MULTILINE)]
    assert images == [base]


def test_actions_are_pinned_by_commit() -> None:
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for action in re.findall(r"uses:\s*(\S+)", workflow.read_text()):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}|\./\S+", action), f"{workflow.name}: {action}"
