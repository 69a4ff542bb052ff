"""The published vocabulary, special tokens, left padding, and what is refused."""

import pytest
import torch

from assay.datasets.genome import encode_bases
from assay.models.hyenadna.tokens import VOCABULARY, encode_codes, encode_sequences


def test_vocabulary_is_the_published_one():
    assert VOCABULARY == {"[CLS]": 0, "[SEP]": 1, "[BOS]": 2, "[MASK]": 3, "[PAD]": 4, "[RESERVED]": 5, "[UNK]": 6, "A": 7, "C": 8, "G": 9, "T": 10, "N": 11}


def test_base_codes_become_their_letters_tokens():
    codes = torch.from_numpy(encode_bases("ACGTN"))[None]
    assert encode_codes(codes, special_tokens=False).tolist() == [[7, 8, 9, 10, 11]]
    assert encode_codes(codes, special_tokens=True).tolist() == [[0, 7, 8, 9, 10, 11, 1]]


def test_sequences_are_padded_on_the_left():
    ids, mask = encode_sequences(["ACGT", "N"], longest=10)
    assert ids.tolist() == [[0, 7, 8, 9, 10, 1], [4, 4, 4, 0, 11, 1]]
    assert mask.tolist() == [[True] * 6, [False] * 3 + [True] * 3]


def test_lower_case_and_other_letters_are_unknown():
    assert encode_sequences(["aCx"], longest=3, special_tokens=False)[0].tolist() == [[6, 8, 6]]


def test_empty_and_too_long_sequences_are_refused_by_number():
    with pytest.raises(ValueError, match="sequence 1 is empty: its row would be all padding"):
        encode_sequences(["A", ""], longest=10)
    assert encode_sequences(["ACG"], longest=5)[0].shape == (1, 5)
    with pytest.raises(ValueError, match="sequence 0 has 6 tokens, the model takes 5"):
        encode_sequences(["ACGT"], longest=5)
    with pytest.raises(ValueError, match="no sequences"):
        encode_sequences([], longest=5)
