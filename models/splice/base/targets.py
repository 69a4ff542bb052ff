"""The file of base-model deltas that the SpliceVarDB reader takes: written batch by batch, resumed after an interruption."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from assay.bench.case import UsageError
from assay.datasets.base_windows import BaseWindow, Skipped, cut_base_window
from assay.datasets.card import DataError, hash_files
from assay.datasets.genome import Genome, GenomeFile, list_hg38_slices
from assay.datasets.splice_windows import Alleles
from assay.datasets.variant_lists import read_variant_list
from assay.models.splice.base.deltas import BaseScores, StrandScores, score_windows
from assay.models.splice.base.network import CLASSES, SPLICEAI_10K, Architecture, SpliceAIEnsemble, list_checkpoints, load_ensemble
from assay.models.workload import Progress, ignore_progress

_DELTA_SCORES = ("DS_AG", "DS_AL", "DS_DG", "DS_DL")
_DELTAS = tuple(f"d_{name}" for name in CLASSES)
COLUMNS = (
    *("chrom", "pos_hg38", "ref", "alt", "id"),
    *(*_DELTA_SCORES, *_DELTAS, "offset", "max_abs", *(f"dd_{name}" for name in CLASSES), "max_abs_double_softmax"),
    *(f"minus_{name}" for name in (*_DELTA_SCORES, *_DELTAS, "offset", "max_abs", "max_abs_double_softmax")),
    *("site_minus", "best_max_abs", "site_plus", "strand"),
)
"""d_*: one softmax; dd_*: two; minus_*: the minus strand; offset: nt from the variant on the plus strand; strand: which one has a site."""
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class TargetsReport:
    """What a run wrote: rows in the file, those of them that an earlier run had written, variants left out and why, models averaged."""

    rows: int
    resumed: int
    skipped: Mapping[str, int]
    models: int


def write_splice_targets(
    variants: Path,
    fasta: Path,
    weights: Path,
    out: Path,
    *,
    batch: int = 8,
    device: torch.device,
    cache: Path,
    progress: Progress = ignore_progress,
    architecture: Architecture = SPLICEAI_10K,
) -> TargetsReport:
    """Scores a VCF or SpliceVarDB's download with the ensemble in `weights` and writes one CSV row per variant, in the file's order.

    fasta: whole chromosomes of hg38, or a folder with the public slices. Rows go to a hidden file beside `out` that takes its name when
    all are there; the same command continues it. Raises UsageError when `out` exists, MissingData, DataError.
    """
    if out.exists():
        raise UsageError(f"--out {out} exists already; remove it or name another file")
    torch.backends.cudnn.allow_tf32 = False  # its rounding would show in deltas from about 0.001
    ensemble = load_ensemble(weights, architecture).to(device)
    wanted = read_variant_list(variants)
    genome = Genome(list_hg38_slices(fasta) if fasta.is_dir() else [GenomeFile(fasta)], cache)
    skipped = Counter(wanted.dropped)
    kept = _check_variants(wanted.variants, genome, variants, architecture.context, skipped, progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{_fingerprint(variants, genome, weights, architecture)}.part")
    done = _read_finished(part)
    todo = [variant for variant in kept if variant.key not in done]
    progress(len(done), len(kept), "scoring variants")
    with part.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if not stream.tell():
            writer.writeheader()
        for start in range(0, len(todo), batch):
            windows = [cut_base_window(genome, variant, variants, architecture.context) for variant in todo[start : start + batch]]
            writer.writerows(_make_rows(windows, ensemble, device))
            stream.flush()
            progress(len(done) + start + len(windows), len(kept), "scoring variants")
    part.rename(out)
    return TargetsReport(len(kept), len(done), dict(skipped), len(ensemble.models))


def _check_variants(found: Sequence[Alleles], genome: Genome, path: Path, context: int, skipped: Counter[str], progress: Progress) -> list[Alleles]:
    """The variants that can be scored. All of them are looked at before the first is scored: a bad row should not end a run after hours."""
    kept: list[Alleles] = []
    for number, variant in enumerate(found, start=1):
        try:
            cut_base_window(genome, variant, path, context)
        except Skipped as reason:
            skipped[str(reason)] += 1
        else:
            kept.append(variant)
        progress(number, len(found), "checking variants")
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise DataError(path, f"holds no variant that can be scored: {reasons}", "Give the FASTA of the assembly that the coordinates belong to (hg38)")
    return kept


def _make_rows(windows: list[BaseWindow], ensemble: SpliceAIEnsemble, device: torch.device) -> Iterator[dict[str, object]]:
    scores = score_windows(ensemble, windows, device)
    for index, window in enumerate(windows):
        variant = window.variant
        named = (variant.chromosome, variant.position, variant.reference, variant.alternative, variant.name)
        yield dict(zip(COLUMNS, (*named, *_list_values(scores, index)), strict=True))


def _list_values(scores: BaseScores, row: int) -> Iterator[object]:
    plus, minus = scores.plus, scores.minus
    sizes = [float(abs(strand.delta[row]).max()) for strand in (plus, minus)]
    yield from (*_round(plus.gains_losses[row]), *_round(plus.delta[row]), int(plus.offset[row]), *_round([sizes[0]]))
    yield from (*_round(plus.double[row]), *_round([_size_double(plus, row)]))
    yield from (*_round(minus.gains_losses[row]), *_round(minus.delta[row]), int(minus.offset[row]), *_round([sizes[1], _size_double(minus, row)]))
    yield from (*_round([minus.site[row], max(sizes), plus.site[row]]), scores.strand[row])


def _size_double(scores: StrandScores, row: int) -> float:
    return float(abs(scores.double[row]).max())


def _round(values: Iterable[float]) -> Iterator[float]:
    return (round(float(value), DECIMALS) + 0.0 for value in values)  # + 0.0: no -0.0


def _read_finished(part: Path) -> set[str]:
    """Variants whose rows are whole in an interrupted file; a line that was cut off is removed from it."""
    if not part.exists():
        return set()
    text = part.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    part.write_text(whole, encoding="utf-8")
    return {"-".join(row[name] for name in COLUMNS[:4]) for row in csv.DictReader(whole.splitlines())}


def _fingerprint(variants: Path, genome: Genome, weights: Path, architecture: Architecture) -> str:
    """Of everything that decides the rows, so that only the same work is continued. Of the genome size and date: hashing 3 GB takes longer than it protects."""
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in genome.paths]
    content = [hash_files([variants, *list_checkpoints(weights)]), states, architecture.groups, COLUMNS]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
