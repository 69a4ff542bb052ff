"""Machine classes: which GPU, its memory, and its peaks as the vendor's datasheet gives them. One TOML file each."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from assay.bench.case import Case, Division, Precision, Preset, UsageError

FOLDER = Path(__file__).parent


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(_Strict):
    """A number from a vendor, and the document that it stands in."""

    value: float = Field(gt=0)
    source: str = Field(min_length=1)


class Profile(_Strict):
    """A class of machines. What no datasheet says is left out, and what would follow from it is then missing with that reason."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    device: Literal["cpu", "cuda", "mps"]
    gpu: str | None = None  # regular expression for the whole name that the driver gives the GPU
    memory_gib: float | None = Field(default=None, gt=0)
    compute_capability: str | None = Field(default=None, pattern=r"^\d+\.\d$")
    peak_flops: Mapping[Precision, Figure] = {}  # FLOP/s, dense, accumulated in float32
    bandwidth: Figure | None = None  # of the GPU's memory, bytes/s
    min_driver: str | None = Field(default=None, pattern=r"^\d+(\.\d+)*$")
    power_w: float | None = Field(default=None, gt=0)  # of the board, by default
    batch: Mapping[str, Annotated[int, Field(gt=0)]] = {}  # per workload, of the preset scale; all else uses the recipe's own

    @model_validator(mode="after")
    def _name_a_gpu(self) -> Self:
        if (self.gpu is None) != (self.device == "cpu"):
            raise ValueError("a profile names a GPU unless its device is the CPU")
        re.compile(self.gpu or "")
        return self

    def choose_batch(self, case: Case) -> int | None:
        """The profile's batch for a case, or None for the recipe's own. Only the preset scale may take another batch than its recipe:
        it measures speed and memory, and a changed batch is another training. The open division chooses its batch itself, with its rate."""
        return self.batch.get(case.workload) if case.preset is Preset.SCALE and case.division is Division.CLOSED else None

    def fits(self, gpu: str) -> bool:
        """Whether a GPU of this name is of this class."""
        return self.gpu is not None and re.fullmatch(self.gpu, gpu) is not None


@cache
def load_profiles() -> Mapping[str, Profile]:
    """Every profile by name. Raises UsageError that names the file and the first fault."""
    return MappingProxyType({path.stem: _read_profile(path) for path in sorted(FOLDER.glob("*.toml"), key=lambda path: path.stem)})


def _read_profile(path: Path) -> Profile:
    try:
        return Profile.model_validate({"name": path.stem} | tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}; mend the file") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UsageError(f"{path}: {'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}; mend the file") from None


def load_profile(name: str) -> Profile:
    """The profile of that name. Raises UsageError that lists the known ones."""
    try:
        return load_profiles()[name]
    except KeyError:
        raise UsageError(f"unknown profile {name!r}; known: {', '.join(load_profiles())}") from None


def match_gpu(gpu: str) -> Profile:
    """The profile of a GPU by the driver's name for it. Raises UsageError that says how to add one."""
    for profile in load_profiles().values():
        if profile.fits(gpu):
            return profile
    raise UsageError(
        f"no profile for the GPU {gpu!r}: choose one with --profile ({', '.join(load_profiles())}), "
        f"or add a file to {FOLDER} with its name pattern, memory and the peaks of its datasheet; a40.toml is an example"
    )


def name_apple_chip() -> str:
    """The chip's name, e.g. "Apple M1". Raises UsageError on other systems."""
    if sys.platform != "darwin":
        raise UsageError("an Apple GPU is only known on macOS; choose another --profile")
    return subprocess.run(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True).stdout.strip()
