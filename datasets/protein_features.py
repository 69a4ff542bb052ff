"""Antibody and antigen sequences -> 150 features: ESM-2 embeddings, or k-mer counts where there is no network.

The documented features are ESM-2 650M embeddings, mean-pooled to 1,280 and reduced to 150 by PCA (AbAg affinity training v2,
section on features). Everything that is learnt from data here is learnt from the training rows alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from assay.datasets.card import DataError, MissingData, hash_files
from assay.datasets.hub import import_transformers

if TYPE_CHECKING:
    import pandas as pd

COMPONENTS = 150
COLUMNS = ("antibody_heavy", "antibody_light", "antigen")
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
CHAIN_SEPARATOR = ":"
ESM2_NAME = "facebook/esm2_t33_650M_UR50D"
ESM2_REVISION = "08e4846e537177426273712802403f7ba8261b6c"
ESM2_VARIABLE = "ASSAY_ESM2"
TOKENS_PER_BATCH = 4096
SEQUENCES_PER_SHARD = 256

Array = np.ndarray
Chains = Sequence[str]
"""The sequences of one row, e.g. heavy, light, antigen; each may hold several chains joined by ":"."""


class KmerPca:
    """k-mer counts of each sequence of a row, side by side -> standardised -> principal components.

    Counts of each k are divided by the k-mers of that sequence, so that length does not matter. A k-mer never spans two chains,
    and k-mers with a letter outside the 20 amino acids are left out. The full SVD has no random part: equal input, equal output.
    """

    def __init__(self, k: Sequence[int] = (1, 2), components: int = COMPONENTS) -> None:
        self._k, self._components = tuple(k), components
        words = ("".join(letters) for size in self._k for letters in product(AMINO_ACIDS, repeat=size))
        self._columns = {word: column for column, word in enumerate(words)}
        self._scaler = StandardScaler()
        self._reducer = _PaddedPca(components)

    def fit(self, sequences: Sequence[Chains]) -> KmerPca:
        """Learns scale and components from training rows: [n] tuples of sequences, the same number in each row."""
        self._reducer.fit(self._scaler.fit_transform(self._count(sequences)))
        return self

    def transform(self, sequences: Sequence[Chains]) -> Array:
        """float32 [n, components]. With no more training rows than components, the columns that do not exist are zero."""
        return self._reducer.transform(self._scaler.transform(self._count(sequences)))

    def _count(self, sequences: Sequence[Chains]) -> Array:
        profiles = {text: self._profile(text) for text in {text for row in sequences for text in row}}
        return np.stack([np.concatenate([profiles[text] for text in row]) for row in sequences])

    def _profile(self, text: str) -> Array:
        profile = np.zeros(len(self._columns))
        for size in self._k:
            words = [chain[i : i + size] for chain in split_chains(text) for i in range(len(chain) - size + 1)]
            known = [self._columns[word] for word in words if word in self._columns]
            np.add.at(profile, known, 1 / max(1, len(known)))
        return profile


def extract_features(
    kind: Literal["kmer-pca", "esm2-pca"],
    table: pd.DataFrame,
    train_rows: Array,
    cache: Path,
    *,
    esm2: Path | str | None = None,
    device: torch.device | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Array:
    """float32 [n, 150] features of a table with columns antibody_heavy, antibody_light, antigen; PCA fitted on `train_rows` only.

    kmer-pca: see KmerPca. esm2-pca: each chain is embedded alone and averaged over its residues; a sequence is the mean over its
    residues in all its chains; a row is the plain mean of its heavy, light and antigen vectors (1,280 numbers), without scaling.
    An empty light chain (a nanobody) is left out of that mean.

    train_rows: [m] positions. cache: folder for embeddings. esm2: folder with the model, else the environment variable
    ASSAY_ESM2, else the Hugging Face cache at the pinned revision. Raises DataError for bad sequences and for a corrupt
    cache, MissingData when the model cannot be had.
    """
    rows = _read_rows(table)
    if len(train_rows) == 0:
        raise DataError("training split", "it has no rows to fit the features on", "Use a larger data set or another split.")
    if kind == "kmer-pca":
        return KmerPca().fit([rows[i] for i in train_rows]).transform(rows)
    model = esm2 or os.environ.get(ESM2_VARIABLE) or ESM2_NAME
    pooled = _pool_rows(rows, _embed_cached(sorted({chain for row in rows for text in row for chain in split_chains(text)}), model, cache, device, progress))
    return _PaddedPca(COMPONENTS).fit(pooled[train_rows]).transform(pooled)


def split_chains(text: str) -> list[str]:
    """The chains of a sequence field: parts between ":" in upper case, empty ones left out."""
    return [chain for chain in text.upper().split(CHAIN_SEPARATOR) if chain]


class _PaddedPca:
    """PCA by full SVD that always gives the same number of columns: what the rows cannot support is zero."""

    def __init__(self, components: int) -> None:
        self._components = components

    def fit(self, values: Array) -> _PaddedPca:
        # n centred rows span n - 1 directions; a further component would be rounding noise
        kept = min(self._components, len(values) - 1, values.shape[1])
        self._pca = PCA(kept, svd_solver="full").fit(values) if kept else None
        return self

    def transform(self, values: Array) -> Array:
        padded = np.zeros((len(values), self._components), np.float32)
        if self._pca is not None:
            padded[:, : self._pca.n_components_] = self._pca.transform(values)
        return padded


def _read_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    source = "sequence table"
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(source, f"no column {', '.join(missing)}", f"Sequence features need {', '.join(COLUMNS)}.")
    columns = [table[name].fillna("").astype(str).str.strip().tolist() for name in COLUMNS]
    rows = list(zip(*columns, strict=True))
    for number, row in enumerate(rows):
        for name, text in zip(COLUMNS, row, strict=True):
            if not re.fullmatch(r"[A-Za-z:]*", text):
                raise DataError(source, f"{name} has letters that no residue has: {text[:40]!r}", "Give one-letter codes, chains joined by ':'.", number)
            if not split_chains(text) and name != "antibody_light":
                raise DataError(source, f"{name} is empty", "Remove the row or give the sequence; only the light chain may be empty.", number)
    return rows


def _pool_rows(rows: Sequence[Chains], embeddings: dict[str, Array]) -> Array:
    pooled = []
    for row in rows:
        parts = [split_chains(text) for text in row if split_chains(text)]
        pooled.append(np.mean([np.average([embeddings[c] for c in chains], axis=0, weights=[len(c) for c in chains]) for chains in parts], axis=0))
    return np.stack(pooled)


def _embed_cached(
    chains: Sequence[str], model: Path | str, cache: Path, device: torch.device | None, progress: Callable[[int, int, str], None] | None
) -> dict[str, Array]:
    folder = cache / "esm2" / _identify_model(model)
    known = _read_shards(folder)
    wanted = [chain for chain in chains if _key(chain) not in known]
    if wanted:
        # neighbours in length share a batch and waste no padding; the longest come first, so memory runs out early or never
        wanted.sort(key=len, reverse=True)
        encoder = Esm2Encoder(model, device)
        embedded = 0

        def advance(chains: int) -> None:
            nonlocal embedded
            embedded += chains
            if progress is not None:
                progress(embedded, len(wanted), "ESM-2 embeddings")

        for start in range(0, len(wanted), SEQUENCES_PER_SHARD):
            part = wanted[start : start + SEQUENCES_PER_SHARD]
            vectors = encoder.embed(part, advance)
            _write_shard(folder, [_key(chain) for chain in part], vectors)
            known.update(zip([_key(chain) for chain in part], vectors, strict=True))
    return {chain: known[_key(chain)] for chain in chains}


class Esm2Encoder:
    """An ESM-2 model from a folder or, by name and pinned revision, from the Hugging Face cache; weights from safetensors only."""

    def __init__(self, model: Path | str, device: torch.device | None = None) -> None:
        transformers = import_transformers()  # takes seconds, which k-mers need not pay
        self._name = str(model)
        # a run does not download: it would take 2.6 GB without a word, and wait a minute for a network that is not there.
        # A folder is its own version; only the hub has revisions
        revision: dict[str, Any] = {"local_files_only": True} | ({"revision": ESM2_REVISION} if str(model) == ESM2_NAME else {})
        try:
            self._tokeniser = transformers.AutoTokenizer.from_pretrained(str(model), **revision)
            self._model, report = transformers.EsmModel.from_pretrained(
                str(model), add_pooling_layer=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **revision
            )
        except (OSError, ValueError) as error:
            raise MissingData(
                str(model),
                f"the ESM-2 model cannot be loaded ({str(error).splitlines()[0]})",
                f"Run `hf download {ESM2_NAME} --revision {ESM2_REVISION}`; without a network here, run it elsewhere with `--local-dir DIR`, "
                f"bring DIR and set {ESM2_VARIABLE}=DIR; or use the kmer-pca features, which need neither.",
            ) from error
        absent = sorted(key for key in report["missing_keys"] if ("encoder.layer" in key or "word_embeddings" in key) and "inv_freq" not in key)
        if absent:  # transformers would go on with random weights in their place
            raise DataError(str(model), f"{len(absent)} weights of ESM-2 are missing, e.g. {absent[0]}", f"Give a folder with the files of {ESM2_NAME}.")
        self._device = device or torch.device("cpu")
        self._model.to(self._device).eval()

    def embed(self, chains: Sequence[str], advance: Callable[[int], None] = lambda _: None) -> Array:
        """[n, hidden] float32: the last hidden state averaged over residues, without start, end and padding tokens."""
        order = sorted(range(len(chains)), key=lambda i: -len(chains[i]))
        vectors = np.zeros((len(chains), self._model.config.hidden_size), np.float32)
        start = 0
        while start < len(order):
            rows = order[start : start + max(1, TOKENS_PER_BATCH // (len(chains[order[start]]) + 2))]
            vectors[rows] = self._embed_batch([chains[i] for i in rows])
            start += len(rows)
            advance(len(rows))
        return vectors

    def _embed_batch(self, chains: list[str]) -> Array:
        tokens = self._tokeniser(chains, return_tensors="pt", padding=True).to(self._device)
        with torch.inference_mode():
            hidden = self._model(**tokens).last_hidden_state
        lengths = torch.tensor([len(chain) for chain in chains], device=self._device)
        if not torch.equal(tokens["attention_mask"].sum(1), lengths + 2):
            raise DataError(self._name, "its tokeniser does not give one token a residue plus start and end", f"Give a folder with the files of {ESM2_NAME}.")
        # token 0 is the start token, so residues are 1..length
        position = torch.arange(hidden.shape[1], device=self._device)
        residues = (position >= 1) & (position <= lengths[:, None])
        mean = (hidden * residues[..., None]).sum(1) / lengths[:, None]
        return np.asarray(mean.float().cpu().numpy())


def _identify_model(model: Path | str) -> str:
    if str(model) == ESM2_NAME:
        return ESM2_REVISION
    files = sorted([*Path(model).glob("*.safetensors"), *Path(model).glob("config.json")])
    if not files:
        raise MissingData(str(model), "no ESM-2 model here", f"{ESM2_VARIABLE} must name a folder with config.json, vocab.txt and *.safetensors.")
    return hash_files(files)[:40]


def _key(chain: str) -> str:
    return hashlib.sha256(chain.encode()).hexdigest()


def _read_shards(folder: Path) -> dict[str, Array]:
    known: dict[str, Array] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            vectors = np.stack(table["embedding"].to_numpy())
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            problem = f"this cached file of embeddings is damaged ({str(error).splitlines()[0]})"
            raise DataError(path, problem, "Delete it; the next run computes it again.") from error
        known.update(zip(table["sha256"].to_pylist(), vectors, strict=True))
    return known


def _write_shard(folder: Path, keys: list[str], vectors: Array) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{_key(''.join(keys))}.parquet"
    partial = final.with_suffix(f".{os.getpid()}.part")
    columns = {"sha256": keys, "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])}
    pq.write_table(pa.table(columns), partial, write_page_checksum=True)
    partial.replace(final)
