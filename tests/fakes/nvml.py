"""Compiles the scripted NVML library (fake_nvml.c) and points processes at it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]


def compile_nvml(folder: Path, *defines: str) -> Path:
    """The folder, with a libnvidia-ml.so.1 in it. Skips the test, visibly, where no C compiler is."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the scripted NVML library cannot be built; install gcc")
    subprocess.run([compiler, *FLAGS, *(f"-D{define}" for define in defines), "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
    return folder


@dataclass(frozen=True)
class FakeNvml:
    """The library at work: `script` decides what processes that start from now on will see."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def script(self, *lines: str) -> None:
        path = self.folder / "script.txt"
        path.write_text("\n".join(lines))
        self.monkeypatch.setenv("FAKE_NVML_SCRIPT", str(path))
        self.monkeypatch.setenv("FAKE_NVML_PROGRESS", str(self.folder / "progress.txt"))

    @property
    def readings(self) -> int:
        """How often the used memory has been read so far."""
        path = self.folder / "progress.txt"
        return int(path.read_text() or 0) if path.exists() else 0


def install_nvml(library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Makes child processes load the library. The dynamic linker reads the variable at exec only: this process does not see it."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = FakeNvml(folder, monkeypatch)
    fake.script()
    return fake


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and only not yet buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Returns as soon as the condition holds; fails the test when it never does."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"nothing happened for {seconds} s"
        time.sleep(0.002)
