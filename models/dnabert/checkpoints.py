"""Published weights into the encoder: which layouts there are, and what is wrong with a file of another architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.datasets.card import MissingData
from assay.models.dnabert.network import DnabertEncoder
from assay.models.weights import compare_weights, read_weights

FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order in which they are looked for."""
PREFIX = "bert."
HEAD = "cls."
POOLER = "pooler."
_GET_ANOTHER = "Give the checkpoint of DNABERT-2-117M or DNABERT-S"


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """What a checkpoint held besides the encoder's own weights."""

    path: Path
    prefixed: bool  # keys began with "bert.", as those of a masked language model
    pooler: bool  # False: the pooler keeps its random initialisation
    unused: tuple[str, ...]  # keys of the language-model head


def find_checkpoint(folder: Path) -> Path:
    """The weights in a model's folder. Raises MissingData that names the files."""
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise MissingData(folder, f"holds neither {' nor '.join(FILES)}", "Download the model from the hub into this folder, at a pinned revision")


def load_checkpoint(encoder: DnabertEncoder, path: Path) -> LoadedCheckpoint:
    """Loads published weights in place.

    path: safetensors, or a pickle that holds nothing but tensors (read with weights_only=True). Keys may begin with `bert.`; a language-model
    head `cls.` is left out; the pooler may be absent. Raises DataError naming the first key that is missing, unexpected, of
    another shape or not finite.
    """
    found = read_weights(path, _GET_ANOTHER)
    prefixed = any(key.startswith(PREFIX) for key in found)
    unused = tuple(sorted(key for key in found if key.startswith(HEAD)))
    weights = {key.removeprefix(PREFIX) if prefixed else key: value for key, value in found.items() if not key.startswith(HEAD)}
    expected = encoder.state_dict()
    pooler = any(key.startswith(POOLER) for key in weights)
    compare_weights(path, weights, {key: value for key, value in expected.items() if pooler or not key.startswith(POOLER)}, _GET_ANOTHER)
    encoder.load_state_dict(weights, strict=pooler)
    return LoadedCheckpoint(path, prefixed, pooler, unused)
