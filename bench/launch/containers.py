"""Containers of one image on one GPU, through the Docker SDK: hardened, labelled, and gone when their work is done."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import DeviceRequest, LogConfig, Mount

from bench.case import UsageError

PYTHON = "/opt/assay/bin/python"
RESULTS, DATA, CACHE = "/assay/results", "/data", "/cache"
CACHE_VOLUME = "assay-cache"
LABEL = "assay.launcher"  # host:pid:start of the process that must remove the container
SHARED_MEMORY = "2g"
TEMPORARY = "exec,mode=1777,size=4g"  # exec: Triton and inductor load what they have just compiled


HARDENED: dict[str, Any] = {  # of every container that the project starts
    "init": True,
    "stdin_open": True,
    "network_mode": "none",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "user": f"{os.getuid()}:{os.getgid()}",
}
GPU_CAPABILITIES = [["gpu", "utility", "compute"]]


class CannotStart(Exception):
    """The engine refused to start a container; the message is its own."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is here. Containers are started from the digest: a tag may move between two of them."""

    tag: str
    digest: str


@dataclass(frozen=True, slots=True)
class Running:
    """A container under way, and the stream that carries its output. While the stream is open, its standard input is."""

    container: Container
    stream: Any


def connect() -> DockerClient:
    """The engine that DOCKER_HOST or the default socket leads to. Raises UsageError where none answers."""
    try:
        return DockerClient.from_env()
    except DockerException as error:
        where = os.environ.get("DOCKER_HOST", "the default socket")
        raise UsageError(f"no Docker engine answers at {where} ({error}): start Docker, set DOCKER_HOST, or run without --engine docker") from None


def find_image(client: DockerClient, name: str) -> Image:
    """The image of a short name (`cuda` is `assay:cuda`) or tag. Raises UsageError where it is not here; nothing is pulled."""
    tag = name if ":" in name else f"assay:{name}"
    try:
        return Image(tag, client.images.get(tag).id)
    except ImageNotFound:
        services = {"assay:cpu": "bench-cpu", "assay:cuda": "bench-a40", "assay:triton2": "bench-triton2"}
        remedy = f"build it with `docker compose build {services[tag]}`" if tag in services else "build or pull it first"
        raise UsageError(f"there is no image {tag} here: {remedy}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """How the containers of a run look: image, GPU (index or UUID, None for none), and the host's folders that they see."""

    client: DockerClient
    image: Image
    gpu: str | None
    results: Path
    data: Path | None

    @contextmanager
    def start(self, arguments: Sequence[str], *, memory_bytes: int | None = None) -> Iterator[Running]:
        """Runs Python with these arguments in a container that is removed at the end of the block. Raises CannotStart."""
        container = self._create(arguments, memory_bytes)
        try:
            stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            try:
                container.start()
                yield Running(container, stream)
            except APIError as error:
                raise CannotStart(str(error.explanation or error)) from None
            finally:
                stream.close()
        finally:
            with suppress(NotFound):  # whoever watched it may have removed it
                container.remove(force=True)

    def _create(self, arguments: Sequence[str], memory_bytes: int | None) -> Container:
        mounts = [Mount(RESULTS, str(self.results.resolve()), type="bind"), Mount(CACHE, CACHE_VOLUME, type="volume")]
        if self.data:
            mounts.append(Mount(DATA, str(self.data.resolve()), type="bind", read_only=True))
        gpus = [DeviceRequest(driver="nvidia", device_ids=[self.gpu], capabilities=GPU_CAPABILITIES)] if self.gpu is not None else []
        variables = {"BENCH_IMAGE_DIGEST": self.image.digest, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        try:
            return self.client.containers.create(
                self.image.digest, list(arguments), entrypoint=[PYTHON], environment=variables,
                labels={LABEL: name_launcher()}, mounts=mounts, device_requests=gpus, tmpfs={"/tmp": TEMPORARY}, **HARDENED,  # noqa: S108
                shm_size=SHARED_MEMORY, mem_limit=memory_bytes, memswap_limit=memory_bytes, log_config=LogConfig(type="none"),
            )
        except APIError as error:
            raise CannotStart(str(error.explanation or error)) from None


def name_launcher() -> str:
    """This process, so that another one can tell whether it still lives."""
    own = psutil.Process()
    return f"{socket.gethostname()}:{own.pid}:{own.create_time():.2f}"


def sweep_orphans(client: DockerClient) -> int:
    """Removes containers whose launcher on this host is gone, and returns how many there were."""
    removed = 0
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        host, pid, began = container.labels[LABEL].rsplit(":", 2)
        if host == socket.gethostname() and not _lives(int(pid), began):
            container.remove(force=True)
            removed += 1
    return removed


def _lives(pid: int, began: str) -> bool:
    try:
        return f"{psutil.Process(pid).create_time():.2f}" == began
    except psutil.NoSuchProcess:
        return False
