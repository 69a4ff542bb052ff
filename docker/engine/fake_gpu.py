"""A GPU that is none: a scripted NVML library, put into every container that asks for an NVIDIA GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packages import EngineError

SOURCE = Path(__file__).resolve().parents[2] / "tests" / "fakes" / "fake_nvml.c"
LIBRARY = "libnvidia-ml.so.1"
SCRIPT = "fake-nvml.txt"
HOOK = "nvidia-container-runtime-hook"  # dockerd offers `driver: nvidia` when it finds this program


def place_gpu(folder: Path, name: str, lines: Sequence[str]) -> bool:
    """Puts library, script and hook into the folder. True when the hook is new: the daemon must then be started again."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise EngineError("no C compiler: the scripted NVML library cannot be built; install gcc")
    if not (folder / LIBRARY).exists():
        flags = ["-std=c11", "-O2", "-fvisibility=hidden", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", f'-DSCRIPT="/etc/{SCRIPT}"']
        subprocess.run([compiler, *flags, "-o", folder / LIBRARY, SOURCE], check=True)
    (folder / SCRIPT).write_text("\n".join([f"name {name}", *lines]) + "\n")
    hook = folder / HOOK
    new = not hook.exists()
    hook.write_text(f"#!{sys.executable}\n{Path(__file__).with_name('hook.py').read_text()}")
    hook.chmod(0o755)
    return new


def remove_gpu(folder: Path) -> None:
    """The daemon must be started again to notice."""
    for name in (HOOK, SCRIPT, LIBRARY):
        (folder / name).unlink(missing_ok=True)
