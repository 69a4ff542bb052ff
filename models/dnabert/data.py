"""Which GUE data, tokenizer and weights a case uses, and its rows as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from assay.bench.case import Case, Preset
from assay.datasets.card import DatasetCard, DatasetIdentity, MissingData, hash_files, join_identity
from assay.datasets.gue import SHAPES, GueData, LabelledSequences, identify_gue, identify_gue_twin, locate_gue, make_gue_twin, read_gue
from assay.models.dnabert.checkpoints import find_checkpoint
from assay.models.dnabert.recipes import DnabertRecipe
from assay.models.dnabert.tokens import KmerTokenizer, PublishedTokenizer, Tokenizer, encode_rows, find_tokenizer
from assay.models.training import Batch, Splits

LENGTHS = frozenset({1})
"""The column that says on the host how a batch is packed."""


@dataclass(frozen=True, slots=True)
class DnabertData:
    """Rows as (ids [n, L], lengths [n], label [n]); the weights' file, or None for random weights."""

    card: DatasetCard
    splits: Splits
    classes: int
    checkpoint: Path | None
    tokenizer: str


def identify_data(recipe: DnabertRecipe, case: Case, data: Path | None, model: str) -> DatasetIdentity:
    """The data that `open_data` reads, published weights and tokenizer included: results from others are not comparable.

    Raises MissingData where the case needs data, weights or a tokenizer that are not there.
    """
    if takes_twin(recipe, case, data):
        return identify_gue_twin(recipe.task, recipe.twin_rows)
    return _join_model(identify_gue(_require(data, recipe), recipe.task), recipe, _require(data, recipe) / model)


def _join_model(identity: DatasetIdentity, recipe: DnabertRecipe, folder: Path) -> DatasetIdentity:
    return join_identity(identity, hash_files([find_tokenizer(folder), find_checkpoint(folder)]) if recipe.weights == "published" else None)


def takes_twin(recipe: DnabertRecipe, case: Case, data: Path | None) -> bool:
    """Smoke and scale always, `documented` never, `standard` where the task's files are not there."""
    if case.preset in (Preset.SMOKE, Preset.SCALE):
        return True
    if case.preset is Preset.DOCUMENTED:
        return False
    try:
        locate_gue(_require(data, recipe), recipe.task)
    except MissingData:
        return True
    return False


def open_data(recipe: DnabertRecipe, case: Case, data: Path | None, model: str) -> DnabertData:
    """The data read, cleared of duplicates and tokenised. `model` is the folder of the published weights below the data folder.

    Raises MissingData where real sequences meet no published tokenizer and weights: ids of another one would mean other tokens.
    """
    twin = takes_twin(recipe, case, data)
    gue = make_gue_twin(recipe.task, recipe.twin_rows) if twin else read_gue(_require(data, recipe), recipe.task)
    published = not twin and recipe.weights == "published"
    tokenizer: Tokenizer = PublishedTokenizer(_require(data, recipe) / model) if published else KmerTokenizer()
    checkpoint = find_checkpoint(_require(data, recipe) / model) if published else None
    train, validation, test = (_as_batch(tokenizer, part) for part in (gue.train, gue.validation, gue.test))
    identity = gue.identity if twin else _join_model(gue.identity, recipe, _require(data, recipe) / model)
    splits, classes = Splits(train, validation, test, host=LENGTHS), len(SHAPES[recipe.task].classes)
    return DnabertData(_describe(gue, identity, tokenizer, checkpoint), splits, classes, checkpoint, tokenizer.name)


def _describe(gue: GueData, identity: DatasetIdentity, tokenizer: Tokenizer, checkpoint: Path | None) -> DatasetCard:
    weights = "random weights: quality says nothing of the published model" if checkpoint is None else f"published weights from {checkpoint.name}"
    return DatasetCard(identity, gue.source, gue.licence, gue.rows, gue.dropped, (*gue.notes, f"tokens: {tokenizer.name}", weights))


def _as_batch(tokenizer: Tokenizer, part: LabelledSequences) -> Batch:
    ids, lengths = encode_rows(tokenizer, part.sequences, part.source, part.row)
    return ids, lengths, torch.from_numpy(part.label)


def _require(data: Path | None, recipe: DnabertRecipe) -> Path:
    if data is None:
        raise MissingData(f"gue ({recipe.task})", "no data folder was given, and this case has no twin", "Pass --data DIR, or run the preset scale")
    return data
