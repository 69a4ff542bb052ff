"""What a container of compose.yaml starts: the doctor first, then `bench run` with the service's profile and whatever was added.

The service sets BENCH_PROFILE (one profile, or several separated by commas of which the GPU decides) and BENCH_PRESET; BENCH_DATA is set
where the user named a data folder. Exit codes are those of `bench run`: 4 when the machine is not fit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from assay.bench.case import ExitCode, UsageError
from assay.bench.profiles import Profile, load_profile, match_gpu

if TYPE_CHECKING:
    from assay.bench.measure.board import Board
    from assay.bench.measure.fitness import Finding

DATA = Path("/data")
RESULTS = Path("results")


def main(arguments: Sequence[str]) -> NoReturn:
    """Exits when the machine is not fit or the container is used wrongly; otherwise this process becomes `bench run`."""
    from assay.bench.cli.display import errors, print_refusals
    from assay.bench.measure.fitness import NotFit

    try:
        options = [*choose_options(os.environ, arguments), *find_data(DATA, os.environ)]
    except NotFit as refused:
        print_refusals(refused.where, refused.refusals)
        sys.exit(ExitCode.MACHINE_NOT_FIT)
    except UsageError as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(ExitCode.WRONG_USE)
    # no child process: this one would keep the GPU memory that the doctor took
    os.execv(sys.executable, [sys.executable, "-m", "bench", "run", *options, *arguments])  # noqa: S606


def choose_options(variables: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
    """--profile and --preset as the service says, once the doctor has agreed. Raises NotFit with every refusal, UsageError for a foreign --profile."""
    import torch

    from assay.bench.cli.display import errors
    from assay.bench.measure.fitness import NotFit, check_fitness

    if any(argument.partition("=")[0] == "--profile" for argument in arguments):
        raise UsageError("--profile is the service's to set: run the service of that GPU; `docker compose config --services` lists them")
    emulated = any(argument.partition("=")[0] == "--emulated" for argument in arguments)
    profile = _choose_profile(variables.get("BENCH_PROFILE", ""))
    device = torch.device("cpu" if emulated else profile.device)
    findings = check_fitness(profile, device, results=RESULTS, calibrate=profile.device == "cuda", emulated=emulated)
    if refusals := [_reword(finding) for finding in findings if not finding.ok]:
        raise NotFit(f"profile {profile.name}", refusals)
    errors.print(f"doctor: {len(findings)} checks passed for profile {profile.name} ({profile.title})", markup=False, soft_wrap=True)
    preset = variables.get("BENCH_PRESET")
    return ["--profile", profile.name, *(["--preset", preset] if preset else [])]


def find_data(folder: Path, variables: Mapping[str, str]) -> list[str]:
    """--data where the container has real data. Raises UsageError where the user named a folder and it is empty: twins would hide that."""
    if folder.is_dir() and any(folder.iterdir()):
        return ["--data", str(folder)]
    if named := variables.get("BENCH_DATA"):
        raise UsageError(
            f"BENCH_DATA={named} holds nothing. A path that was not there is an empty folder of root's now: check it, remove what Docker made with "
            f"`sudo rmdir {named}`, and name your folder; or make one that you own and fill it with `docker compose run --rm data`"
        )
    return []


def _choose_profile(names: str) -> Profile:
    """The service's profile; of several, the one that the GPU has. Raises NotFit for a GPU of another class."""
    from assay.bench.measure.detection import detect_profile
    from assay.bench.measure.fitness import Finding, NotFit

    profiles = [load_profile(name) for name in names.split(",") if name]
    if not profiles:
        return detect_profile()
    board = _find_board()
    if len(profiles) == 1 or board is None:
        return profiles[0]
    name = board.name or "a GPU without a name"
    if found := next((profile for profile in profiles if profile.fits(name)), None):
        return found
    wanted = " or ".join(profile.title for profile in profiles)
    raise NotFit("this service", [_reword(Finding("gpu", ok=False, message=f"found {name}.", wanted=wanted))])


def _find_board() -> Board | None:
    import torch

    from assay.bench.measure.device import find_uuid
    from assay.bench.measure.nvml import query_board

    board = query_board(find_uuid(torch.device("cuda")))
    return None if isinstance(board, str) else board


def _reword(finding: Finding) -> Finding:
    """The same refusal with what a user of compose.yaml can do about it."""
    match finding.name:
        case "gpu":
            return replace(finding, remedy=f"{_name_service(_find_board())}choose another GPU with BENCH_GPU=1 docker compose run ...")
        case "results folder":
            remedy = "On the host: create results/, free space, or set BENCH_UID=$(id -u) BENCH_GID=$(id -g), so that the container may write there."
            return replace(finding, remedy=remedy)
        case _:
            return finding


def _name_service(board: Board | None) -> str:
    try:
        # a service serves every board of its name: bench-a100 the profiles a100-80gb and a100-80gb-pcie
        service = match_gpu((board.name if board else None) or "").name.partition("-")[0]
    except UsageError:
        return "No profile knows this GPU: add one to bench/profiles, or "
    return f"Run `docker compose run --rm bench-{service}`, or "


if __name__ == "__main__":
    main(sys.argv[1:])
