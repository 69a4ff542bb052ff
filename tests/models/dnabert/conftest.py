from itertools import product

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def make_tokenizer(special=SPECIAL, size=4096, frame=True):
    """A tokenizer with the published vocabulary's size and special tokens; its words are 6-mers."""
    words = ["".join(letters) for letters in product("ACGT", repeat=6)]
    vocabulary = {word: number for number, word in enumerate([*special, *words][:size])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(".{1,6}"), "isolated")
    if frame:
        ids = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return tokenizer


@pytest.fixture
def write_tokenizer(tmp_path):
    """Writes tokenizer.json into a folder; arguments as make_tokenizer."""

    def write(folder=tmp_path, **arguments):
        folder.mkdir(exist_ok=True, parents=True)
        make_tokenizer(**arguments).save(str(folder / "tokenizer.json"))
        return folder

    return write
