"""GlusterFS: glusterd, at least three bricks, two mounts (glusterd(8), gluster(8))."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING, ClassVar

from tools.bench.rivals.packages import install_programs, require_root
from tools.bench.rivals.processes import ADDRESS, Processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKAGES = {
    "glusterd": "glusterfs-server",
    "gluster": "glusterfs-server",
    "glusterfs": "glusterfs-client",
    "ip": "iproute2",
}
VOLUME = "bench"
BRICKS_MIN = 3
COPIES_MAX = 3
# Paths that are compiled in; each is shown a directory of ours instead.
PRIVATE_DIRECTORIES = ("/var/lib/glusterd", "/var/log/glusterfs", "/var/run/gluster")
SETTINGS = """\
volume management
    type mgmt/glusterd
    option working-directory {work}
    option run-directory {run}
    option glusterd-sockfile {socket}
    option transport-type socket
    option transport.socket.bind-address {address}
    option transport.socket.listen-port 24007
    option transport.socket.read-fail-log off
    option ping-timeout 0
    option event-threads 1
end-volume
"""


class GlusterFs:
    name: ClassVar[str] = "glusterfs"
    copies_max: ClassVar[int] = COPIES_MAX

    def __init__(self) -> None:
        self._processes: Processes | None = None

    def install(self, directory: Path, say: Callable[[str], None]) -> None:
        require_root(self.name)
        install_programs(self.name, PACKAGES, say)

    def start(self, directory: Path, copies: int) -> tuple[Path, Path]:
        self._processes = processes = Processes(self.name, directory, {})
        processes.open_network()
        socket = directory / "glusterd.socket"
        # Killed, not told to end: with the first process of its pid namespace the kernel ends all
        # the others, bricks included, which no signal to glusterd does.
        processes.start("glusterd", _server_command(directory, socket), stop_signal=signal.SIGKILL)
        processes.wait_until("glusterd", socket.exists)
        gluster = ["gluster", "--mode=script", f"--glusterd-sock={socket}"]
        gluster += [f"--log-file={directory}/gluster.log", "volume"]
        bricks = [f"{ADDRESS}:{directory}/brick{n}" for n in range(brick_count(copies))]
        replica = ["replica", str(copies)] if copies > 1 else []
        processes.run([*gluster, "create", VOLUME, *replica, *bricks, "force"])
        processes.run([*gluster, "start", VOLUME])
        first, second = (_mount(processes, directory / f"mnt{n}") for n in range(2))
        return first, second

    def stop(self) -> None:
        if self._processes:
            self._processes.stop()


def _mount(processes: Processes, mountpoint: Path) -> Path:
    command = ["glusterfs", "--no-daemon", f"--volfile-server={ADDRESS}"]
    command += [f"--volfile-id={VOLUME}", f"--log-file={mountpoint}.log", str(mountpoint)]
    return processes.mount(mountpoint, command)


def brick_count(copies: int) -> int:
    """The fewest bricks that are three or more and make whole sets of copies."""
    assert copies > 0
    return -(-BRICKS_MIN // copies) * copies


def _server_command(directory: Path, socket: Path) -> list[str]:
    """glusterd in namespaces of its own, where it writes nothing outside `directory`."""
    settings = directory / "glusterd.vol"
    work, run = directory / "work", directory / "run"
    for path in (work, run):
        path.mkdir()
    settings.write_text(SETTINGS.format(work=work, run=run, socket=socket, address=ADDRESS))
    steps = ["set -e"]
    for number, shown in enumerate(PRIVATE_DIRECTORIES):
        private = directory / f"private{number}"
        private.mkdir()
        steps.append(shlex.join(["mkdir", "-p", shown]))
        steps.append(shlex.join(["mount", "--bind", str(private), shown]))
    glusterd = ["glusterd", "--no-daemon", f"--volfile={settings}"]
    glusterd += [f"--pid-file={directory}/glusterd.pid", f"--log-file={directory}/glusterd.log"]
    steps.append(f"exec {shlex.join(glusterd)}")
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    return [*isolated, "sh", "-c", "\n".join(steps)]
