"""docker/lock.py tells an index that does not answer, which is nobody's fault, from requirements that cannot be met."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.conftest import ROOT

PROJECT = """
[project]
name = "assay"
version = "0"
requires-python = ">=3.11"
dependencies = {dependencies}
[dependency-groups]
test = []
dev = []
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout that has nothing but its requirements and docker/lock.py."""
    if not Path(sys.executable).with_name("uv").exists():
        pytest.skip("uv is not installed here; `make .venv/ready` brings it")
    for image in ("cpu", "cuda", "triton2"):
        (tmp_path / "docker" / image).mkdir(parents=True)
    shutil.copy(ROOT / "docker" / "lock.py", tmp_path / "docker")
    return tmp_path


def check(project: Path, dependencies: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    (project / "pyproject.toml").write_text(PROJECT.format(dependencies=dependencies))
    command: list[str | Path] = [sys.executable, project / "docker" / "lock.py", "--check"]
    return subprocess.run(command, env=os.environ | {"UV_HTTP_RETRIES": "0"} | variables, capture_output=True, text=True)


def write_wheel(folder: Path, name: str, version: str, *needs: str, files: Mapping[str, str] = MappingProxyType({})) -> None:
    folder.mkdir(exist_ok=True)
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(f"{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-{version}.dist-info/RECORD", "")
        for path, text in files.items():
            wheel.writestr(path, text)


def write_index(wheels: Path) -> dict[str, str]:
    """A package index of these wheels, as the variables by which uv and pip take it for the only one."""
    simple = wheels / "simple"
    for name in {path.name.partition("-")[0] for path in wheels.glob("*.whl")}:
        (simple / name).mkdir(parents=True, exist_ok=True)
        links = [f'<a href="../../{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>' for path in wheels.glob(f"{name}-*.whl")]
        (simple / name / "index.html").write_text("<!DOCTYPE html>\n" + "\n".join(links))
    return dict.fromkeys(("UV_DEFAULT_INDEX", "PIP_INDEX_URL"), simple.as_uri())


def test_requirements_that_contradict_each_other_are_an_error_and_not_an_index_that_is_away(project, tmp_path):
    write_wheel(tmp_path / "wheels", "torch", "2.1.2", "triton==2.1.0")
    for version in ("2.1.0", "3.0.0"):
        write_wheel(tmp_path / "wheels", "triton", version)
    done = check(project, ["torch==2.1.2", "triton==3.0.0"], **write_index(tmp_path / "wheels"))
    assert done.returncode == 2, done.stderr
    assert "triton==2.1.0" in done.stderr
    assert "triton==3.0.0" in done.stderr


def test_requirements_that_cannot_be_read_are_an_error(project):
    done = check(project, ["torch=="])
    assert done.returncode == 2, done.stderr


def test_an_index_that_does_not_answer_has_an_exit_code_of_its_own(project):
    done = check(project, ["torch==2.1.2"], UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_NO_CACHE="1")
    assert done.returncode == 3, done.stderr
    assert "Connection refused" in done.stderr


def test_a_torch_without_cuda_of_another_version_is_drift(project, tmp_path):
    write_wheel(tmp_path / "wheels", "torch", "2.13.0")
    (project / "docker/cpu/torch.txt").write_text("# by hand\n--extra-index-url https://example.org\ntorch==2.12.0 \\\n    --hash=sha256:00\n")
    (project / "docker/cuda/flash-attn.in").write_text("")
    for image in ("cpu", "cuda", "triton2"):
        (project / "docker" / image / "requirements.txt").write_text("torch==2.13.0\n")
    (project / "docker/triton2/additions.in").write_text("")
    (project / "docker/triton2/overrides.in").write_text("")
    done = check(project, ["torch==2.13.0"], **write_index(tmp_path / "wheels"))
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-5:] == ["--- docker/cpu/torch.txt", "+++ docker/cuda/requirements.txt", "@@ -1 +1 @@", "-torch==2.12.0", "+torch==2.13.0"]
