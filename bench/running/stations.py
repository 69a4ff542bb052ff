"""Where a run takes place: this machine, or one image after the other. What is not fit is told before the first case starts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from assay.bench.case import UsageError
from assay.bench.profiles import Profile, load_profile
from assay.bench.running.local import LocalLauncher

if TYPE_CHECKING:
    from assay.bench.running.campaign import Launcher
    from assay.bench.running.containers import Containers
    from assay.bench.running.docker import Examination


class Engine(StrEnum):
    """What runs the cases."""

    LOCAL = "local"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a user asked for, as far as it decides where the cases run."""

    profile: str | None
    engine: Engine
    images: Sequence[str]
    gpu: str | None
    allow_new_image: bool
    emulated: tuple[str, ...]
    results: Path
    data: Path | None
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One place to run the cases, and its machine class. An image was examined and found fit."""

    label: str  # the image; empty for this machine
    profile: Profile
    wish: Wish
    notes: Sequence[str] = ()
    containers: Containers | None = None
    examination: Examination | None = None

    def open(self, run: Path) -> Launcher:
        """The launcher of a run whose records go to this folder."""
        examined = self.examination
        if self.containers is None or examined is None:
            return LocalLauncher(run, self.wish.data, self.wish.command)
        from assay.bench.running.docker import DockerLauncher

        environment = examined.environment.model_copy(update={"command": self.wish.command})
        return DockerLauncher(containers=self.containers, run=run, machine=examined.machine, environment=environment)


def open_stations(wish: Wish) -> list[Station]:
    """One station for each image, or this machine.

    Raises UsageError for wishes that do not go together, unknown images and new digests; NotFit where an image finds its machine unfit,
    and for a profile that this machine has not.
    """
    if wish.engine is Engine.DOCKER:
        return _open_images(wish)
    for option, given in (("--image", wish.images), ("--gpu", wish.gpu), ("--allow-new-image", wish.allow_new_image)):
        if given:
            raise UsageError(f"{option} goes with --engine docker only; on this machine choose a GPU with CUDA_VISIBLE_DEVICES")
    from assay.bench.measure.detection import choose_profile  # which imports torch

    profile = choose_profile(wish.profile)
    if profile.device != "cpu" and not wish.emulated:
        from assay.bench.measure.fitness import require_machine  # which imports torch

        _create_folder(wish.results)
        require_machine(profile, wish.results)
    return [Station(label="", profile=profile, wish=wish)]


def _open_images(wish: Wish) -> list[Station]:
    from assay.bench.running.containers import Containers, connect, find_image, sweep_orphans
    from assay.bench.running.digests import check_digest, keep_digests, read_digests
    from assay.bench.running.docker import examine

    names = wish.images or (["cpu"] if _choose_gpu(wish, "assay:cpu") is None else ["cuda"])
    client = connect()
    found = [find_image(client, name) for name in names]
    _create_folder(wish.results)
    known = read_digests(wish.results)
    if not wish.allow_new_image:
        for image in found:
            check_digest(image, known, wish.results)
    swept = sweep_orphans(client)
    places = [Containers(client=client, image=image, gpu=_choose_gpu(wish, image.tag), results=wish.results, data=wish.data) for image in found]
    examined = [examine(containers, wish.profile, wish.emulated) for containers in places]
    kept = keep_digests(found, wish.results)  # now that every image has been found fit: one that was not has made no record
    gone = {found[0].tag: f"removed {swept} containers of a run that is gone"} if swept else {}
    return [
        Station(
            label=containers.image.tag,
            profile=examination.profile,
            wish=wish,
            notes=[notes[containers.image.tag] for notes in (gone, kept) if containers.image.tag in notes],
            containers=containers,
            examination=examination,
        )
        for containers, examination in zip(places, examined, strict=True)
    ]


def name_suffixes(images: Sequence[str]) -> list[str]:
    """What is added to the name of a run for each image: its tag where there are several, so that each has a folder of its own.

    Raises UsageError for images of one tag, whose records would meet in one folder.
    """
    if len(images) < 2:
        return [""]
    suffixes = [f"-{image.rpartition(':')[2]}" for image in images]
    if len(set(suffixes)) < len(suffixes):
        raise UsageError(f"--image {' and '.join(images)}: their runs would have the same name; give one of them another tag with `docker tag`")
    return suffixes


def find_run(runs: Path, stem: str, suffixes: Sequence[str]) -> str | None:
    """Name, without suffix, of the newest run that has this stem (profile and preset) and a folder for any of these suffixes."""
    return max((folder.name.removesuffix(suffix) for suffix in suffixes for folder in runs.glob(f"*-{stem}{suffix}")), default=None)


def spell_resumption(command: Sequence[str], name: str) -> str:
    """The user's own command, so that profile, images and cases stay the same, with what makes it go on with the run of that name."""
    words = [word.partition("=")[0] for word in command]
    more = ([] if "--name" in words else ["--name", name]) + ([] if "--resume" in words else ["--resume"])
    return shlex.join([*command, *more])


def _choose_gpu(wish: Wish, image: str) -> str | None:
    """What was asked for, else what the profile needs, else what the image is for."""
    if wish.gpu is not None:
        return wish.gpu
    needs_gpu = image != "assay:cpu" if wish.profile is None else load_profile(wish.profile).device == "cuda"
    return "0" if needs_gpu else None


def _create_folder(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)  # by us: a folder that the engine creates belongs to root
    except OSError as error:
        raise UsageError(f"results folder {results} cannot be written: {error.strerror}; choose another with --out DIR or free it") from None
