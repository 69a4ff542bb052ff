"""What the images are made of, as far as their files say it: no engine is needed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docker.dockerfile import find_moving_origins

DOCKERFILES = {path.parent.name: path.read_text() for path in sorted(ROOT.glob("docker/*/Dockerfile"))}
BASES = {image: re.search(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE) for image, text in DOCKERFILES.items()}
every_image = pytest.mark.parametrize("image", DOCKERFILES)


def read_versions(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_there_are_three_images():
    assert sorted(DOCKERFILES) == ["cpu", "cuda", "triton2"]


def test_all_images_stand_on_one_base_pinned_by_digest():
    bases = {found[1] for found in BASES.values() if found}
    assert None not in BASES.values()
    assert len(bases) == 1
    assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", bases.pop())


@every_image
def test_every_image_that_a_build_takes_is_pinned(image):
    assert find_moving_origins(DOCKERFILES[image]) == []


PINNED = f"docker.io/library/python:3.11@sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "line",
    [
        "FROM nginx:latest", "from nginx:latest as second", "  FROM nginx AS second", "FROM --platform=linux/amd64 nginx AS second", "FROM nginx \\\n  AS second",
        f"FROM {PINNED} with something", f"FROM {PINNED}0", "FROM ${OTHER}", "FROM base-${WITH_FLASH_ATTN}", "FROM",
        "COPY --from=nginx:latest /etc/nginx /etc", "copy --chown=0 --from=nginx /a /b", "COPY --from=later /a /b", "ADD --from=${BASE_IMAGE} /a /b",
        "RUN --mount=type=bind,from=nginx,target=/mnt true", "RUN --mount=from=nginx:1 \\\n  true", 'COPY --from="nginx" /a /b', "COPY --from= /a /b",
    ],
)  # fmt: skip
def test_an_image_that_may_move_is_found_however_it_is_written(line):
    text = f"# FROM nginx\nARG BASE_IMAGE={PINNED}\nFROM ${{BASE_IMAGE}} AS base\n{line}\nFROM base AS later\nCOPY --from=base /a /b\n"
    assert [" ".join(found.split()) for found in find_moving_origins(text)] == [" ".join(line.replace("\\\n", " ").split())]


def test_stages_and_digests_do_not_move():
    lines = ["FROM base AS Second", f"from --platform=linux/amd64 {PINNED} as third", "FROM environment-${WITH_FLASH_ATTN}", "COPY --from=second /a /b"]
    lines += [f"COPY --from={PINNED} /a /b", "RUN --mount=type=bind,source=a,from=third,target=/b true"]
    stages = "FROM base AS environment-0\nFROM base AS environment-1"
    assert find_moving_origins("\n".join([f"ARG BASE_IMAGE={PINNED}", "FROM ${BASE_IMAGE} AS base", stages, *lines])) == []


@every_image
@pytest.mark.parametrize("word", ["# syntax", "<<", "--link", "RUN --network", "--checksum", ":latest", "curl", "wget"])
def test_docker_and_podman_build_it_without_asking_a_registry(image, word):
    assert word not in DOCKERFILES[image]


@every_image
def test_the_image_says_which_it_is_and_is_nobodys_root(image):
    text = DOCKERFILES[image]
    assert f"ENV ASSAY_IMAGE={image} " in text
    assert f'org.opencontainers.image.title="assay:{image}"' in text
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["1000:1000"]
    assert f"docker/{image}/requirements.txt" in text
    assert 'ENTRYPOINT ["/opt/assay/bin/python", "-m", "assay.bench.cli.entrypoint"]' in text


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed here; `make .venv/ready` brings it")
    done = run(hadolint, "--failure-threshold", "style", *(f"docker/{image}/Dockerfile" for image in DOCKERFILES))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.usefixtures("checkout")
def test_everything_stays_out_of_a_build_that_is_not_named():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith("!") and rule[1:].partition("/")[0] in {".git", ".venv", "data", "weights"}]
    assert "!results" not in rules  # records of this machine


def test_the_gpu_images_pin_the_torch_they_are_for():
    cpu, cuda, triton2 = (read_versions(f"docker/{lock}") for lock in ("cpu/torch.txt", "cuda/requirements.txt", "triton2/requirements.txt"))
    assert cuda["torch"] == cpu["torch"]
    assert (triton2["torch"], triton2["triton"], triton2["numpy"]) == ("2.1.2", "2.1.0", "1.26.4")
    assert not [name for name in read_versions("docker/cpu/requirements.txt") if name.startswith("nvidia-c") or name in {"torch", "triton"}]


def test_the_images_of_today_have_the_same_libraries():
    cpu, cuda = (read_versions(f"docker/{image}/requirements.txt") for image in ("cpu", "cuda"))
    differing = {name: (version, cuda[name]) for name, version in cpu.items() if name in cuda and cuda[name] != version}
    # where Pythons need different versions, the lock of .venv lists both; the image has Python 3.11's
    assert all((ROOT / "docker/cpu/requirements.txt").read_text().count(f"\n{name}==") > 1 for name in differing), differing


def test_locks_follow_from_the_project_and_the_index():
    done = run(sys.executable, "docker/lock.py", "--check")
    if done.returncode == 3:
        pytest.skip(f"no package index answers: {done.stderr.strip().splitlines()[-1][:200]}")
    if "uv is not installed" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stdout) == (0, "no drift\n"), done.stdout[:3000]


def test_the_bill_of_materials_is_cyclonedx():
    if shutil.which("dpkg-query") is None:
        pytest.skip("no dpkg here: the bill of materials is written on Debian")
    done = run(sys.executable, "docker/sbom.py")
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(references) == len(set(references))
    assert references == sorted(references)
    assert {"pkg:pypi", "pkg:deb/debian"} == {re.split(r"/(?=[^/]*@)", reference)[0] for reference in references}
    names = {component["name"] for component in bill["components"]}
    assert {"torch", "pydantic", "libc6"} <= names
    assert done.stdout == run(sys.executable, "docker/sbom.py").stdout
