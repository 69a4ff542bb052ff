#!/usr/bin/env python3
"""Builds one of the images; the same checkout, base and locks give the same digest.

    docker/build.py cpu                        assay:cpu, from the pinned base and the package index
    docker/build.py cuda --with-flash-attn     with flash-attn compiled from its locked source: hours, 96 GB of memory
    docker/build.py cpu --verify               and once more without any cache: exit code 1 when the digests differ
    docker/build.py cpu --save-wheels wheels   no build: what it would install, into a folder, for a machine without an index
    docker/build.py cpu --wheels wheels --base assay-base:bookworm     needs no network at all

Prints the image's digest. Standard library only; docker with buildx does the work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("cpu", "cuda", "triton2")
DATE = "1686355200"  # of every newer file: Debian 12's release, before any build, so that layers out of a cache get it too
UNCOMPRESSED = "compression=uncompressed,force-compression=true"  # quicker, and a compressor's output depends on its version
GLIBC = 28  # Debian 12 has 2.36, and torch asks for 2.28; pip takes only the tags that it is told
TAGS = ["linux_x86_64", *(f"manylinux{alias}_x86_64" for alias in ("1", "2010", "2014")), *(f"manylinux_2_{minor}_x86_64" for minor in range(5, GLIBC + 1))]
WHEELS = ["--no-deps", "--require-hashes", "--python-version", "3.11", "--only-binary", ":all:", *(f"--platform={tag}" for tag in TAGS)]


def find_locks(image: str, *, with_flash_attn: bool = False) -> list[Path]:
    """What the image installs, in this order; torch's own lock first where it has one."""
    folder = ROOT / "docker" / image
    last = [folder / "flash-attn.txt"] if with_flash_attn else []
    return [lock for lock in (folder / "torch.txt", folder / "requirements.txt", *last) if lock.exists()]


def hash_locks(locks: Sequence[Path]) -> str:
    """sha256 of what `sha256sum` says of the locks, which each image keeps in /opt/assay/locks.sha256."""
    said = "".join(f"{hashlib.sha256(lock.read_bytes()).hexdigest()}  {lock.name}\n" for lock in locks)
    return hashlib.sha256(said.encode()).hexdigest()


def save_wheels(image: str, folder: Path) -> None:
    """Downloads every wheel of the image with this machine's own pip settings, verified by hash; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for lock in find_locks(image):
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--retries=1", "--disable-pip-version-check", *WHEELS]
        subprocess.run([*pip, f"--dest={folder}", f"--find-links={folder}", f"--requirement={lock}"], check=True)


def read_git(*arguments: str) -> str | None:
    """What git says about the checkout, or None where it is none."""
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def name_revision() -> str:
    """The commit, with -dirty behind it when any file that the image takes differs from it or is not in it, ignored by git or not."""
    commit = read_git("rev-parse", "HEAD")
    taken = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    byte_code = [":(exclude,glob)**/__pycache__/**", ":(exclude,glob)**/*.pyc"]  # which .dockerignore leaves out
    changed = read_git("status", "--porcelain", "--ignored", "--", ".dockerignore", *taken, *byte_code)
    return f"{commit}{'-dirty' if changed else ''}" if commit else "unknown"


def list_arguments(options: argparse.Namespace) -> list[str]:
    """The build arguments: everything that may differ between two builds."""
    values = {
        "SOURCE_REVISION": name_revision(),
        "SOURCE_DATE_EPOCH": DATE,
        "LOCK_SHA256": hash_locks(find_locks(options.image, with_flash_attn=options.with_flash_attn)),
        **({"BASE_IMAGE": options.base} if options.base else {}),
        **({"WITH_FLASH_ATTN": "1"} if options.with_flash_attn else {}),
    }
    return [f"--build-arg={name}={value}" for name, value in values.items()]


def list_command(options: argparse.Namespace) -> list[str]:
    """What docker is asked for, but for the form of its result."""
    command = ["docker", "buildx", "build", "--provenance=false", f"--file=docker/{options.image}/Dockerfile", f"--tag={options.tag}", *list_arguments(options)]
    command += [f"--build-context=wheels={options.wheels.resolve()}", "--network=none"] if options.wheels else []
    command += [f"--secret=id=pip,src={options.pip_config.resolve()}"] if options.pip_config else []
    return [*command, *options.docker_option]


def has_image_store() -> bool:
    """Whether the engine keeps images as registries do, with digests and any compression."""
    status = subprocess.run(["docker", "info", "--format", "{{.DriverStatus}}"], capture_output=True, text=True, check=True).stdout
    return "io.containerd.snapshotter" in status


def build_quickly(options: argparse.Namespace) -> str:
    """Builds and tags the image; files have the dates of this build. Returns the image's digest."""
    form = f"--output=type=image,name={options.tag},{UNCOMPRESSED}" if has_image_store() else "--load"
    subprocess.run([*list_command(options), form, "."], cwd=ROOT, check=True)
    return subprocess.run(["docker", "image", "inspect", "--format", "{{.Id}}", options.tag], capture_output=True, text=True, check=True).stdout.strip()


