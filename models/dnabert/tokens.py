"""DNA to token ids: the published byte-pair encoding from a model's folder, and a stand-in of k-mers for work without it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from assay.datasets.card import DataError, MissingData
from assay.datasets.hub import import_transformers

SPECIAL = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4}
VOCABULARY = 4096
MAX_TOKENS = 5_000
"""Where the published evaluation cuts; ALiBi itself has no limit."""
TOKENIZER_FILE = "tokenizer.json"
KMER = 5
"""The published encoding makes about one token of five bases."""
_REMEDY = "Give the tokenizer.json of DNABERT-2-117M or DNABERT-S"


class Tokenizer(Protocol):
    """Sequences to ids, each framed by [CLS] and [SEP]."""

    name: str

    def encode(self, sequences: Sequence[str]) -> list[list[int]]:
        """Ids of every sequence of the letters A, C, G, T, N."""


class KmerTokenizer:
    """Non-overlapping 5-mers, the rest as shorter ones; anything with an N is [UNK]. Ids are not the published ones: for random weights only."""

    name = f"{KMER}-mers, not the published encoding"

    def __init__(self) -> None:
        words = ["".join(letters) for k in range(1, KMER + 1) for letters in product("ACGT", repeat=k)]
        self._ids = {word: number for number, word in enumerate(words, start=len(SPECIAL))}

    def encode(self, sequences: Sequence[str]) -> list[list[int]]:
        unknown = SPECIAL["[UNK]"]
        return [
            [SPECIAL["[CLS]"], *(self._ids.get(text[at : at + KMER], unknown) for at in range(0, len(text), KMER)), SPECIAL["[SEP]"]] for text in sequences
        ]


def find_tokenizer(folder: Path) -> Path:
    """The tokenizer's file in a model's folder. Raises MissingData."""
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        remedy = "Download the model from the hub into this folder, at a pinned revision; twins run without it"
        raise MissingData(path, "not found, and ids of another tokenizer would mean other tokens to these weights", remedy)
    return path


class PublishedTokenizer:
    """The byte-pair encoding that both published models share, vocabulary 4,096."""

    name = "published byte-pair encoding"

    def __init__(self, folder: Path) -> None:
        """Raises MissingData without a tokenizer.json, DataError when it is of another model."""
        path = find_tokenizer(folder)
        try:
            self._tokenizer = import_transformers().PreTrainedTokenizerFast(tokenizer_file=str(path))
        except Exception as error:  # noqa: BLE001  # the library raises bare Exception for a malformed file
            raise DataError(path, f"is no tokenizer: {str(error).splitlines()[0]}", _REMEDY) from None
        self._check(path)

    def _check(self, path: Path) -> None:
        known = self._tokenizer.get_vocab()
        if len(known) != VOCABULARY:
            raise DataError(path, f"has {len(known):,} tokens, expected {VOCABULARY:,}", _REMEDY)
        for token, number in SPECIAL.items():
            if known.get(token) != number:
                raise DataError(path, f"gives {token} the id {known.get(token)}, expected {number}", _REMEDY)
        ids = self._tokenizer("ACGT")["input_ids"]
        if ids[0] != SPECIAL["[CLS]"] or ids[-1] != SPECIAL["[SEP]"]:
            raise DataError(path, f"frames ACGT as {ids}, expected [CLS] (1) first and [SEP] (2) last", _REMEDY)

    def encode(self, sequences: Sequence[str]) -> list[list[int]]:
        encoded: list[list[int]] = self._tokenizer(list(sequences), add_special_tokens=True)["input_ids"]
        return encoded


def encode_rows(tokenizer: Tokenizer, sequences: Sequence[str], source: Path | str, rows: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
    """(ids int64 [n, L], padded with [PAD]; lengths int64 [n]).

    rows: number of each sequence in its file. Raises DataError with the row of a sequence that makes more than 5,000 tokens: nothing is cut off in silence.
    """
    encoded = tokenizer.encode(sequences)
    lengths = np.array([len(ids) for ids in encoded])
    if lengths.max() > MAX_TOKENS:
        worst = int(lengths.argmax())
        raise DataError(source, f"the sequence makes {lengths[worst]:,} tokens, at most {MAX_TOKENS:,} are taken", "Shorten it", row=int(rows[worst]))
    ids = np.full((len(encoded), int(lengths.max())), SPECIAL["[PAD]"], dtype=np.int64)
    for row, tokens in zip(ids, encoded, strict=True):
        row[: len(tokens)] = tokens
    return torch.from_numpy(ids), torch.from_numpy(lengths.astype(np.int64))
