"""Machines that are network namespaces, each with one cable to a bridge. All of it belongs to the
network namespace of the run (`enclosure.py`).

| cut | what it is | how |
|---|---|---|
| a cable | one machine reaches nobody, and is told nothing | its end at the bridge is set down |
| a pair | two machines do not reach each other | each sends to a hardware address nobody has |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.spawner import Spawner

NETWORK = "10.213.0"
RUNNER_ADDRESS = f"{NETWORK}.254"
NOBODY = "02:00:00:00:00:01"


class Host:
    """A machine: a name, an address, and a namespace that outlives its processes."""

    def __init__(self, spawner: Spawner, name: str, number: int) -> None:
        assert 0 < number < 254
        self.name = name
        self._spawner = spawner
        self.address = f"{NETWORK}.{number}"

    @property
    def enter(self) -> list[str]:
        """The beginning of a command line that runs the rest of it on this machine.

        Not `ip netns exec`: that would hide the mounts that the process makes.
        """
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def cut_cable(self) -> None:
        self._ip(f"link set {self.name}-end down")

    def plug_cable(self) -> None:
        self._ip(f"link set {self.name}-end up")

    def stop_hearing(self, other: Host) -> None:
        """Cut the pair; `hear_again` mends it."""
        self._send_to_nobody(other)
        other._send_to_nobody(self)

    def hear_again(self, other: Host) -> None:
        self._ip(f"-n {self.name} neigh del {other.address} dev eth0")
        other._ip(f"-n {other.name} neigh del {self.address} dev eth0")

    def _send_to_nobody(self, other: Host) -> None:
        entry = f"{other.address} lladdr {NOBODY} dev eth0 nud permanent"
        self._ip(f"-n {self.name} neigh replace {entry}")

    def attach(self) -> None:
        """Make the machine, and its cable to the bridge."""
        self._ip(f"netns add {self.name}")
        self._ip(f"link add {self.name}-end type veth peer name eth0 netns {self.name}")
        self._ip(f"link set {self.name}-end master bridge up")
        self._ip(f"-n {self.name} link set lo up")
        self._ip(f"-n {self.name} address add {self.address}/24 dev eth0")
        self._ip(f"-n {self.name} link set eth0 up")

    def _ip(self, arguments: str) -> None:
        _ip(self._spawner, arguments)


def build_network(spawner: Spawner, hosts: list[Host]) -> None:
    """Make the bridge, with the runner on it, and every host."""
    _ip(spawner, "link set lo up")
    _ip(spawner, "link add bridge type bridge")
    _ip(spawner, f"address add {RUNNER_ADDRESS}/24 dev bridge")
    _ip(spawner, "link set bridge up")
    for host in hosts:
        host.attach()


def _ip(spawner: Spawner, arguments: str) -> None:
    done = spawner.run(["ip", *arguments.split()])
    assert done.returncode == 0, f"ip {arguments}: {done.stderr}"
