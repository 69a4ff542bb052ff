"""The frames of an attached container, however they are cut, and an image that is not there."""

import gc
import socket
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.case import UsageError
from bench.gate.container import ContainerPipe
from bench.gate.line import FaultKind, Line, WorkerFault
from bench.gate.protocol import Cases, ListCases
from bench.gate.reference import open_source


class FakeContainer:
    """An engine's end of an attached container."""

    def __init__(self) -> None:
        self.engine, self._client = socket.socketpair()
        self.calls: list[str] = []

    def attach_socket(self, params):
        self.calls.append("attach")
        return SimpleNamespace(_sock=self._client)

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
        with pytest.raises(UsageError, match="needs a running container engine"), open_source("sha256:" + "0" * 64, tmp_path, gpu=False):
            pass
        gc.collect()


def test_an_engine_that_does_not_answer_is_wrong_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hang(name, *, gpu):
        raise TimeoutError("Read timed out. (read timeout=60)")

    monkeypatch.setattr("bench.gate.container.open_image", hang)
    with pytest.raises(UsageError, match="the container engine does not say what"), open_source("sha256:" + "0" * 64, tmp_path, gpu=False):
        pass
