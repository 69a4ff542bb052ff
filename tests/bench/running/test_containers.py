"""The Docker launcher against an engine that fails in every way an engine can. tests/docker launches real containers."""

import json
import os
import socket
import struct
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException, NotFound

from assay.bench.case import Outcome, Preset
from assay.bench.measure.fitness import NotFit
from assay.bench.registry import select_cases
from assay.bench.running import docker as launching
from assay.bench.running.containers import HARDENED, LABEL, CannotStart, Containers, Image, name_launcher, remove_container, sweep_orphans
from assay.bench.running.docker import DockerLauncher, examine, read_status
from assay.bench.running.local import Contact, Limits, explain_exit

IMAGE = Image("assay:cpu", f"sha256:{'a' * 64}")
NOBODY: Any = None  # the machine of records that no test here reads
LIMITS = Limits(wall_seconds=60, silent_seconds=60, memory_bytes=1 << 30)
FAULTS = [
    APIError("500", explanation="no space left on device"),
    requests.ConnectionError("the engine is gone"),
    requests.ReadTimeout("no answer after 60 s"),
    DockerException("a version that nobody speaks"),
]
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)


OPENED: list[socket.socket] = []


@pytest.fixture(autouse=True)
def close_sockets():
    yield
    while OPENED:
        OPENED.pop().close()


def refuse(status: int) -> APIError:
    return APIError("refused", response=SimpleNamespace(status_code=status, url="/containers", reason="refused"))


class FakeContainer:
    """Says `output` on its standard output and ends with `status`, unless it `hangs`; `faults` are raised by the calls of that name."""

    def __init__(self, labels=None, output=b"", status=0, hangs=False, **faults):
        self.labels, self.status, self.hangs, self.faults = labels or {}, status, hangs, faults
        self.attrs = {"State": {"OOMKilled": False}}
        self.output, self.calls = output, []
        self.engine, self.client = socket.socketpair()
        OPENED.extend((self.engine, self.client))

    def _call(self, name):
        self.calls.append(name)
        if name in self.faults:
            raise self.faults[name]

    def attach_socket(self, params):
        self._call("attach_socket")
        return socket.SocketIO(self.client, "rw")  # as the SDK does

    def start(self):
        self._call("start")
        if self.output:
            self.engine.sendall(struct.pack(">BxxxL", 1, len(self.output)) + self.output)
        if not self.hangs:
            self.engine.close()

    def wait(self, timeout):
        self._call("wait")
        return {"StatusCode": self.status}

    def reload(self):
        self._call("reload")

    def remove(self, force):
        self.engine.close()
        self._call("remove")


class FakeEngine:
    """Makes this one container, and lists these."""

    def __init__(self, container=None, listed=(), fault=None):
        self.containers, self.container, self.listed, self.fault, self.asked = self, container, listed, fault, {}

    def create(self, image, arguments, **options):
        self.asked = {"image": image, "arguments": arguments, **options}
        if self.fault:
            raise self.fault
        return self.container

    def list(self, **options):
        self.asked = options
        return self.listed


def place(engine, **more):
    return Containers(**({"client": engine, "image": IMAGE, "gpu": None, "results": None, "data": None} | more))


def launch(engine, tmp_path, stop=None, neighbours=()):
    launcher = DockerLauncher(containers=place(engine, results=tmp_path), run=tmp_path / "runs" / "one", machine=NOBODY, environment=NOBODY)
    case, *_ = select_cases(Preset.SMOKE, None, "affinity-v1")
    log = tmp_path / "logs" / "case.log"
    contact = Contact(report=lambda *said: None, stop=stop or threading.Event(), find_neighbours=lambda: neighbours)
    return launcher.launch(case, [], LIMITS, log, contact)


def test_every_container_is_hardened_and_labelled(tmp_path):
    engine = FakeEngine(FakeContainer())
    place(engine, gpu="GPU-1", data=tmp_path).create(["-c", "pass"])
    assert {
        "init": True, "stdin_open": True, "network_mode": "none", "read_only": True, "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"], "user": f"{os.getuid()}:{os.getgid()}",
    } == HARDENED  # fmt: skip
    assert HARDENED.items() <= engine.asked.items()
    assert engine.asked["labels"] == {LABEL: name_launcher()}
    assert [request["DeviceIDs"] for request in engine.asked["device_requests"]] == [["GPU-1"]]
    assert [(mount["Target"], mount["ReadOnly"]) for mount in engine.asked["mounts"]] == [("/cache", False), ("/data", True)]


@every_fault
@pytest.mark.parametrize("call", ["create", "attach_socket", "start", "wait", "reload", "remove"])
def test_whatever_the_engine_does_the_case_gets_an_outcome(tmp_path, fault, call):
    container = FakeContainer(**{call: fault})
    ending = launch(FakeEngine(container, fault=fault if call == "create" else None), tmp_path)
    assert ending.outcome is Outcome.CRASH
    assert ending.reason == f"Docker: {getattr(fault, 'explanation', None) or fault}"
    assert call == "create" or container.calls[-1] == "remove"


