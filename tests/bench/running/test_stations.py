"""Where a run takes place, and what its folders are called, so that --resume finds them again."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from assay.bench.case import UsageError
from assay.bench.cli import main as cli
from assay.bench.cli import run as cli_run
from assay.bench.measure.fitness import Finding, NotFit
from assay.bench.profiles import load_profile
from assay.bench.records.store import RunStore
from assay.bench.running import containers, docker
from assay.bench.running.containers import Image
from assay.bench.running.digests import read_digests
from assay.bench.running.docker import Examination
from assay.bench.running.stations import Engine, Station, Wish, find_run, name_suffixes, open_stations, spell_resumption

NOBODY: Any = None
RUN = ("run", "--engine", "docker", "--image", "cpu", "--image", "cuda", "--profile", "cpu", "--select", "affinity-v1/documented/train", "--division", "closed")


def wish(results, **more):
    told: dict[str, Any] = {"profile": "cpu", "engine": Engine.DOCKER, "images": ("cpu", "triton2"), "gpu": None, "allow_new_image": False, "emulated": ()}
    return Wish(**(told | {"results": results, "data": None, "command": ("bench",)} | more))


@pytest.fixture
def engine(monkeypatch):
    """An engine with every image; `engine.unfit` is where the doctor refuses."""
    state = SimpleNamespace(unfit=None)

    def examine(place, profile, emulated):
        if place.image.tag == state.unfit:
            raise NotFit(place.image.tag, [Finding("gpu", ok=False, message="found none.", remedy="Buy one.")])
        return Examination(profile=load_profile(profile), machine=NOBODY, environment=NOBODY)

    monkeypatch.setattr(containers, "connect", lambda: None)
    monkeypatch.setattr(containers, "find_image", lambda client, name: Image(f"assay:{name}", f"sha256:{name}"))
    monkeypatch.setattr(containers, "sweep_orphans", lambda client: 2)
    monkeypatch.setattr(docker, "examine", examine)
    return state


def test_digests_are_kept_once_every_image_was_found_fit(engine, tmp_path):
    engine.unfit = "assay:triton2"
    with pytest.raises(NotFit):
        open_stations(wish(tmp_path))
    assert not (tmp_path / "runs").exists()
    engine.unfit = None
    stations = open_stations(wish(tmp_path))
    kept = [f"assay:{name} is sha256:{name}; kept in {tmp_path / 'images.toml'}" for name in ("cpu", "triton2")]
    assert [station.notes for station in stations] == [["removed 2 containers of a run that is gone", kept[0]], [kept[1]]]
    assert read_digests(tmp_path) == {"assay:cpu": "sha256:cpu", "assay:triton2": "sha256:triton2"}


@pytest.mark.parametrize(("profile", "fault"), [("a40", "no GPU can be asked"), ("h100", "no GPU can be asked")])
def test_a_gpu_profile_without_its_gpu_is_refused_as_by_the_doctor(no_nvml, tmp_path, profile, fault):
    with pytest.raises(NotFit) as refused:
        open_stations(wish(tmp_path, engine=Engine.LOCAL, images=(), profile=profile))
    assert refused.value.where == f"profile {profile}"
    assert fault in refused.value.refusals[0].message


def test_the_profile_of_another_gpu_is_refused_and_a_pretended_one_is_not(nvml, tmp_path):
    asked = wish(tmp_path, engine=Engine.LOCAL, images=(), profile="h100")
    with pytest.raises(NotFit) as refused:
        open_stations(asked)
    assert {"gpu": "found NVIDIA A40."}.items() <= {finding.name: finding.message for finding in refused.value.refusals}.items()
    assert [station.profile.name for station in open_stations(replace(asked, emulated=("gpu: none",)))] == ["h100"]


def test_a_run_without_its_gpu_ends_as_the_doctor_does_and_records_nothing(no_nvml, tmp_path):
    done = CliRunner().invoke(cli.app, ["run", "--profile", "a40", "--out", str(tmp_path)])
    assert done.exit_code == 4
    assert "profile a40: not fit to measure on" in done.stderr
    assert "Install the NVIDIA driver" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_another_digest_is_refused_before_anything_is_examined_unless_told(engine, tmp_path):
    (tmp_path / "images.toml").write_text('[images]\n"assay:triton2" = "sha256:old"\n')
    engine.unfit = "assay:cpu"
    with pytest.raises(UsageError, match=r"assay:triton2 is sha256:triton2, but records in .* were made with sha256:old"):
        open_stations(wish(tmp_path))
    engine.unfit = None
    open_stations(wish(tmp_path, allow_new_image=True))
    assert read_digests(tmp_path)["assay:triton2"] == "sha256:triton2"


@pytest.mark.parametrize(("images", "suffixes"), [((), [""]), (("cuda",), [""]), (("cuda", "registry.example/assay:2"), ["-cuda", "-2"])])
def test_each_of_several_images_has_a_folder_of_its_own(images, suffixes):
    assert name_suffixes(images) == suffixes


def test_images_of_one_tag_are_refused():
    with pytest.raises(UsageError, match="--image mine:1 and yours:1: their runs would have the same name"):
        name_suffixes(("mine:1", "yours:1"))


def test_the_newest_run_is_found_by_any_of_its_folders(tmp_path):
    for name in ("1-cpu-smoke", "2-cpu-smoke-cpu", "2-cpu-smoke-cuda", "3-cpu-smoke-cpu", "4-a40-smoke-cpu"):
        (tmp_path / name).mkdir()
    assert find_run(tmp_path, "cpu-smoke", [""]) == "1-cpu-smoke"
    assert find_run(tmp_path, "cpu-smoke", ["-cpu", "-cuda"]) == "3-cpu-smoke"
    assert find_run(tmp_path, "t4-smoke", ["-cpu", "-cuda"]) is None


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("python -m bench run --preset smoke", "python -m bench run --preset smoke --name one --resume"),
        ("python -m bench run --name one --image cpu --image cuda", "python -m bench run --name one --image cpu --image cuda --resume"),
        ("python -m bench run --name=one --resume", "python -m bench run --name=one --resume"),
    ],
)
def test_the_way_to_go_on_is_the_users_own_command(command, told):
    assert spell_resumption(command.split(), "one") == told


def test_words_with_blanks_stay_one_word():
    assert spell_resumption(("bench", "--select", "affinity and train", "--resume"), "one") == "bench --select 'affinity and train' --resume --name one"


def test_a_run_of_two_images_is_resumed_by_its_name(tmp_path, monkeypatch):
    stations = [Station(label=f"assay:{image}", profile=load_profile("cpu"), wish=wish(tmp_path)) for image in ("cpu", "cuda")]
    monkeypatch.setattr(cli_run, "open_stations", lambda told: stations)
    command = [*RUN, "--out", str(tmp_path), "--name", "pair"]
    refused = CliRunner().invoke(cli.app, [*command, "--resume"])
    assert refused.exit_code == 2
    assert "--resume --name pair: there is no such run in" in " ".join(refused.output.split())
    RunStore.create(tmp_path / "runs", "pair-cpu")  # the second image had not begun
    for _ in range(2):
        done = CliRunner().invoke(cli.app, [*command, "--resume"])
        assert done.exit_code == 0, done.output
    assert [[record.outcome for record in RunStore(tmp_path / "runs" / f"pair-{image}").read()] for image in ("cpu", "cuda")] == [["ok"], ["ok"]]
    assert not (tmp_path / "runs" / "pair").exists()
