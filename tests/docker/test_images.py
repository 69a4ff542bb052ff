"""What the images are made of, as far as their files say it: no engine is needed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
def test_every_stage_is_pinned(image):
    stages = {"scratch", "${BASE_IMAGE}"}
    for origin, name in re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILES[image], re.MULTILINE):
        known = origin.replace("${WITH_FLASH_ATTN}", "0") in stages and origin.replace("${WITH_FLASH_ATTN}", "1") in stages
        assert known or re.search(r"@sha256:[0-9a-f]{64}$", origin), f"FROM {origin} may move"
        stages.add(name)


@every_image
def test_copies_come_from_pinned_stages(image):
    for origin in re.findall(r"--from=(\S+)|from=([\w-]+)", DOCKERFILES[image]):
        assert "".join(origin) in DOCKERFILES[image].split("FROM", 1)[1], origin


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
    assert 'ENTRYPOINT ["/opt/assay/bin/python", "-m", "bench.launch.entrypoint"]' in text


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
