"""A base image from Debian packages alone, for machines that reach no registry."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from packages import BASE_RELEASE, EngineError, find_cache, list_sources

BASE = "assay-base:bookworm"
PYTHON = ("python3", "python3-venv", "libstdc++6", "usr-is-merged")
# comes with a program that merged /usr during installation; with usr-is-merged, nothing needs it any more
PERL = "usrmerge libfile-find-rule-perl libnumber-compare-perl libtext-glob-perl perl perl-modules-5.36 libperl5.36 libgdbm-compat4 libgdbm6"
COMPILER = ("gcc", "libc6-dev", "libpython3.11-dev")  # Triton links a launcher when it first runs a kernel
EPOCH = "1686355200"  # Debian 12's release; no file in the image is dated later
LEAVE_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
KEEP = "/usr/share/doc/*/copyright"


def build_base(tools: Path, *, compiler: bool) -> tuple[Path, str]:
    """A tar of Debian 12 with Python 3.11, and the name for its image; the same packages give the same bytes. Found in the cache the second time."""
    packages = PYTHON + COMPILER if compiler else PYTHON
    key = hashlib.sha256(repr((packages, PERL, EPOCH, LEAVE_OUT)).encode()).hexdigest()[:16]
    tar = find_cache() / f"base-{key}.tar"
    if not tar.exists():
        tar.parent.mkdir(parents=True, exist_ok=True)
        part = tar.with_suffix(".part.tar")
        _bootstrap(tools, part, packages)
        part.rename(tar)
    return tar, f"{BASE}-gcc" if compiler else BASE


def _bootstrap(tools: Path, tar: Path, packages: tuple[str, ...]) -> None:
    options = ["--mode=root", "--variant=essential", f"--include={','.join(packages)}", "--dpkgopt=force-unsafe-io"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEAVE_OUT] + [f"--dpkgopt=path-include={KEEP}"]
    forget = 'rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/var/lib/apt/lists "$1"/var/cache/apt'  # this machine's addresses
    hooks = [f'--customize-hook=chroot "$1" dpkg --purge {PERL}', f"--customize-hook={forget}"]
    command: list[str | Path] = [tools / "usr/bin/mmdebstrap", "--quiet", *options, *hooks, BASE_RELEASE, tar, "-"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "PATH": f"{tools / 'usr/bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(command, input="\n".join(list_sources((BASE_RELEASE,))) + "\n", env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"mmdebstrap failed:\n{done.stderr[-3000:]}")
