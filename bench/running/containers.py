"""Containers of one image on one GPU, through the Docker SDK: hardened, labelled, and gone when their work is done."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import CONFLICT
from pathlib import Path
from typing import Any

import psutil
from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import DeviceRequest, LogConfig, Mount

from assay.bench.case import UsageError

PYTHON = "/opt/assay/bin/python"
RESULTS, DATA, CACHE, HARNESS = "/assay/results", "/data", "/cache", "/assay/bench"
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


# of the SDK and of requests under it, whose exceptions are OSErrors: a lost connection, an answer that takes too long
FAULTS = (DockerException, OSError)


class CannotStart(Exception):
    """The engine did not start a container; the message is its own."""


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
        raise UsageError(f"no Docker engine answers at {where} ({error}): start Docker, set DOCKER_HOST, or do without images") from None


def find_image(client: DockerClient, name: str) -> Image:
    """The image of a short name (`cuda` is `assay:cuda`) or tag. Raises UsageError where it is not here; nothing is pulled."""
    tag = name if ":" in name else f"assay:{name}"
    try:
        return Image(tag, client.images.get(tag).id)
    except ImageNotFound:
        services = {"assay:cpu": "bench-cpu", "assay:cuda": "bench-a40", "assay:triton2": "bench-triton2"}
        remedy = f"build it with `docker compose build {services[tag]}` in a checkout of the project" if tag in services else "build or pull it first"
        raise UsageError(f"there is no image {tag} here: {remedy}") from None
    except FAULTS as error:
        raise UsageError(f"the Docker engine does not say whether it has {tag} ({explain_fault(error)}): see whether `docker info` answers") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """How the containers of a run look: image, GPU (index or UUID, None for none), and the host's folders that they see."""

    client: DockerClient
    image: Image
    gpu: str | None
    results: Path | None
    data: Path | None
    harness: Path | None = None  # another bench/ than the image's own

    @contextmanager
    def start(self, arguments: Sequence[str], *, memory_bytes: int | None = None) -> Iterator[Running]:
        """Runs Python with these arguments in a container that is removed at the end of the block. Raises CannotStart."""
        container = self.create(arguments, memory_bytes=memory_bytes)
        try:
            stream = attach(container)
            try:
                yield Running(container, stream)
            finally:
                close_stream(stream)
        finally:
            remove_container(container)

    def create(self, arguments: Sequence[str], *, memory_bytes: int | None = None) -> Container:
        """A container that will run Python with these arguments; whoever asks for it removes it. Raises CannotStart."""
        mounts = [Mount(CACHE, CACHE_VOLUME, type="volume")]
        if self.results:
            mounts.append(Mount(RESULTS, str(self.results.resolve()), type="bind"))
        if self.data:
            mounts.append(Mount(DATA, str(self.data.resolve()), type="bind", read_only=True))
        if self.harness:
            mounts.append(Mount(HARNESS, str(self.harness.resolve()), type="bind", read_only=True))
        gpus = [DeviceRequest(driver="nvidia", device_ids=[self.gpu], capabilities=GPU_CAPABILITIES)] if self.gpu is not None else []
        variables = {"BENCH_IMAGE_DIGEST": self.image.digest, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        try:
            return self.client.containers.create(
                self.image.digest, list(arguments), entrypoint=[PYTHON], environment=variables,
                labels={LABEL: name_launcher()}, mounts=mounts, device_requests=gpus, tmpfs={"/tmp": TEMPORARY}, **HARDENED,  # noqa: S108
                shm_size=SHARED_MEMORY, mem_limit=memory_bytes, memswap_limit=memory_bytes, log_config=LogConfig(type="none"),
            )
        except FAULTS as error:
            raise CannotStart(explain_fault(error)) from None


def attach(container: Container) -> Any:
    """Starts a container and returns the stream of its output and input, attached before so that nothing is missed. Raises CannotStart."""
    try:
        stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        try:
            container.start()
        except BaseException:
            close_stream(stream)
            raise
    except FAULTS as error:
        raise CannotStart(explain_fault(error)) from None
    return stream


def close_stream(stream: Any) -> None:
    """The SDK hands out a file over a socket; closing only one of the two leaves the connection open."""
    connection = getattr(stream, "_sock", None)
    stream.close()
    if connection is not None:
        connection.close()


def write_input(stream: Any, text: bytes) -> None:
    """Writes to a container's standard input; one that has just ended reads no more."""
    with suppress(BrokenPipeError, ConnectionResetError):
        getattr(stream, "_sock", stream).sendall(text)  # the SDK's file over a socket can only be read; with TLS it hands out the socket


def remove_container(container: Container) -> None:
    """Ends a container, whatever it is doing, and removes it. Another may be doing the same, or have done it."""
    try:
        container.remove(force=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != CONFLICT:
            raise


def explain_fault(error: Exception) -> str:
    """What went wrong between us and the engine, in its own words where it had any."""
    return str(getattr(error, "explanation", None) or error)


def name_launcher() -> str:
    """This process, so that another one can tell whether it still lives."""
    own = psutil.Process()
    return f"{socket.gethostname()}:{own.pid}:{own.create_time():.2f}"


def sweep_orphans(client: DockerClient) -> int:
    """Removes containers whose launcher on this host is gone, and returns how many there were."""
    removed = 0
    # one that another launcher removes while we look is no reason to stop
    for container in client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
        host, pid, began = container.labels[LABEL].rsplit(":", 2)
        if host == socket.gethostname() and not _lives(int(pid), began):
            remove_container(container)
            removed += 1
    return removed


def _lives(pid: int, began: str) -> bool:
    try:
        return f"{psutil.Process(pid).create_time():.2f}" == began
    except psutil.NoSuchProcess:
        return False
