"""Which splice data a case uses, and its rows as tensors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.bench.case import Case, Preset
from assay.datasets.card import DatasetCard, DatasetIdentity, MissingData
from assay.datasets.genome import Genome, GenomeFile
from assay.datasets.splice_assays import (
    MAPSY_FILE,
    MFASS_SCORES,
    MFASS_VARIANTS,
    VEXSEQ_FILE,
    identify_files,
    read_mapsy,
    read_mfass,
    read_vexseq,
)
from assay.datasets.splice_twin import identify_splice_twin, make_splice_twin
from assay.datasets.splice_variants import TEST_CHROMOSOMES, SpliceVariants, sample_balanced
from assay.datasets.splicevardb import DELTAS_FILE, GENOME_FILE, TABLE_FILE, read_splicevardb
from assay.datasets.splits import split_by_values
from assay.models.splice.recipes import VALIDATION_SHARE, ResolvedRecipe
from assay.models.splice.tasks import VariantBatch
from assay.models.training import Splits

SEED = 42
"""Of sampling and of twins: the rows of a case do not change with the training seed."""

_FILES = {
    "mapsy": (MAPSY_FILE,),
    "vex-seq": (VEXSEQ_FILE,),
    "mfass": (MFASS_SCORES, MFASS_VARIANTS, GENOME_FILE),
    "splicevardb": (TABLE_FILE, DELTAS_FILE, GENOME_FILE),
}
_HELD_OUT: dict[str, Collection[str]] = {
    # the documented pair has 6 positives in MaPSy; five chromosomes also let the bootstrap resample chromosomes
    "mapsy": ("chr2", "chr9", "chr16", *TEST_CHROMOSOMES),
    "mfass": ("chr2", "chr9", "chr16", *TEST_CHROMOSOMES),
    "vex-seq": ("chr4", "chr5", "chr6", "chr7", "chr8"),  # the set has only chr1 to chr8
}


@dataclass(frozen=True, slots=True)
class SpliceData:
    """Rows to train on, to validate on (None: the recipe has no validation), to test on."""

    card: DatasetCard
    splits: Splits
    test: SpliceVariants
    test_rows: np.ndarray  # int64, of the test variants among all that were read


def identify_data(recipe: ResolvedRecipe, case: Case, data: Path | None) -> DatasetIdentity:
    """The data that `open_data` reads. Raises MissingData where the case needs data that is not there."""
    name = choose_source(recipe, case, data)
    if name == "splice-twin":
        return identify_splice_twin(recipe.twin_rows, recipe.twin_length, SEED, recipe.variant.targets)
    return identify_files(name, _locate(name, data))


def choose_source(recipe: ResolvedRecipe, case: Case, data: Path | None) -> str:
    """SpliceVarDB for `documented`, the twin for `scale`, else the variant's assay where its files are, and the twin where not."""
    assay = recipe.variant.assay
    if case.preset is Preset.DOCUMENTED:
        return "splicevardb"
    if case.preset is Preset.SCALE or assay is None:
        return "splice-twin"
    there = data is not None and all((data / name).is_file() for name in _FILES[assay])
    return assay if there or recipe.variant.needs_assay else "splice-twin"


def open_data(recipe: ResolvedRecipe, case: Case, data: Path | None, cache: Path) -> SpliceData:
    """The data read, split by chromosome, balanced and encoded. Raises MissingData, DataError."""
    held_out = _HELD_OUT.get(choose_source(recipe, case, data), TEST_CHROMOSOMES)
    return split_variants(read_variants(recipe, case, data, cache), recipe, held_out)


def read_variants(recipe: ResolvedRecipe, case: Case, data: Path | None, cache: Path) -> SpliceVariants:
    """Every variant of the case's data, before any split. Raises MissingData, DataError."""
    return _read(choose_source(recipe, case, data), recipe, data, cache)


def split_variants(variants: SpliceVariants, recipe: ResolvedRecipe, held_out: Collection[str]) -> SpliceData:
    """Training, validation and test rows; the test rows are those of the chromosomes held out. Raises DataError for an empty part."""
    split = split_by_values(variants.chromosome, held_out, variants.path)
    train = sample_balanced(variants, split.train, recipe.run.max_train, SEED, "training")
    test = sample_balanced(variants, split.test, recipe.run.max_test, SEED, "test")
    held = max(1, round(len(train) * VALIDATION_SHARE)) if recipe.variant.stops_early else 0
    validation, train = train[:held], train[held:]
    used = {"train": len(train), "validation": held, "test": len(test)}
    dropped = {**variants.dropped, "not drawn when balancing": len(variants) - sum(used.values())}
    note = f"test chromosomes {', '.join(sorted(held_out))}; as many Splice-altering as Normal rows in either split"
    card = DatasetCard(variants.identity, variants.source, variants.licence, used, dropped, (*variants.notes, note))
    batches = (_as_batch(variants, train), _as_batch(variants, validation) if held else None, _as_batch(variants, test))
    return SpliceData(card, Splits(*batches), variants.take(test), test)


def _as_batch(variants: SpliceVariants, rows: np.ndarray) -> VariantBatch:
    return VariantBatch.of(variants.take(rows))


def _read(name: str, recipe: ResolvedRecipe, data: Path | None, cache: Path) -> SpliceVariants:
    if name == "splice-twin":
        return make_splice_twin(recipe.twin_rows, recipe.twin_length, SEED, recipe.variant.targets)
    paths = _locate(name, data)
    match name:
        case "mapsy":
            return read_mapsy(paths[0])
        case "vex-seq":
            return read_vexseq(paths[0])
        case "mfass":
            return read_mfass(paths[0], paths[1], Genome([GenomeFile(paths[2])], cache))
        case _:
            table, *deltas, genome = paths
            return read_splicevardb(table, Genome([GenomeFile(genome)], cache), recipe.variant.targets, deltas[0] if deltas else None)


def _locate(name: str, data: Path | None) -> list[Path]:
    files = _FILES[name]
    if data is None:
        raise MissingData(files[0], "no data folder was given, and this case has no twin", f"Pass --data DIR with {', '.join(files)}, or run the preset scale")
    # base-model scores may be columns of the table itself
    paths = [data / file for file in files if file != DELTAS_FILE or (data / file).is_file()]
    for path in paths:
        if not path.is_file():
            raise MissingData(path, "not found", f"Put {', '.join(files)} below the folder given with --data, or run the preset scale")
    return paths
