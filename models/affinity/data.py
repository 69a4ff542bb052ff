"""Which affinity data a preset uses, and its rows as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from assay.bench.case import Preset
from assay.datasets.abag import (
    ABAG_CSV,
    SKEMPI_CSV,
    SPLIT_FRACTIONS,
    SPLIT_SEED,
    AffinityTable,
    identify_abag,
    identify_skempi,
    read_abag,
    read_skempi,
)
from assay.datasets.abag_twin import DOCUMENTED_ROWS, AffinityTwin, identify
from assay.datasets.card import DatasetCard, DatasetIdentity, MissingData
from assay.datasets.splits import RowSplit, split_by_group, split_random
from assay.models.affinity.recipes import AffinityRecipe, FeatureKind, SplitKind
from assay.models.workload import Resources

Array = np.ndarray
TWIN_ROWS = {Preset.SMOKE: 3_000, Preset.STANDARD: 20_000, Preset.SCALE: DOCUMENTED_ROWS}
FEATURE_NOTES: Mapping[FeatureKind, str] = {
    "kmer-pca": "features: 1- and 2-mer counts of the three sequences, PCA-150 fitted on the training rows only; not ESM-2",
    "esm2-pca": "features: ESM-2 650M, mean over residues, PCA-150 fitted on the training rows only",
}


@dataclass(frozen=True, slots=True)
class AffinityData:
    """One table parted into training, validation and test rows, with features for every row."""

    card: DatasetCard
    features: Array  # [n, 150] float32
    pkd: Array  # [n] float64
    complexes: Array  # [n]
    split: RowSplit


def identify_data(preset: Preset, data: Path | None, recipe: AffinityRecipe) -> DatasetIdentity:
    """The data of a preset without reading it: AbAg for `documented`, the twin for `scale`, else SKEMPI where it is and the twin where not."""
    if preset is Preset.DOCUMENTED:
        return identify_abag(_locate_abag(data))
    skempi = _locate_skempi(preset, data)
    if skempi is None and recipe.features == "esm2-pca":
        raise MissingData(SKEMPI_CSV, "is not there, and ESM-2 embeds real sequences only", "Pass --data DIR; `python -m bench data list` says what is in it")
    return identify(TWIN_ROWS[preset]) if skempi is None else identify_skempi(skempi)


def open_data(preset: Preset, recipe: AffinityRecipe, resources: Resources) -> AffinityData:
    """The data that `identify_data` names, read, checked and split; features of sequences are fitted on the training rows only."""
    data, split = resources.data, recipe.split
    identify_data(preset, data, recipe)
    if preset is Preset.DOCUMENTED:
        table = read_abag(_locate_abag(data))
    elif (skempi := _locate_skempi(preset, data)) is not None:
        table = read_skempi(skempi)
    else:
        twin = AffinityTwin(TWIN_ROWS[preset])
        rows = split_table(twin.table, split)
        best = twin.measure_best(rows.test)
        note = f"planted best on the test rows: RMSE {best.rmse:.4f}, Pearson {best.pearson:.4f} (Bayes predictor)"
        return _assemble(replace(twin.table, notes=(*twin.table.notes, note)), rows, recipe, resources)
    return _assemble(table, split_table(table, split), recipe, resources)


def split_table(table: AffinityTable, split: SplitKind) -> RowSplit:
    """The documented 70/15/15 with seed 42: of rows at random, or of whole complexes."""
    if split == "random":
        return split_random(len(table.pkd), SPLIT_FRACTIONS, SPLIT_SEED, table.path)
    return split_by_group(table.complexes, SPLIT_FRACTIONS, SPLIT_SEED, table.path)


def take(values: Array, rows: Array) -> torch.Tensor:
    """Rows of an array as a float32 tensor of its own."""
    return torch.from_numpy(values[rows].astype(np.float32, copy=False))


def _locate_abag(data: Path | None) -> Path:
    if data is None:
        raise MissingData(ABAG_CSV, "no data folder was given, and the documented preset has no twin", "Pass --data DIR, or run the preset scale or standard")
    return data / ABAG_CSV


def _locate_skempi(preset: Preset, data: Path | None) -> Path | None:
    if preset is Preset.SCALE or data is None:
        return None
    path = data / SKEMPI_CSV
    return path if path.exists() else None


def _assemble(table: AffinityTable, split: RowSplit, recipe: AffinityRecipe, resources: Resources) -> AffinityData:
    notes = table.notes
    if isinstance(table.inputs, np.ndarray):
        features = table.inputs
    else:
        from assay.datasets.protein_features import extract_features  # here, not above: pulls in scikit-learn, which the twin does not need

        features = extract_features(recipe.features, table.inputs, split.train, resources.cache, device=resources.device, progress=resources.progress)
        notes = (*notes, FEATURE_NOTES[recipe.features])
    test_complexes = len(np.unique(table.complexes[split.test]))
    shared = len(np.intersect1d(table.complexes[split.train], table.complexes[split.test]))
    notes = (*notes, f"{shared} of the {test_complexes} complexes of the test rows also have training rows")
    card = DatasetCard(table.identity, table.source, table.licence, split.sizes, table.dropped, notes)
    return AffinityData(card, features, table.pkd, table.complexes, split)
