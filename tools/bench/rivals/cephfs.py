"""CephFS: a monitor, three object servers, a metadata server, two mounts (ceph-fuse(8)).

No manager: only reports and tuning would ask it.
"""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING, ClassVar

from tools.bench.rivals.packages import install_programs, require_root
from tools.bench.rivals.processes import ADDRESS, Processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKAGES = {
    "ceph": "ceph-common",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "ceph-mds": "ceph-mds",
    "ceph-fuse": "ceph-fuse",
    "ip": "iproute2",
}
OBJECT_SERVERS = 3
SPACE_BYTES_MAX = 16 << 30
GROUPS = "8"
SETTINGS = """\
[global]
fsid = {cluster}
mon host = [v2:{address}:3300,v1:{address}:6789]
mon initial members = a
public network = {address}/32
auth cluster required = none
auth service required = none
auth client required = none
run dir = {directory}
admin socket = {directory}/$name.$pid.socket
log file = {directory}/$name.out
mon data = {directory}/mon
osd data = {directory}/osd$id
mds data = {directory}/mds
osd pool default size = {copies}
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = bluestore
bluestore block size = {space_bytes}
osd memory target = 1073741824
# Done by hand: an object server may ask for these before it knows the cluster, and end.
osd crush update on start = false
osd class update on start = false
"""


class CephFs:
    name: ClassVar[str] = "cephfs"
    copies_max: ClassVar[int] = OBJECT_SERVERS

    def __init__(self) -> None:
        self._processes: Processes | None = None

    def install(self, directory: Path, say: Callable[[str], None]) -> None:
        require_root(self.name)
        install_programs(self.name, PACKAGES, say)

    def start(self, directory: Path, copies: int) -> tuple[Path, Path]:
        settings = directory / "ceph.conf"
        environment = {"CEPH_CONF": str(settings)}
        self._processes = processes = Processes(self.name, directory, environment)
        processes.open_network()
        cluster = str(uuid.uuid4())
        # Sparse files, as large as they may become together.
        space_bytes = min(SPACE_BYTES_MAX, shutil.disk_usage(directory).free // 4)
        sizes = {"copies": copies, "space_bytes": space_bytes}
        where = {"cluster": cluster, "directory": directory, "address": ADDRESS}
        settings.write_text(SETTINGS.format(**where, **sizes))
        _start_monitor(processes, directory, cluster)
        for number in range(OBJECT_SERVERS):
            _start_object_server(processes, directory, number)
        _start_filesystem(processes, directory)
        first, second = (_mount(processes, directory / f"mnt{n}") for n in range(2))
        return first, second

    def stop(self) -> None:
        if self._processes:
            self._processes.stop()


def _mount(processes: Processes, mountpoint: Path) -> Path:
    return processes.mount(mountpoint, ["ceph-fuse", "-f", str(mountpoint)])


def _start_monitor(processes: Processes, directory: Path, cluster: str) -> None:
    monitors = str(directory / "monmap")
    # With version 1 of the protocol alone, commands now and then come before the cluster's id.
    addresses = f"[v2:{ADDRESS}:3300,v1:{ADDRESS}:6789]"
    command = ["monmaptool", "--create", "--fsid", cluster, "--addv", "a", addresses, monitors]
    processes.run(command)
    (directory / "mon").mkdir()
    processes.run(["ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors])
    processes.start("mon", ["ceph-mon", "-f", "-i", "a"])


def _start_object_server(processes: Processes, directory: Path, number: int) -> None:
    (directory / f"osd{number}").mkdir()
    identity = str(uuid.uuid4())
    processes.run(["ceph", "osd", "new", identity])
    processes.run(["ceph-osd", "-i", str(number), "--mkfs", "--osd-uuid", identity])
    place = [f"osd.{number}", "1.0", "root=default", "host=bench"]
    processes.run(["ceph", "osd", "crush", "add", *place])
    processes.start(f"osd{number}", ["ceph-osd", "-f", "-i", str(number)])


def _start_filesystem(processes: Processes, directory: Path) -> None:
    for pool in ("names", "data"):
        processes.run(["ceph", "osd", "pool", "create", pool, GROUPS])
    processes.run(["ceph", "fs", "new", "bench", "names", "data"])
    (directory / "mds").mkdir()
    processes.start("mds", ["ceph-mds", "-f", "-i", "a"])
    is_active = "up:active"
    processes.wait_until(
        "active metadata server", lambda: is_active in processes.run(["ceph", "mds", "stat"])
    )
