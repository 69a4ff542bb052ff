"""The frames of an attached container, however they are cut, and an image that is not there."""

import gc
import socket
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import APIError

import assay.bench.gate.container as container_module
from assay.bench.case import UsageError
from assay.bench.gate.container import ContainerPipe, Image, choose_gpu, open_image
from assay.bench.gate.line import FaultKind, Line, WorkerFault
from assay.bench.gate.protocol import Cases, ListCases
from assay.bench.gate.reference import open_source
from assay.bench.gate.verdict import Side
from assay.bench.running.containers import Containers
from assay.bench.running.containers import Image as LocalImage


class FakeContainer:
    """An engine's end of an attached container."""

    def __init__(self) -> None:
        self.engine, self._client = socket.socketpair()
        self.calls: list[str] = []

    def attach_socket(self, params):
        self.calls.append("attach")
        return socket.SocketIO(self._client, "rw")

    def start(self):
        self.calls.append("start")

    def wait(self, timeout):
        return {"StatusCode": 137}

    def remove(self, force):
        self.calls.append(f"remove force={force}")


@pytest.fixture
def container() -> Iterator[FakeContainer]:
    fake = FakeContainer()
    yield fake
    fake.engine.close()


@pytest.fixture
def pipe(container, tmp_path) -> Iterator[ContainerPipe]:
    opened = ContainerPipe(container, tmp_path / "log")
    yield opened
    opened.close()


def frame(stream: int, content: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(content)) + content


def test_answers_are_put_together_from_frames(container, pipe, tmp_path) -> None:
    answer = b'{"kind":"cases","ids":["a","b"]}\n'
    with Line(pipe, 5) as line:
        line.post(ListCases())
        assert container.engine.recv(1000).startswith(b'{"kind":"list"')
        sent = frame(2, b"a warning\n") + frame(1, answer[:9]) + frame(1, answer[9:])
        container.engine.sendall(sent[:3])  # a frame's head may come in two pieces
        assert pipe.read(5) is None
        container.engine.sendall(sent[3:])
        assert line.collect(Cases).ids == ("a", "b")
    assert container.calls == ["attach", "start", "remove force=True"]
    assert (tmp_path / "log").read_text() == "a warning\n"


def test_the_end_of_a_container_is_told(container, pipe) -> None:
    container.engine.sendall(frame(2, b"Killed\n"))
    container.engine.close()
    with pytest.raises(WorkerFault, match="the container ended with code 137: Killed") as told, Line(pipe, 5) as line:
        line.collect(Cases)
    assert told.value.kind is FaultKind.DIED


def test_a_silent_container_hangs(pipe) -> None:
    with pytest.raises(WorkerFault, match="no sign of life") as told, Line(pipe, 0.01) as line:
        line.collect(Cases)
    assert told.value.kind is FaultKind.HUNG


def test_an_image_needs_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves the socket that could not connect to the collector
        with pytest.raises(UsageError, match=r"no Docker engine answers at unix://.*no.sock"), open_source("sha256:" + "0" * 64, tmp_path, gpu=False):
            pass
        gc.collect()


def test_an_engine_that_does_not_answer_is_wrong_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hang(name, *, gpu):
        raise TimeoutError("Read timed out. (read timeout=60)")

    monkeypatch.setattr("assay.bench.gate.container.open_image", hang)
    with pytest.raises(UsageError, match="the container engine does not say what"), open_source("sha256:" + "0" * 64, tmp_path, gpu=False):
        pass


@pytest.mark.parametrize(("variables", "gpu"), [({}, "0"), ({"CUDA_VISIBLE_DEVICES": ""}, "0"), ({"CUDA_VISIBLE_DEVICES": "1"}, "1"), ({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, "GPU-a")])
def test_workers_get_the_gpu_that_the_doctor_looks_at(variables, gpu) -> None:
    assert choose_gpu(variables) == gpu


def test_an_engine_that_starts_no_container_is_told_with_what_to_do(tmp_path: Path) -> None:
    class Engine:
        containers = SimpleNamespace(create=lambda *_, **__: (_ for _ in ()).throw(APIError("500", explanation='could not select device driver "nvidia"')))

    digest = "sha256:" + "0" * 64
    image = Image(Side(name=digest, identity=digest), Containers(client=Engine(), image=LocalImage(digest, digest), gpu="0", results=None, data=None))
    with pytest.raises(UsageError, match=r'starts no container of .*: could not select device driver "nvidia"; for a GPU, install the NVIDIA Container'):
        image.start(tmp_path / "log", None)


def test_an_image_is_opened_by_digest_and_what_a_killed_gate_left_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[object] = []
    engine = SimpleNamespace(images=SimpleNamespace(get=lambda name: SimpleNamespace(id="sha256:" + "1" * 64)))
    monkeypatch.setattr(container_module, "connect", lambda: engine)
    monkeypatch.setattr(container_module, "sweep_orphans", swept.append)
    opened = open_image("assay:cpu@sha256:" + "1" * 64, gpu=False)
    assert (opened.side.identity, opened.containers.gpu, swept) == ("sha256:" + "1" * 64, None, [engine])
