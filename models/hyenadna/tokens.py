"""HyenaDNA's character tokens: ids, special tokens, left padding.

Source: the tokenizer published with HyenaDNA. Twelve tokens; lower-case letters and whatever else is no token are [UNK].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

VOCABULARY = {name: index for index, name in enumerate(("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", "A", "C", "G", "T", "N"))}
CLS, SEP, PAD, UNK = (VOCABULARY[f"[{name}]"] for name in ("CLS", "SEP", "PAD", "UNK"))
FIRST_BASE = VOCABULARY["A"]
PADDED_SIZE = 16
"""Rows of the embedding: the vocabulary rounded up to a multiple of 8."""


def encode_codes(codes: Tensor, *, special_tokens: bool) -> Tensor:
    """int64 [B, L] token ids of base codes (A 0, C 1, G 2, T 3, N 4), or [B, L + 2] with [CLS] before and [SEP] after."""
    ids = codes.long() + FIRST_BASE
    if special_tokens:
        ids = F.pad(F.pad(ids, (1, 0), value=CLS), (0, 1), value=SEP)
    return ids


def encode_sequences(sequences: Sequence[str], longest: int, *, special_tokens: bool = True) -> tuple[Tensor, Tensor]:
    """(ids int64 [n, L], mask bool [n, L]): sequences of letters, padded on the left to the longest one; mask is True at tokens.

    longest: most tokens that the model takes, special ones included (l_max). Raises ValueError that names the row of a sequence that
    is empty, since its row would be all padding, or too long, since cutting it would change the question.
    """
    if not sequences:
        raise ValueError("no sequences to encode")
    rows: list[list[int]] = []
    for number, text in enumerate(sequences):
        if not text:
            raise ValueError(f"sequence {number} is empty: its row would be all padding; leave it out")
        ids = [VOCABULARY.get(letter, UNK) for letter in text]
        row = [CLS, *ids, SEP] if special_tokens else ids
        if len(row) > longest:
            raise ValueError(f"sequence {number} has {len(row)} tokens, the model takes {longest}; cut it, or take a variant of longer context")
        rows.append(row)
    length = max(map(len, rows))
    padded = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    return padded, padded != PAD
