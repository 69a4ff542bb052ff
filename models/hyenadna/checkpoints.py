"""Published HyenaDNA weights: found, loaded without running the file's code, and held against the architecture key by key.

Two layouts are known: the original one (`model.backbone...`, below `state_dict` in a Lightning file, blocks perhaps wrapped in
`.layer.`) and the `-hf` one (`hyena.backbone...`, safetensors). Tables that follow from formulas are compared with them and left out.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from assay.datasets.card import DataError, hash_files
from assay.models.hyenadna.network import HyenaConfig, HyenaDNA
from assay.models.hyenadna.operator import decay_rates, position_features
from assay.models.hyenadna.tokens import PADDED_SIZE
from assay.models.weights import compare_weights, read_weights

ENVIRONMENT = "ASSAY_WEIGHTS"
FILES = ("model.safetensors", "pytorch_model.bin", "weights.ckpt")
"""What a folder of weights may hold, the best first."""
TABLE_TOLERANCE = 1e-5
"""Largest difference between a stored table and its formula: float32 leaves 6e-8, a table that was trained leaves more."""

_GLOBAL = re.compile(r"GLOBAL (\S+)")
_COUNTER = re.compile(r"^(train|val|test)_torchmetrics\.")
"""Metric counters that the published Lightning files keep beside the weights."""
_PREFIX = re.compile(r"^(?:model\.|hyena\.)?(?=backbone\.|lm_head\.)")
_TABLE = re.compile(r"layers\.\d+\.mixer\.filter_fn\.(pos_emb\.z|pos_emb\.t|modulation\.deltas)$")
_ALIAS = re.compile(r"(layers\.\d+\.mixer\.filter_fn\.implicit_filter\.)[35]\.freq$")


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint that fits: tensors by the backbone's own names, where they came from, and the file's sha256."""

    tensors: Mapping[str, Tensor]
    path: Path
    sha256: str


def find_weights(config: HyenaConfig, data: Path | None) -> Path | None:
    """The checkpoint file of a size, or None where there is none.

    Looks for the folder hyenadna-<name>/, or the hub's hyenadna-<name>-seqlen-hf/ or -seqlen/, in $ASSAY_WEIGHTS or, where that is not
    set, in <data>/weights/. Raises DataError for a folder that is named but not there, and for one that holds no checkpoint.
    """
    named = os.environ.get(ENVIRONMENT)
    if named and not Path(named).is_dir():
        raise DataError(named, f"${ENVIRONMENT} names a folder that is not there", f"Correct ${ENVIRONMENT}, or unset it to use random weights")
    root = Path(named) if named else data / "weights" if data else None
    # as the documents, or the hub, name a model's folder
    names = (f"hyenadna-{config.name}{suffix}" for suffix in ("", "-seqlen-hf", "-seqlen"))
    folder = None if root is None else next((root / name for name in names if (root / name).is_dir()), None)
    if folder is None:
        return None
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise DataError(folder, "holds no checkpoint", f"Put one of {', '.join(FILES)} there, or remove the folder to use random weights")


def load_weights(path: Path, config: HyenaConfig) -> Weights:
    """The checkpoint's tensors for a backbone of this size.

    Raises DataError for a file that cannot be read or would have to run code, and for a checkpoint of another architecture, naming the
    first key, in the order of the network, that is missing, unknown or of another shape.
    """
    remedy = f"Give the checkpoint of hyenadna-{config.name}"
    found = _rename(read_weights(path, remedy, _load), path)
    head = found.pop("lm_head.weight", None)  # of the language model: no part of the backbone
    tables = {key: found.pop(key) for key in list(found) if _TABLE.search(key)}
    _check_aliases(path, found)
    with torch.device("meta"):
        expected = HyenaDNA(config).state_dict()
    compare_weights(path, found, expected, remedy)
    _check_tables(path, config, tables)
    if head is not None:
        _expect_shape(path, config, "lm_head.weight", head, (PADDED_SIZE, config.width))
    return Weights({key: tensor.float() for key, tensor in found.items()}, path, hash_files([path]))


