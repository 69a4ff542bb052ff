"""Which audiograms a preset uses, and their mice as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from assay.bench.case import Preset
from assay.datasets.audiogram_twin import AudiogramTwin, identify
from assay.datasets.audiograms import FULL_CSV, SAMPLE_CSV, UNION_CSV, MouseTable, Preprocessing, identify_mice, read_mice, split_by_gene
from assay.datasets.card import DatasetCard, DatasetIdentity, MissingData
from assay.datasets.splits import RowSplit
from assay.models.audiogram.quality import measure_agreement
from assay.models.audiogram.recipes import TWIN_MICE, AudiogramRecipe

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Mice:
    """One split on the device."""

    abr: Tensor  # [n, 6]
    context: Tensor  # [n, metadata + 2]

    def __len__(self) -> int:
        return len(self.abr)


@dataclass(frozen=True, slots=True)
class AudiogramData:
    """One table parted by gene, with inputs for every mouse."""

    card: DatasetCard
    table: MouseTable
    split: RowSplit
    preprocessing: Preprocessing
    train: Mice
    validation: Mice
    test: Mice


def identify_data(preset: Preset, data: Path | None) -> DatasetIdentity:
    """The full table for `documented`, the twin for `scale`, else the IMPC sample where it is and the twin where not."""
    path = _locate(preset, data)
    return identify(TWIN_MICE[preset]) if path is None else identify_mice(path)


def open_data(preset: Preset, recipe: AudiogramRecipe, data: Path | None, device: torch.device) -> AudiogramData:
    """The mice that `identify_data` names, read, checked, split and encoded; everything fitted is fitted on the training split."""
    path = _locate(preset, data)
    table, split, note = _split_twin(TWIN_MICE[preset]) if path is None else _split_file(path)
    preprocessing = Preprocessing(table, split.train, recipe.shape.encoding)
    cut = f"{preprocessing.count_cut()} metadata categories of the training split have no column of their own"
    card = DatasetCard(table.identity, table.source, table.licence, split.sizes, table.dropped, (*table.notes, note, cut))

    def encode(rows: Array) -> Mice:
        inputs = preprocessing(table, rows)
        return Mice(torch.from_numpy(inputs.abr).to(device), torch.from_numpy(inputs.context).to(device))

    return AudiogramData(card, table, split, preprocessing, encode(split.train), encode(split.validation), encode(split.test))


def _split_twin(mice: int) -> tuple[MouseTable, RowSplit, str]:
    twin = AudiogramTwin(mice)
    split = split_by_gene(twin.table)
    best = measure_agreement(twin.types[split.test], twin.predict_best(split.test))
    shown = ", ".join(f"{name} {value:.4f}" for name, value in best.items())
    return twin.table, split, f"planted best on the test mice (Bayes classifier, which knows levels, shares and noise): {shown}"


def _split_file(path: Path) -> tuple[MouseTable, RowSplit, str]:
    table = read_mice(path)
    controls = int((table.genes == "").sum())
    return table, split_by_gene(table), f"{controls} control mice have no gene: they are split one by one and have no contrastive partner"


def _locate(preset: Preset, data: Path | None) -> Path | None:
    """The table of a preset; None: the twin. Raises MissingData where `documented` has no folder to look in."""
    if preset is Preset.DOCUMENTED:
        if data is None:
            problem, remedy = "no data folder was given, and the documented preset has no twin", "Pass --data DIR, or run the preset standard or scale"
            raise MissingData(FULL_CSV, problem, remedy)
        return data / FULL_CSV
    if preset is Preset.SCALE or data is None:
        return None
    return next((data / name for name in (UNION_CSV, SAMPLE_CSV) if (data / name).is_file()), None)