@pytest.mark.parametrize("status", [404, 409])
def test_a_container_that_somebody_else_removes_is_no_fault(status):
    remove_container(FakeContainer(remove=NotFound("gone") if status == 404 else refuse(status)))


def test_any_other_refusal_to_remove_one_is_told():
    with pytest.raises(APIError):
        remove_container(FakeContainer(remove=refuse(500)))


def test_orphans_are_swept_beside_another_launcher_that_does_the_same():
    gone = f"{socket.gethostname()}:{2**22}:1.00"  # beyond the kernel's greatest process id
    swept = [FakeContainer({LABEL: gone}, remove=fault) for fault in (NotFound("gone"), refuse(409))] + [FakeContainer({LABEL: gone})]
    kept = [FakeContainer({LABEL: name_launcher()}), FakeContainer({LABEL: f"elsewhere:{2**22}:1.00"})]
    engine = FakeEngine(listed=[*swept, *kept])
    assert sweep_orphans(engine) == 3
    assert engine.asked == {"all": True, "filters": {"label": LABEL}, "ignore_removed": True}
    assert [container.calls for container in swept + kept] == [["remove"]] * 3 + [[], []]


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1, 1), (128, 128), (137, -9), (143, -15), (160, 160), (192, -64), (255, 255)])
def test_only_the_number_of_a_signal_is_a_death_by_signal(status, code):
    assert read_status(status) == code


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (255, "exit code 255: cannot open /assay; its output is in case.log"),
        (137, "killed by SIGKILL; the system's out-of-memory killer is the usual sender; its output is in case.log"),
    ],
)
def test_how_a_container_ended_is_told(tmp_path, status, reason):
    ending = launch(FakeEngine(FakeContainer(output=b"cannot open /assay\n", status=status)), tmp_path)
    assert (ending.outcome, ending.reason) == (Outcome.CRASH, reason)


def test_what_is_stopped_is_interrupted_and_its_container_removed(tmp_path):
    container, stop = FakeContainer(hangs=True), threading.Event()
    stop.set()
    assert launch(FakeEngine(container), tmp_path, stop).outcome is Outcome.INTERRUPTED
    assert container.calls[-1] == "remove"


def test_a_case_hears_of_the_other_runs_on_its_standard_input(tmp_path):
    container = FakeContainer(hangs=True)
    container.engine.settimeout(30)
    running = threading.Thread(target=launch, args=(FakeEngine(container), tmp_path, None, ("nightly (pid 4711)",)))
    running.start()
    assert container.engine.recv(100) == b"nightly (pid 4711)\n"
    container.engine.close()
    running.join(30)
    assert not running.is_alive()


def test_a_signal_without_a_name_is_told_by_its_number(tmp_path):
    assert explain_exit(-15, tmp_path / "case.log") == (Outcome.INTERRUPTED, "ended by SIGTERM; --resume tries it again")
    assert explain_exit(-40, tmp_path / "case.log") == (Outcome.CRASH, "killed by signal 40; its output is in case.log")


def test_a_doctor_that_never_ends_is_ended_and_told(monkeypatch):
    monkeypatch.setattr(launching, "EXAMINE_SECONDS", 0.05)
    container = FakeContainer(hangs=True)
    with pytest.raises(NotFit) as refused:
        examine(place(FakeEngine(container)), "cpu", ())
    assert [finding.message for finding in refused.value.refusals] == ["the doctor inside has not ended after 0.05 s."]
    assert "remove" in container.calls


@every_fault
def test_an_engine_that_fails_beside_the_doctor_is_told(fault):
    with pytest.raises(NotFit) as refused:
        examine(place(FakeEngine(FakeContainer(wait=fault))), "cpu", ())
    assert [finding.message for finding in refused.value.refusals] == [f"Docker: {getattr(fault, 'explanation', None) or fault}."]


def test_what_the_doctor_refuses_is_passed_on():
    finding = {"name": "gpu", "ok": False, "message": "found none.", "wanted": "an A40", "remedy": "Buy one."}
    said = json.dumps({"findings": [finding, finding | {"ok": True}]}).encode()
    with pytest.raises(NotFit) as refused:
        examine(place(FakeEngine(FakeContainer(output=said, status=4))), "cpu", ())
    assert [vars_of(found) for found in refused.value.refusals] == [finding]


def vars_of(finding):
    return {name: getattr(finding, name) for name in ("name", "ok", "message", "wanted", "remedy")}


def test_a_container_that_does_not_start_is_removed():
    container = FakeContainer(start=refuse(500))
    with pytest.raises(CannotStart), place(FakeEngine(container)).start(["-c", "pass"]):
        pass
    assert container.calls == ["attach_socket", "start", "remove"]
    assert container.client.fileno() == -1


def test_no_connection_outlives_the_block():
    container = FakeContainer()
    with place(FakeEngine(container)).start(["-c", "pass"]):
        assert container.client.fileno() != -1
    assert container.client.fileno() == -1
