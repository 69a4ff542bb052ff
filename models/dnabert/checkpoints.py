"""Published weights into the encoder: which layouts there are, and what is wrong with a file of another architecture."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from datasets.card import DataError, MissingData
from models.dnabert.network import DnabertEncoder

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
    head `cls.` is left out; the pooler may be absent. Raises DataError naming the first key that is missing, unexpected or of another shape.
    """
    found = _read(path)
    prefixed = any(key.startswith(PREFIX) for key in found)
    unused = tuple(sorted(key for key in found if key.startswith(HEAD)))
    weights = {key.removeprefix(PREFIX) if prefixed else key: value for key, value in found.items() if not key.startswith(HEAD)}
    expected = encoder.state_dict()
    pooler = any(key.startswith(POOLER) for key in weights)
    _compare(path, {key: value for key, value in expected.items() if pooler or not key.startswith(POOLER)}, weights)
    encoder.load_state_dict(weights, strict=pooler)
    return LoadedCheckpoint(path, prefixed, pooler, unused)


def _compare(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for key, tensor in expected.items():
        if key not in found:
            raise DataError(path, f"has no weights {key!r} {tuple(tensor.shape)}: it is of another architecture", _GET_ANOTHER)
        if found[key].shape != tensor.shape:
            raise DataError(path, f"{key!r} is {tuple(found[key].shape)}, expected {tuple(tensor.shape)}: another size or architecture", _GET_ANOTHER)
    extra = next((key for key in found if key not in expected), None)
    if extra is not None:
        raise DataError(path, f"holds {extra!r} {tuple(found[extra].shape)}, which this architecture does not have", _GET_ANOTHER)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise MissingData(path, "not found", "Download the model from the hub into this folder, at a pinned revision")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DataError(path, f"cannot be read as weights: {str(error).splitlines()[0]}", "Download it again, or convert it to safetensors") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise DataError(path, "is not a state dict: it holds more than named tensors", "Save the model's state_dict() alone, as safetensors")
    return loaded
