"""compose.yaml as it is written: what holds without any engine. test_compose_run.py asks docker compose itself."""

import re
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from assay.bench.profiles import load_profiles
from tests.conftest import ROOT

COMPOSE = ROOT / "compose.yaml"
TEXT = COMPOSE.read_text()
SERVICES = YAML(typ="safe").load(TEXT)["services"]
ON_GPU = {"bench-t4", "bench-rtx4090", "bench-rtx5090", "bench-a40", "bench-a100", "bench-h100", "bench-h200", "bench-triton2"}


def profiles_of(service):
    return SERVICES[service]["environment"]["BENCH_PROFILE"].split(",")


def test_it_follows_the_compose_specification():
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_a_service_for_every_use():
    assert set(SERVICES) == ON_GPU | {"bench-cpu", "data", "test", "board"}


@pytest.mark.parametrize("service", sorted(ON_GPU - {"bench-triton2"}))
def test_a_service_names_the_profiles_of_its_gpu_and_no_others(service):
    gpu = service.removeprefix("bench-")
    assert set(profiles_of(service)) == {name for name in load_profiles() if name.partition("-")[0] == gpu}


def test_every_nvidia_profile_has_a_service():
    served = {name for service in ON_GPU for name in profiles_of(service)}
    assert served == {name for name, profile in load_profiles().items() if profile.device == "cuda"}


def test_triton2_serves_what_its_kernels_are_compiled_for():
    capabilities = {load_profiles()[name].compute_capability for name in profiles_of("bench-triton2")}
    assert capabilities == {"8.0", "8.6", "8.9", "9.0"}
    assert not {"rtx5090", "t4"} & set(profiles_of("bench-triton2"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_no_more_than_it_must(service):
    told = SERVICES[service]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert told["init"] is True
    assert told["user"] == "${BENCH_UID:-1000}:${BENCH_GID:-1000}"
    assert told["shm_size"] == "2gb"
    assert not {"privileged", "cap_add", "devices", "gpus", "ports", "networks", "pid", "ipc", "ulimits"} & set(told)


def test_data_alone_has_a_network():
    assert {name for name, told in SERVICES.items() if told.get("network_mode") != "none"} == {"data"}
    assert all("/data:ro" in str(told["volumes"]) for name, told in SERVICES.items() if name.startswith("bench-"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_gpu_is_asked_for_by_driver_and_id_where_one_is_needed(service):
    devices = SERVICES[service].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
    wanted = [{"driver": "nvidia", "device_ids": ["${BENCH_GPU:-0}"], "capabilities": ["gpu", "utility", "compute"]}]
    assert devices == (wanted if service in ON_GPU else None)


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_is_built_from_this_checkout(service):
    told = SERVICES[service]
    kind = {"bench-triton2": "triton2"}.get(service, "cuda" if service in ON_GPU else "cpu")
    assert told["image"] == f"assay:{kind}"
    assert told["build"]["dockerfile"] == f"docker/{kind}/Dockerfile"
    assert (ROOT / told["build"]["dockerfile"]).is_file()
    # without a value: what is not in the environment is the Dockerfile's own, digest and all
    assert set(told["build"]["args"].values()) == {None}


def test_results_that_are_not_there_are_never_created_by_the_engine():
    binds = [volume for told in SERVICES.values() for volume in told["volumes"] if isinstance(volume, dict) and volume["type"] == "bind"]
    assert {(bind["source"], bind["target"]) for bind in binds} == {("./results", "/assay/results")}
    assert all(bind["bind"] == {"create_host_path": False} for bind in binds)


def test_no_variable_is_required():
    # one that is would break every other service too
    assert re.findall(r"\$\{\w+:?\?", TEXT) == []
    assert re.findall(r"\$\{\w+\}|\$[A-Z]", TEXT) == []
