#!/usr/bin/env python3
"""A throw-away Docker engine out of Debian packages, for a Linux machine that has none. Nothing is installed, nothing is left running.

    engine.py start            a private dockerd: own socket, own images, no bridge, no registry
    eval "$(engine.py env)"    docker, compose and buildx for this shell
    engine.py base             a Debian 12 image with Python 3.11, built from packages: assay-base:bookworm
    engine.py fake-gpu 'NVIDIA A40'    a scripted board behind `driver: nvidia`; `fake-gpu --remove` takes it out
    engine.py status           exit code 0 when it answers, 1 when not
    engine.py fit              exit code 0 when an engine can run on this machine, 3 and the reason when not
    engine.py stop             ends it and removes all of it but the downloads

Needs root with CAP_SYS_ADMIN, apt and dpkg, and for fake-gpu a C compiler. Standard library only: it runs before any environment does.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from base_image import build_base
from fake_gpu import place_gpu, remove_gpu
from packages import EngineError, UnfitHereError, check_system, find_cache, unpack_tools

CAP_SYS_ADMIN = 21
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class Engine:
    """One engine in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.tools = self.folder / "tools"  # the unpacked packages
        self.socket = self.folder / "docker.sock"
        self.hooks = self.folder / "hooks"  # on the daemon's PATH
        self.log = self.folder / "dockerd.log"

    @property
    def variables(self) -> dict[str, str]:
        """What a client needs in its environment."""
        path = f"{self.tools / 'usr/bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.folder / "client"), "PATH": path}

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the private docker client; its output is captured."""
        done = subprocess.run([self.tools / "usr/bin/docker", *arguments], env=os.environ | self.variables, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise EngineError(f"docker {shlex.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def answers(self) -> bool:
        """Whether a daemon of this folder is up."""
        return self.socket.exists() and self.docker("version", check=False).returncode == 0

    def start(self) -> None:
        """Brings the daemon up; does nothing when it is up already."""
        if (self.tools / "usr/bin/docker").exists() and self.answers():
            return
        check_fitness()
        if len(str(self.folder)) > 70:
            raise EngineError(f"{self.folder} is too long a path for the sockets below it; name a shorter one with --dir")
        for folder in (self.tools, self.hooks, self.folder / "client"):
            folder.mkdir(parents=True, exist_ok=True)
        unpack_tools(self.tools)
        plugins = self.folder / "client" / "cli-plugins"
        if not plugins.exists():
            plugins.symlink_to(self.tools / "usr/libexec/docker/cli-plugins")
        (self.folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}}\n')  # digests of images, not only of their settings
        self._spawn()

    def _spawn(self) -> None:
        usr = self.tools / "usr"
        path = f"{self.hooks}:{usr / 'bin'}:{usr / 'sbin'}:{usr / 'libexec/docker'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        places = {"host": f"unix://{self.socket}", "config-file": "daemon.json", "data-root": "data", "exec-root": "exec", "pidfile": "dockerd.pid"}
        options = [f"--{name}={value if '://' in value else self.folder / value}" for name, value in places.items()]
        options += ["--group=root", "--iptables=false", "--ip6tables=false", "--bridge=none"]
        with self.log.open("ab") as log:
            daemon = subprocess.Popen([usr / "sbin/dockerd", *options], env=os.environ | {"PATH": path}, stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=log, start_new_session=True)  # fmt: skip
        try:
            self._wait(daemon)
        except BaseException:  # Ctrl-C too: nobody would know of a daemon that came up later
            self.halt()
            raise

    def _wait(self, daemon: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise EngineError(f"dockerd does not answer; the end of {self.log}:\n" + "\n".join(self.log.read_text().splitlines()[-15:]))
            time.sleep(0.1)

    def halt(self) -> None:
        """Ends the daemon, its containers, and what it mounted; images stay."""
        pidfile = self.folder / "dockerd.pid"
        noted = pidfile.read_text().strip() if pidfile.exists() else ""
        # the file may be of a daemon that was killed, and its number another program's by now
        pids = [pid for pid in find_processes(self.folder) if str(pid) == noted]
        for pid in pids:
            send(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(is_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        quiet = 0
        while quiet < 10:  # a containerd or a shim that outlived dockerd may start another program while it is looked for
            left = find_processes(self.folder)
            for pid in left:
                send(pid, signal.SIGKILL)
            quiet = 0 if left else quiet + 1
            time.sleep(0.05)
        for mount in find_mounts(self.folder):
            subprocess.run(["umount", "--lazy", mount], check=True)
        pidfile.unlink(missing_ok=True)

    def stop(self) -> None:
        """Ends the daemon and removes its folder."""
        if not self.folder.exists():
            return
        if not self.tools.exists() and any(self.folder.iterdir()):
            raise EngineError(f"{self.folder} is not an engine's folder; it is left as it is")
        self.halt()
        shutil.rmtree(self.folder)

    def restart(self) -> None:
        """The daemon looks for GPU runtimes only when it starts."""
        self.halt()
        self._spawn()


def check_fitness() -> None:
    """Raises UnfitHereError, with the reason, where no engine can run."""
    if sys.platform != "linux":
        raise UnfitHereError("a Docker engine needs Linux; use Docker Desktop here")
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    if os.geteuid() != 0 or not capabilities >> CAP_SYS_ADMIN & 1:
        raise UnfitHereError("a Docker engine needs root with CAP_SYS_ADMIN: run this as root, or use an engine that is there")
    if "overlay" not in Path("/proc/filesystems").read_text():
        raise UnfitHereError("this kernel has no overlay file system")
    check_system()


def send(pid: int, number: signal.Signals) -> None:
    """Signals a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def is_alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def find_processes(folder: Path) -> list[int]:
    """Processes whose program lies in the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/exe"):
        try:
            program = entry.readlink()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if program.is_relative_to(folder):
            found.append(int(entry.parent.name))
    return found


def find_mounts(folder: Path) -> list[str]:
    """Mount points below the folder, the innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)


