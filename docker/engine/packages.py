"""The engine's programs: Debian packages, chosen and verified by apt, unpacked into a folder and not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Debian 13 has the newer engine; its runc is linked to a C library newer than Debian 12's
ENGINE_RELEASE, ENGINE = "trixie", ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd", "tini")
BASE_RELEASE, TOOLS = "bookworm", ("runc", "mmdebstrap")


class EngineError(Exception):
    """The engine cannot do that here; the message says why and what to do."""


class UnfitHereError(EngineError):
    """No engine can run on this machine, whatever is done to the engine. Everything else that goes wrong is a fault of ours."""


def find_cache() -> Path:
    """Where downloads stay between runs: $ASSAY_ENGINE_CACHE, else below the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ASSAY_ENGINE_CACHE") or home / "assay" / "engine")


def check_system() -> None:
    """Raises UnfitHereError where there is no Debian whose packages could be unpacked."""
    for program in ("apt-get", "dpkg-deb", "umount", "nsenter"):
        if shutil.which(program) is None:
            raise UnfitHereError(f"{program} is missing: the engine is made of Debian packages and needs a Debian system")
    list_sources((ENGINE_RELEASE, BASE_RELEASE))


def unpack_tools(folder: Path) -> None:
    """Downloads the packages, or finds them in the cache, and unpacks them below the folder."""
    for package in _download_packages():
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)


def _download_packages() -> list[Path]:
    store = find_cache() / "packages"
    store.mkdir(parents=True, exist_ok=True)
    if missing := [name for name in (*ENGINE, *TOOLS) if not list(store.glob(f"{name}_*.deb"))]:
        settings = write_apt_settings(find_cache() / "apt", (ENGINE_RELEASE, BASE_RELEASE))
        try:
            _apt(settings, store, "-o", "APT::Update::Error-Mode=any", "update")  # else apt warns of an archive that does not answer, and goes on
        except EngineError as error:
            raise UnfitHereError(f"no Debian archive answers: {error}") from None
        _apt(settings, store, "download", *(f"{name}/{ENGINE_RELEASE if name in ENGINE else BASE_RELEASE}" for name in missing))
    return [max(store.glob(f"{name}_*.deb")) for name in (*ENGINE, *TOOLS)]


def _apt(settings: Path, folder: Path, *arguments: str) -> None:
    done = subprocess.run(["apt-get", "-qq", "-c", settings, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"apt-get {' '.join(arguments)} failed:\n{done.stderr.strip()}")


def list_sources(releases: tuple[str, ...]) -> list[str]:
    """This machine's own Debian sources, in one-line format, with the given releases in place of its own."""
    if not KEYRING.exists():
        raise UnfitHereError(f"no {KEYRING}: the packages could not be verified; install debian-archive-keyring")
    own = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line).get("VERSION_CODENAME", "").strip('"')
    fields = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages"]
    targets = [line.split() for line in subprocess.run(fields, capture_output=True, text=True, check=True).stdout.splitlines()]
    debian = [(address, suite) for address, suite, component in targets if component == "main" and suite.partition("-")[0] == own]
    if not debian:
        raise UnfitHereError("apt has no Debian archive among its sources: the engine is made of Debian packages")
    return [f"deb [signed-by={KEYRING}] {address} {suite.replace(own, release)} main" for release in releases for address, suite in dict.fromkeys(debian)]


def write_apt_settings(folder: Path, releases: tuple[str, ...]) -> Path:
    """An apt of its own: own lists and cache, so that the machine's apt and dpkg stay untouched."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text("\n".join(list_sources(releases)) + "\n")
    places = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    settings = folder / "apt.conf"
    clear = "#clear APT::Update::Post-Invoke-Success;\n#clear APT::Update::Post-Invoke;\n"
    settings.write_text(clear + "".join(f'{name} "{value}";\n' for name, value in places.items()))
    return settings
