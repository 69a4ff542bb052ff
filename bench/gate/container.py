"""A side that is an image: each worker is a container of its own, spoken to through its attached standard input and output."""

from __future__ import annotations

import contextlib
import io
import os
import selectors
import shutil
import socket
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from docker.models.containers import Container

from assay.bench.case import UsageError
from assay.bench.gate.kernel import Standing, Usage, find_tree, read_standing, read_usage
from assay.bench.gate.pipe import Pipe
from assay.bench.gate.reference import WORKER, Source, hash_files
from assay.bench.gate.verdict import Side
from assay.bench.running.containers import (
    DATA,
    FAULTS,
    HARNESS,
    CannotStart,
    Containers,
    attach,
    close_stream,
    connect,
    explain_fault,
    find_image,
    remove_container,
    sweep_orphans,
)

HEADER = struct.Struct(">BxxxL")  # stream, size: Docker's frame around each piece of output
STDOUT = 1


def open_image(name: str, *, gpu: bool) -> Image:
    """The image of that digest, if the engine has it. Raises UsageError where there is no engine or no such image.

    Workers of a gate that was killed are removed: they would take time from those of this one.
    """
    client = connect()
    image = find_image(client, name)
    sweep_orphans(client)
    containers = Containers(client=client, image=image, gpu=choose_gpu(os.environ) if gpu else None, results=None, data=None)
    return Image(Side(name=name, identity=image.digest), containers)


def choose_gpu(variables: Mapping[str, str]) -> str:
    """Index or UUID of the GPU that CUDA_VISIBLE_DEVICES names first, else 0. Docker's "any one" may be another than the doctor has looked at.

    Docker counts as nvidia-smi does, and CUDA only under CUDA_DEVICE_ORDER=PCI_BUS_ID: among several boards a UUID is certain.
    """
    return variables.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"


@dataclass(frozen=True, slots=True)
class Image:
    """An image with this project in it, and with an environment of its own."""

    side: Side
    containers: Containers
    harness: Path | None = None  # takes the place of its bench/, read-only

    def start(self, log: Path, data: Path | None) -> Pipe:
        """Raises UsageError where the engine starts no container, e.g. for want of the GPU's runtime."""
        try:
            container = replace(self.containers, data=data, harness=self.harness).create(WORKER)
            try:
                return ContainerPipe(container, log)
            except BaseException:
                remove_container(container)
                raise
        except CannotStart as error:
            remedy = "for a GPU, install the NVIDIA Container Toolkit on the host and restart Docker"
            raise UsageError(f"the engine starts no container of {self.side.name}: {error}; {remedy}") from None

    def locate(self, data: Path | None) -> str | None:
        return None if data is None else DATA

    def copy_harness(self, to: Path) -> Path:
        """Raises UsageError where the engine does not give it."""
        try:
            container = self.containers.create(WORKER)  # is never started
            try:
                pieces, _ = container.get_archive(HARNESS)
                with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
                    archive.extractall(to.with_suffix(".tar"), filter="data")
            finally:
                remove_container(container)
        except (CannotStart, tarfile.TarError, *FAULTS) as error:
            raise UsageError(f"the engine does not give {HARNESS} of {self.side.name}: {error}; is it an image of this project?") from None
        # as of a folder: times are not copied
        return shutil.copytree(to.with_suffix(".tar") / "bench", to, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))

    def lay_out(self, harness: Path, place: Path, *, own_environment: bool) -> Source:  # noqa: ARG002  # an image has no other environment
        return replace(self, harness=harness)

    def hash_contents(self) -> str:
        return self.side.identity if self.harness is None else f"{self.side.identity} {hash_files(self.harness)}"


class ContainerPipe:
    """Standard input and output of a container. Attaches before it starts, so that nothing is missed."""

    def __init__(self, container: Container, log: Path) -> None:
        self._container, self._log = container, log
        attached = attach(container)
        self._socket: socket.socket = getattr(attached, "_sock", attached)
        self._attached = attached
        self._socket.settimeout(None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._frames = b""
        self._worker: int | None = None

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

    def read_usage(self) -> Usage | None:
        pid = self._find_worker()
        return None if pid is None else read_usage(pid)

    def read_standing(self) -> Standing | None:
        pid = self._find_worker()
        return None if pid is None else read_standing(pid)

    def _find_worker(self) -> int | None:
        """The worker's number outside of its container. None where the engine's machine is another one, as a virtual one is."""
        if self._worker is None and self._container.id is not None:
            with contextlib.suppress(*FAULTS, IndexError):
                self._container.reload()
                init = self._container.attrs["State"]["Pid"]  # the engine's, because all our containers have one
                if self._container.id in Path(f"/proc/{init}/cgroup").read_text():
                    self._worker = [*find_tree(init)][1]
        return self._worker

    def explain_end(self) -> str:
        try:
            ending = f"the container ended with code {self._container.wait(timeout=10)['StatusCode']}"
        except FAULTS as error:
            ending = f"the container's line broke off, and the engine does not say why ({explain_fault(error)})"
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        last = f": {lines[-1].strip()[:300]}" if lines else ""
        return ending + last

    def close(self) -> None:
        self._selector.close()
        with contextlib.suppress(OSError):
            close_stream(self._attached)
        remove_container(self._container)
