"""Real slowdowns: copies of the project's folder, one as it is and others with a few lines changed. The product has no hook for this."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

ROOMS = ("assay", "bench", "models", "datasets", "docker/cpu", "results/baselines", "pyproject.toml", "pytest.ini")

TRAINING = "models/training.py"
STEP = "    def step(self) -> int:\n        if not self._pending:\n"
BUSY_STEP = """\
    def step(self) -> int:
        began = time.thread_time()
        samples = self._undisturbed_step()
        until = began + {factor} * (time.thread_time() - began)
        while time.thread_time() < until:
            pass
        return samples

    def _undisturbed_step(self) -> int:
        if not self._pending:
"""
ENCODER = "models/splice/encoder.py"
LAYERS = "GatedResidualBlock(hidden, 2 ** (layer % 4), dropout) for layer in range(layers))"
MORE_LAYERS = "GatedResidualBlock(hidden, 2 ** (layer % 4), dropout) for layer in range(layers + 1))"

Change = Callable[[Path], None]


def copy_project(root: Path, to: Path) -> Path:
    """What a worker needs of a checkout, in a folder of its own."""
    for room in ROOMS:
        target = to / room
        target.parent.mkdir(parents=True, exist_ok=True)
        if (root / room).is_dir():
            shutil.copytree(root / room, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / room, target)
    return to


def slow_down(share: float) -> Change:
    """Every training step is followed by a busy loop of this share of the time on the core that the step itself took."""
    return lambda folder: replace_once(folder / TRAINING, STEP, BUSY_STEP.format(factor=1 + share))


def add_layer(folder: Path) -> None:
    """One residual block more in the splice encoder."""
    replace_once(folder / ENCODER, LAYERS, MORE_LAYERS)


def replace_once(path: Path, old: str, new: str) -> None:
    """Raises ValueError unless the text is there exactly once: a slowdown that was not injected would count as one that was missed."""
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{path}: the lines to change stand there {text.count(old)} times, not once; adapt benchmarks/gate_rig/injection.py")
    path.write_text(text.replace(old, new), encoding="utf-8")
