"""dfs itself: `dfs up` with three chunk servers, and a second mount."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dfs.background import LOG_VARIABLE, RUNTIME_VARIABLE, dfs_command, dfs_environment
from tools.bench.rivals.mounts import is_mounted, unmount
from tools.bench.rivals.processes import Processes
from tools.bench.rivals.rival import RivalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHUNK_SERVERS = 3


class Dfs:
    name: ClassVar[str] = "dfs"
    copies_max: ClassVar[int] = CHUNK_SERVERS

    def __init__(self) -> None:
        self._processes: Processes | None = None
        self._cluster: Path | None = None
        self._second: Path | None = None

    def install(self, directory: Path, say: Callable[[str], None]) -> None:
        """This checkout is measured: there is nothing to bring."""

    def start(self, directory: Path, copies: int) -> tuple[Path, Path]:
        own = {RUNTIME_VARIABLE: str(directory / "run"), LOG_VARIABLE: str(directory / "log")}
        self._processes = processes = Processes(self.name, directory, dfs_environment(own))
        self._cluster, first = directory / "cluster", directory / "mnt0"
        sizes = ["--chunk-servers", str(CHUNK_SERVERS), "--copies", str(copies)]
        where = ["--dir", str(self._cluster), "--mount", str(first)]
        processes.run(dfs_command("up", *where, *sizes), called="dfs up")
        self._second = directory / "mnt1"
        self._second.mkdir()
        command = dfs_command("mount", str(self._cluster), str(self._second))
        processes.run(command, called="dfs mount")
        return first, self._second

    def stop(self) -> None:
        if self._processes is None or self._cluster is None:
            return
        if self._second and is_mounted(self._second):
            try:
                self._processes.run(dfs_command("umount", str(self._second)))
            except RivalError:
                unmount(self._second)
        if self._cluster.exists():
            command = dfs_command("down", "--dir", str(self._cluster), "--lazy")
            self._processes.run(command, called="dfs down")
