"""Weights from files of strangers: read without running their code, and held against a network key by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from assay.datasets.card import DataError, MissingData


def load_plain(path: Path) -> object:
    """What a torch file holds, if that is tensors and plain containers: anything else in it raises."""
    return torch.load(path, map_location="cpu", weights_only=True)


def read_weights(path: Path, remedy: str, load: Callable[[Path], object] = load_plain) -> dict[str, Tensor]:
    """A file's tensors by name. load: opens what is not safetensors, and must not run the file's code. remedy: what the errors say to do.

    Raises MissingData, and DataError for a file that cannot be read or holds anything but named tensors.
    """
    if not path.is_file():
        raise MissingData(path, "not found", remedy)
    try:
        found = load_file(path) if path.suffix == ".safetensors" else load(path)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  # what a damaged pickle raises in torch is anybody's guess: EOFError, KeyError, struct.error, ...
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(path, f"is no file of plain weights: {first}", f"A pickled model could run code and is not opened. {remedy}") from None
    if not isinstance(found, Mapping) or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()):
        raise DataError(path, "is no plain state dict (name to tensor)", f"Save `model.state_dict()`, or: {remedy}")
    return dict(found)


def compare_weights(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], remedy: str, *, finite: bool = True) -> None:
    """Raises DataError for the first key, in the order of `expected`, that is missing, of another shape or not finite, then for one too many.

    expected: the network's own state dict, of which only names and shapes matter. finite: whether infinities and NaN are refused.
    """
    other = "is of another architecture"
    for key, tensor in expected.items():
        wanted = tuple(tensor.shape)
        if key not in found:
            raise DataError(path, f"{other}: it has no {key!r}, expected with shape {wanted}", remedy)
        if tuple(found[key].shape) != wanted:
            raise DataError(path, f"{other}: {key!r} has shape {tuple(found[key].shape)}, expected {wanted}", remedy)
        if finite and not torch.isfinite(found[key]).all():
            raise DataError(path, f"{key!r} holds a value that is not finite", "Download the checkpoint again")
    surplus = next((key for key in found if key not in expected), None)
    if surplus is not None:
        raise DataError(path, f"{other}: it has {surplus!r} of shape {tuple(found[surplus].shape)}, which is not expected", remedy)