def _load(path: Path) -> object:
    """The state of a torch file, bare or below the key state_dict."""
    try:
        loaded = _load_tensors(path)
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))
        problem = f"holds more than tensors ({named[1] if named else _say_first(error)}) and is not opened, because reading it could run code"
        remedy = "Take the `-hf` checkpoint (model.safetensors), or, if you trust the file, save its tensors alone: torch.save(checkpoint['state_dict'], path)"
        raise DataError(path, problem, remedy) from None
    return loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded


def _say_first(error: pickle.UnpicklingError) -> str:
    """What torch's restricted unpickler stumbled over, without its advice to trust the file."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith(("Weights only load failed", "(1)", "(2)", "Check"))), "its pickle is damaged")


class _Inert:
    """Stands for every object that a checkpoint pickles beside its tensors: takes whatever it is given and does nothing with it."""

    def __new__(cls, *_args: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_args: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _load_tensors(path: Path) -> Any:
    """What `torch.load` reads of a file without importing or calling anything that the file names, save torch's own list of safe names.

    The original Lightning files pickle configuration and optimiser objects beside the weights. torch's restricted unpickler finds all
    such names without resolving them; each is then read as an inert stand-in, so that the tensors can be had and no code is run.
    """
    if not hasattr(torch.serialization, "safe_globals"):
        problem = f"is a pickle, which torch {torch.__version__} cannot open without running its code"
        raise DataError(path, problem, "Take model.safetensors, or torch 2.5 or later")
    strange = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
    with torch.serialization.safe_globals([(_Inert, name) for name in strange]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _rename(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Keys of either layout to the backbone's own names; metric counters are left out."""
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if _COUNTER.match(key):
            continue
        name = _PREFIX.sub("", key).removeprefix("backbone.")
        name = name.replace(".mixer.layer.", ".mixer.").replace(".mlp.layer.", ".mlp.")
        if name in found:
            raise DataError(path, f"holds {name} twice, the second time as {key}", "Give a checkpoint of one network")
        found[name] = tensor
    return found


def _check_tables(path: Path, config: HyenaConfig, tables: Mapping[str, Tensor]) -> None:
    """Stored tables against their formulas. Their lengths tell apart sizes that have equal weights, e.g. medium-160k and large-1m."""
    if not tables:
        return
    features = position_features(config.longest, config.longest)
    # only the magnitude of a decay rate acts
    formulas = {"pos_emb.z": features[None], "pos_emb.t": features[None, :, :1], "modulation.deltas": decay_rates(config.width).abs()[None, None]}
    for layer in range(config.layers):
        for table, formula in formulas.items():
            key = f"layers.{layer}.mixer.filter_fn.{table}"
            if key not in tables:
                continue
            _expect_shape(path, config, key, tables[key], tuple(formula.shape))
            stored = tables[key].abs() if table == "modulation.deltas" else tables[key]
            gap = float((stored.float() - formula).abs().max())
            if not gap <= TABLE_TOLERANCE * float(formula.abs().max()):
                raise DataError(path, f"{key} departs from its formula by {gap:.2g}: it was trained or damaged", "Give a checkpoint with fixed tables")


def _check_aliases(path: Path, found: dict[str, Tensor]) -> None:
    for key in list(found):
        if match := _ALIAS.search(key):
            alias, first = found.pop(key), found.get(f"{match[1]}1.freq")
            if first is None or not torch.equal(alias, first):
                raise DataError(path, f"{key} differs from {match[1]}1.freq; the sines of a filter share one frequency", "Give a published checkpoint")


def _expect_shape(path: Path, config: HyenaConfig, key: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    compare_weights(path, {key: tensor}, {key: torch.empty(expected, device="meta")}, f"Give the checkpoint of hyenadna-{config.name}", finite=False)
