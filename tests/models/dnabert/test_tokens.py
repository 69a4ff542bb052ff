import pytest

from assay.datasets.card import DataError, MissingData
from assay.models.dnabert.tokens import KmerTokenizer, PublishedTokenizer, encode_rows


def test_kmers_are_framed_and_count_from_the_special_tokens():
    # A=5 C=6 G=7 T=8, then pairs from 9: the fifth base onwards is a k-mer of its own
    assert KmerTokenizer().encode(["A", "T", "AA", "N"]) == [[1, 5, 2], [1, 8, 2], [1, 9, 2], [1, 0, 2]]
    ids = KmerTokenizer().encode(["ACGTAACGTAC", "TTTTT"])
    assert [len(row) for row in ids] == [5, 3]
    assert ids[0][1] == ids[0][2]
    assert ids[1][1] == 4 + 4 + 16 + 64 + 256 + 1024  # the last of the words
    assert len({tuple(row) for row in KmerTokenizer().encode(["ACGTA", "ACGTC", "ACGT", "ACG"])}) == 4


def test_rows_are_padded_with_the_tokenizers_pad(tmp_path):
    ids, lengths = encode_rows(KmerTokenizer(), ["ACGTAACGTA", "A"], "x.csv", [2, 3])
    assert lengths.tolist() == [4, 3]
    assert ids.shape == (2, 4)
    assert ids[1, 3] == 3
    with pytest.raises(DataError, match=r"x\.csv, row 9: the sequence makes 5,003 tokens, at most 5,000 are taken"):
        encode_rows(KmerTokenizer(), ["A", "ACGTA" * 5001], "x.csv", [2, 9])


def test_the_published_tokenizer_is_checked_when_it_is_loaded(write_tokenizer):
    tokenizer = PublishedTokenizer(write_tokenizer())
    ids = tokenizer.encode(["AAAAAAACGTAC", "AAAAAA"])
    assert ids[1] == [1, 5, 2]
    assert [row[0] for row in ids] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"size": 4000}, r"has 4,000 tokens, expected 4,096"),
        ({"special": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]}, r"gives \[UNK\] the id 1, expected 0"),
        ({"frame": False}, r"frames ACGT as \[0\], expected \[CLS\] \(1\) first"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(write_tokenizer, arguments, problem):
    with pytest.raises(DataError, match=problem):
        PublishedTokenizer(write_tokenizer(**arguments))


def test_without_a_tokenizer_the_error_says_what_to_do(tmp_path):
    with pytest.raises(MissingData, match=r"tokenizer\.json: not found, and ids of another tokenizer.* Download the model"):
        PublishedTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is no tokenizer"):
        PublishedTokenizer(tmp_path)
