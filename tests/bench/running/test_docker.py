"""What the Docker launcher decides before it starts a container. tests/docker launches real ones."""

import os
import subprocess
import sys

import pytest
from docker.errors import ImageNotFound

from assay.bench.case import UsageError
from assay.bench.running.containers import find_image
from assay.bench.running.stations import Engine, Wish, _choose_gpu, open_stations
from tests.conftest import ROOT


class EmptyEngine:
    """A Docker client whose engine holds no image."""

    @property
    def images(self):
        return self

    def get(self, tag):
        raise ImageNotFound(tag)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("triton2", "no image assay:triton2 here: build it with `docker compose build bench-triton2`"),
        ("registry.example/assay:1", "no image registry.example/assay:1 here: build or pull it first"),
    ],
)
def test_an_image_that_is_not_here_is_never_pulled(name, message):
    with pytest.raises(UsageError, match=message):
        find_image(EmptyEngine(), name)


@pytest.mark.parametrize("option", [{"images": ["cuda"]}, {"gpu": "0"}, {"allow_new_image": True}])
def test_options_of_docker_are_refused_without_it(option, tmp_path):
    wish = {"profile": "cpu", "engine": Engine.LOCAL, "images": (), "gpu": None, "allow_new_image": False, "emulated": (), "results": tmp_path, "data": None}
    with pytest.raises(UsageError, match="goes with --engine docker only"):
        open_stations(Wish(**(wish | option), command=("bench",)))


def test_no_engine_is_one_clear_line_and_exit_2(tmp_path):
    command = [sys.executable, "-m", "bench", "run", "--engine", "docker", "--select", "affinity-v1", "--out", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no Docker engine answers at unix://{tmp_path}/none.sock (")
    assert done.stderr.endswith("start Docker, set DOCKER_HOST, or do without images\n")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("image", "profile", "asked", "given"),
    [
        ("assay:cpu", None, None, None), ("assay:cpu", "a40", None, "0"), ("assay:cpu", None, "1", "1"),
        ("assay:triton2", None, None, "0"), ("assay:triton2", "cpu", None, None), ("assay:cuda", "a40", "1", "1"),
    ],
)  # fmt: skip
def test_a_container_gets_a_gpu_where_one_is_asked_for_or_needed(tmp_path, image, profile, asked, given):
    wish = Wish(
        profile=profile, engine=Engine.DOCKER, images=(), gpu=asked, allow_new_image=False, emulated=(), results=tmp_path, data=None, command=("bench",)
    )
    assert _choose_gpu(wish, image) == given
