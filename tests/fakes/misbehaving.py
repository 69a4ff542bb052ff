"""A family of workloads that end in every way a case can end. Tests copy it into models/ of a copied project."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from assay.bench.case import Case, Phase, Preset, Quantity, Unsupported
from assay.datasets.card import DataError, DatasetCard, DatasetIdentity, MissingData, identify_twin
from assay.models.training import Batch, Recipe, Splits, TrainingSession
from assay.models.workload import History, Progress, Resources, Session, Target, Variant

RECIPE = Recipe(optimiser="adam", learning_rate=0.01, weight_decay=0.0, batch=8, epochs=2)


class Line:
    """Fits y = 2 x."""

    def build(self) -> nn.Module:
        return nn.Linear(1, 1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        prediction: Tensor = model(batch[0])
        return prediction

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return {"rmse": Quantity(float(np.sqrt(np.mean((prediction - 1.0) ** 2))), "")}


class Misbehaving(TrainingSession):
    """Steps until its variant's accident happens."""

    variant = "well"

    def step(self) -> int:
        match self.variant:
            case "hangs":
                time.sleep(3600)
            case "segfaults":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raises":
                raise RuntimeError("the gradient | went <b>astray</b>")
            case "runs-out":
                if self._device.type == "cuda":
                    torch.empty(1 << 50, dtype=torch.uint8, device=self._device)  # more than any board has
                raise MemoryError("no room for the activations")
            case "leaks":
                self.hoard = [*getattr(self, "hoard", []), np.ones(32 << 20)]
        return super().step()

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        if self.variant == "dawdles":
            print("dawdling", flush=True)
        while self.variant == "dawdles":
            progress(1, 2, "dawdling")
            time.sleep(0.1)
        return super().fit(progress, after_epoch)


class Accidents:
    name = "accidents"
    family = "misbehaving"
    summary = "ends in every way a case can end"
    source = "tests"
    target = Target(metric="rmse", higher_is_better=False)
    variants: ClassVar = {
        name: Variant(name=name, summary=name, phases=(Phase.TRAIN, Phase.EVAL) if name == "well" else (Phase.TRAIN,), presets=(Preset.SMOKE,))
        for name in ("runs-out", "well", "hangs", "dawdles", "segfaults", "raises", "leaks", "no-such-unit", "bad-file", "no-file")
    }

    def facts(self, variant: str) -> Mapping[str, float]:
        return {"parameters": 2}

    def recipe(self, case: Case) -> Mapping[str, object]:
        return RECIPE.to_dict()

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        return identify_twin("line-twin", rows=40)

    def open(self, case: Case, resources: Resources) -> Session:
        match case.variant:
            case "no-such-unit":
                raise Unsupported("needs a unit that this machine has not")
            case "bad-file":
                raise DataError("line.csv", "column y is missing", "Add it.", row=1)
            case "no-file":
                raise MissingData("line.csv", "is not there", "Fetch it.")
        x = torch.linspace(0, 1, 40).unsqueeze(1)
        splits = Splits((x, 2 * x), None, (x[:9], 2 * x[:9]))
        card = DatasetCard(self.identify(case, None), "drawn here", "CC0-1.0", {"train": 40, "test": 9})
        session = Misbehaving(
            Line(), splits, RECIPE, card=card, conditions={"dataset": "line-twin", "attention": "eager"}, unit="points", device=resources.device, precision=case.precision, seed=resources.seed
        )
        session.variant = case.variant
        return session

    def score(self, truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray | None = None) -> Mapping[str, Quantity]:
        return {"rmse": Quantity(float(np.sqrt(np.mean((prediction - truth) ** 2))), "")}


WORKLOADS = (Accidents(),)
