"""A GPU that is not there: child processes of these tests load a scripted NVML library."""

from pathlib import Path

import pytest

from tests.fakes.nvml import FakeNvml, compile_nvml, install_nvml


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_nvml(tmp_path_factory.mktemp("old-nvml"), "OLD_DRIVER")


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    return install_nvml(nvml_library, tmp_path, monkeypatch)


@pytest.fixture
def old_nvml(old_nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    return install_nvml(old_nvml_library, tmp_path, monkeypatch)


@pytest.fixture
def no_nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a broken file, not an empty folder: on a machine with a real driver the linker would go on and find that
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