def build(options: argparse.Namespace, archive: Path) -> str:
    """Builds the image into an archive, all newer files dated alike; returns the image's digest."""
    output = f"--output=type=oci,dest={archive},rewrite-timestamp=true,{UNCOMPRESSED}"
    subprocess.run([*list_command(options), output, "."], cwd=ROOT, check=True)
    with tarfile.open(archive) as opened:
        index = opened.extractfile("index.json")
        digest: str = json.load(index)["manifests"][0]["digest"] if index else ""
    return digest


def build_same(options: argparse.Namespace) -> int:
    """Builds, loads and tags the image, prints its digest, and when asked builds again to compare; returns the exit code."""
    if not has_image_store():
        print("build.py: this engine cannot date files: switch its containerd image store on (docker/README.md), or build with --quick", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        digest = build(options, archive)
        subprocess.run(["docker", "load", "--quiet", "--input", archive], stdout=subprocess.DEVNULL, check=True)
        print(digest, flush=True)
        if options.verify:
            options.docker_option += ["--no-cache"]
            second = build(options, archive)
            print(second if second != digest else "the second build has the same digest")
            return int(second != digest)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 built, 1 a command failed and has said why or the digests differ, 2 this engine cannot do it."""
    more = "what follows -- goes to `docker buildx build`"
    parser = argparse.ArgumentParser(description=__doc__, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", choices=IMAGES)
    parser.add_argument("--tag", help="default: assay:IMAGE")
    parser.add_argument("--base", help="another base image than the pinned one, e.g. assay-base:bookworm of docker/engine")
    parser.add_argument("--wheels", type=Path, help="install from this folder; pip asks no index and the build has no network")
    parser.add_argument("--save-wheels", type=Path, metavar="FOLDER", help="only download what the image installs")
    parser.add_argument("--pip-config", type=Path, help="a pip.conf that names your index; seen by pip during the build, not kept")
    parser.add_argument("--with-flash-attn", action="store_true", help="cuda only")
    parser.add_argument("--quick", action="store_true", help="files keep the dates of this build, so the digest is new each time; half the time")
    parser.add_argument("--verify", action="store_true", help="build a second time without any cache and compare the digests")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:split])
    options.docker_option = list(arguments[split + 1 :])
    options.tag = options.tag or f"assay:{options.image}"
    try:
        if options.save_wheels:
            save_wheels(options.image, options.save_wheels)
        elif options.quick:
            print(build_quickly(options))
        else:
            return build_same(options)
    except subprocess.CalledProcessError as failure:
        print(f"build.py: {failure.cmd[0]} ended with {failure.returncode}: {failure.stderr or 'see above'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