def parse_command(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(tempfile.gettempdir()) / "assay-engine"
    parser.add_argument("--dir", type=Path, default=default, help=f"where the engine lives while it runs (default: {default})")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "stop", "status", "fit", "env"):
        commands.add_parser(name)
    base = commands.add_parser("base", help="make a base image from Debian packages")
    base.add_argument("--compiler", action="store_true", help="with gcc, as the GPU images need it; its name ends in -gcc")
    gpu = commands.add_parser("fake-gpu", help="put a scripted board into containers that ask for an NVIDIA GPU, or take it out")
    gpu.add_argument("name", nargs="?", help="as NVML spells it, e.g. 'NVIDIA A40'")
    gpu.add_argument("line", nargs="*", help="more of the script that tests/fakes/fake_nvml.c reads, e.g. 'total 81920'")
    gpu.add_argument("--remove", action="store_true", help="no GPU and no GPU runtime any more")
    return parser.parse_args(arguments)


def run(command: argparse.Namespace) -> int:
    """Does what the command says; returns the exit code."""
    engine = Engine(command.dir)
    match command.command:
        case "start":
            engine.start()
            print(f"the engine answers at {engine.variables['DOCKER_HOST']}; downloads are kept in {find_cache()}")
        case "stop":
            engine.stop()
        case "status":
            up = engine.answers()
            print(f"an engine {'answers' if up else 'does not answer'} in {engine.folder}")
            return 0 if up else 1
        case "fit":
            check_fitness()
        case "env":
            print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in engine.variables.items()))
        case "base":
            tar, name = build_base(engine.tools, compiler=command.compiler)
            engine.docker("import", "--change", 'CMD ["python3"]', str(tar), name)
            print(name)
        case "fake-gpu" if command.remove:
            remove_gpu(engine.hooks)
            engine.restart()
        case "fake-gpu" if command.name:
            if place_gpu(engine.hooks, command.name, command.line):
                engine.restart()
        case _:
            raise EngineError("fake-gpu needs the name of a board, or --remove")
    return 0


def main() -> int:
    """Exit codes: 0 done, 1 not running (status), 2 it went wrong, 3 no engine can run on this machine; each with the reason."""
    try:
        return run(parse_command(sys.argv[1:]))
    except (EngineError, subprocess.CalledProcessError) as error:
        print(f"engine.py: {error}", file=sys.stderr)
        return 3 if isinstance(error, UnfitHereError) else 2


if __name__ == "__main__":
    sys.exit(main())
