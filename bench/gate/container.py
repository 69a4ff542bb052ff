"""A side that is an image: each worker is a container of its own, spoken to through its attached standard input and output."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import docker
from docker import DockerClient
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from docker.types import DeviceRequest

from bench.case import UsageError
from bench.gate.line import Pipe
from bench.gate.verdict import Side
from bench.launch.containers import CACHE, CACHE_VOLUME, DATA, GPU_CAPABILITIES, HARDENED, PYTHON

HEADER = struct.Struct(">BxxxL")  # stream, size: Docker's frame around each piece of output
STDOUT = 1


def open_image(name: str, *, gpu: bool) -> Image:
    """The image of that digest, if the engine has it. Raises UsageError where there is no engine or no such image."""
    try:
        client = docker.from_env()
        image = client.images.get(name)
    except ImageNotFound:
        raise UsageError(f"the engine has no image {name}; docker pull brings it") from None
    except DockerException as error:
        raise UsageError(f"an image needs a running container engine: {error}; start one, or set DOCKER_HOST") from None
    return Image(Side(name=name, identity=str(image.id)), client, gpu)


@dataclass(frozen=True, slots=True)
class Image:
    """An image with this project in it."""

    side: Side
    client: DockerClient
    gpu: bool

    def start(self, log: Path, data: Path | None) -> Pipe:
        gpus = [DeviceRequest(driver="nvidia", count=1, capabilities=GPU_CAPABILITIES)] if self.gpu else []
        # the cache outlives a container: the image holds no bytecode, and compiling torch's modules anew takes longer than importing them
        volumes = {CACHE_VOLUME: {"bind": CACHE, "mode": "rw"}}
        if data is not None:
            volumes[str(data.resolve())] = {"bind": DATA, "mode": "ro"}
        container = self.client.containers.create(
            self.side.identity,
            entrypoint=[PYTHON, "-m", "bench.gate.worker"],
            tmpfs={"/tmp": "exec,mode=1777"},  # noqa: S108  # exec: Triton loads what it has compiled
            shm_size="1g",
            environment={"BENCH_IMAGE_DIGEST": self.side.identity, "XDG_CACHE_HOME": CACHE, "HOME": CACHE},
            volumes=volumes,
            device_requests=gpus,
            **HARDENED,
        )
        try:
            return ContainerPipe(container, log)
        except BaseException:
            container.remove(force=True)
            raise

    def locate(self, data: Path | None) -> str | None:
        return None if data is None else DATA


class ContainerPipe:
    """Standard input and output of a container. Attaches before it starts, so that nothing is missed."""

    def __init__(self, container: Container, log: Path) -> None:
        self._container, self._log = container, log
        attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        self._socket: socket.socket = getattr(attached, "_sock", attached)
        self._attached = attached  # closing this object would close the socket under it
        self._socket.settimeout(None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._frames = b""
        container.start()

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, timeout: float) -> bytes | None:
        if not self._selector.select(timeout):
            return None
        received = self._socket.recv(1 << 16)
        if not received:
            return b""
        self._frames += received
        return self._take_frames() or None

    def _take_frames(self) -> bytes:
        """What the complete frames of standard output hold; standard error goes to the log."""
        out = b""
        while len(self._frames) >= HEADER.size:
            stream, size = HEADER.unpack_from(self._frames)
            if len(self._frames) < HEADER.size + size:
                break
            content, self._frames = self._frames[HEADER.size : HEADER.size + size], self._frames[HEADER.size + size :]
            if stream == STDOUT:
                out += content
            else:
                with self._log.open("ab") as log:
                    log.write(content)
        return out

    def explain_end(self) -> str:
        state = self._container.wait(timeout=10)
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        last = f": {lines[-1].strip()[:300]}" if lines else ""
        return f"the container ended with code {state['StatusCode']}{last}"

    def close(self) -> None:
        self._selector.close()
        with contextlib.suppress(OSError):
            self._socket.close()
        self._container.remove(force=True)
