"""MooseFS: a master, three chunk servers, two mounts (mfsmaster.cfg(5), mfschunkserver.cfg(5))."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tools.bench.rivals.packages import install_programs, require_root
from tools.bench.rivals.processes import ADDRESS, Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PACKAGES = {
    "mfsmaster": "moosefs-master",
    "mfschunkserver": "moosefs-chunkserver",
    "mfsmount": "moosefs-client",
    "mfssetgoal": "moosefs-client",
    "ip": "iproute2",
}
EMPTY_METADATA = Path("/var/lib/mfs/metadata.mfs.empty")
CHUNK_SERVERS = 3
CHUNK_SERVER_PORT = 9430


class MooseFs:
    name: ClassVar[str] = "moosefs"
    copies_max: ClassVar[int] = CHUNK_SERVERS

    def __init__(self) -> None:
        self._processes: Processes | None = None

    def install(self, directory: Path, say: Callable[[str], None]) -> None:
        require_root(self.name)
        install_programs(self.name, PACKAGES, say)

    def start(self, directory: Path, copies: int) -> tuple[Path, Path]:
        self._processes = processes = Processes(self.name, directory, {})
        processes.open_network()
        _configure_master(directory)
        processes.start("master", ["mfsmaster", "-f", "-c", f"{directory}/master.cfg", "start"])
        ready = "mfsmaster daemon initialized properly"
        processes.wait_until("master", lambda: ready in processes.log("master"))
        for number in range(CHUNK_SERVERS):
            configuration = _configure_chunk_server(directory, number)
            command = ["mfschunkserver", "-f", "-c", str(configuration), "start"]
            processes.start(f"chunk{number}", command)
        first, second = (_mount(processes, directory / f"mnt{n}") for n in range(2))
        # Each reports the same disk's space as its own, and only that says that it is there.
        wanted_bytes = (CHUNK_SERVERS - 0.5) * shutil.disk_usage(directory).free
        processes.wait_until("space on chunk servers", lambda: _free_bytes(first) > wanted_bytes)
        processes.run(["mfssetgoal", str(copies), str(first)])
        processes.run(["mfssettrashtime", "0", str(first)])
        return first, second

    def stop(self) -> None:
        if self._processes:
            self._processes.stop()


def _mount(processes: Processes, mountpoint: Path) -> Path:
    return processes.mount(mountpoint, ["mfsmount", str(mountpoint), "-f", "-H", ADDRESS])


def _configure_master(directory: Path) -> None:
    metadata = directory / "master"
    metadata.mkdir()
    shutil.copy(EMPTY_METADATA, metadata / "metadata.mfs")
    (directory / "exports.cfg").write_text("* / rw,alldirs,admin,maproot=0\n")
    settings = {"DATA_PATH": metadata, "EXPORTS_FILENAME": directory / "exports.cfg"}
    _write_settings(directory / "master.cfg", settings)


def _configure_chunk_server(directory: Path, number: int) -> Path:
    for name in (f"chunk{number}", f"disk{number}"):
        (directory / name).mkdir()
    disks = directory / f"disk{number}.cfg"
    disks.write_text(f"{directory}/disk{number}\n")
    settings = {
        "DATA_PATH": directory / f"chunk{number}",
        "HDD_CONF_FILENAME": disks,
        "MASTER_HOST": ADDRESS,
        "CSSERV_LISTEN_PORT": CHUNK_SERVER_PORT + number,
    }
    configuration = directory / f"chunk{number}.cfg"
    _write_settings(configuration, settings)
    return configuration


def _write_settings(path: Path, settings: Mapping[str, object]) -> None:
    all_settings = {"WORKING_USER": "root", "WORKING_GROUP": "root", **settings}
    path.write_text("".join(f"{name} = {value}\n" for name, value in all_settings.items()))


def _free_bytes(mountpoint: Path) -> int:
    status = os.statvfs(mountpoint)
    return status.f_bavail * status.f_frsize
