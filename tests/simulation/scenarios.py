"""What a run is made of: how large the cluster is, who works in it, and what goes wrong how
often."""

from __future__ import annotations

import msgspec

from dfs.limits import KIB, MIB, SESSION_TTL_S


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of run. All of it is decided by the seed, within these bounds."""

    name: str
    play: str = "files"
    """`files`: a whole cluster and what clients do in it; `blocks`: one chunk server by itself."""
    duration_s: float = 20.0
    """Virtual seconds of load and faults, before everything is mended and checked."""
    chunk_servers: int = 3
    copies: int = 2
    min_copies: int | None = None
    segment_bytes: int = 1 * MIB
    clients: int = 2
    writers_per_client: int = 2
    """Each in a directory of its own."""
    slot_writers_per_client: int = 0
    """All in one file, each in ranges of its own."""
    contenders_per_client: int = 0
    """All for the same few names in one directory."""
    shared_share: float = 0.15
    """Share of writes whose bytes are one of a few that everybody writes."""
    garbage_grace_s: float = 10.0
    """How long the metadata server lets garbage rest."""
    pause_s: float = 0.05
    """Mean time that a writer thinks between two steps."""
    process_fault_every_s: float = 0.0
    """Mean time between deaths of processes and machines; 0: none die."""
    victims: tuple[str, ...] = ("meta", "chunk", "client", "all")
    """Who dies: one at a time, but `all` is every machine at once."""
    bad_disk_error_chance: float = 0.0
    """Of each read, write and sync of the first chunk server's disk; other disks are good."""
    rot_every_s: float = 0.0
    """Mean time between bits that flip on that disk; 0: none."""
    small_disk_bytes: int = 0
    """Size of that disk; 0: as large as the others."""
    partition_s_max: float = 8.0
    session_ttl_s: float = SESSION_TTL_S
    may_lose_sessions: bool = False
    """Partitions last longer than sessions live: clients lose what they owe, and must say so."""
    network_fault_every_s: float = 0.0
    """Mean time between lost connections and partitions; 0: none."""


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="quiet", duration_s=5.0),
        Scenario(name="crash", process_fault_every_s=2.0),
        Scenario(name="meta-crash", process_fault_every_s=1.0, victims=("meta",)),
        Scenario(name="chunk-crash", process_fault_every_s=1.0, victims=("chunk",)),
        Scenario(name="client-crash", process_fault_every_s=2.0, victims=("client",)),
        Scenario(
            name="frozen", duration_s=60.0, process_fault_every_s=3.0, victims=("frozen", "meta")
        ),
        Scenario(name="power-cut", process_fault_every_s=4.0, victims=("all",)),
        Scenario(
            name="blocks",
            play="blocks",
            duration_s=60.0,
            chunk_servers=1,
            clients=0,
            process_fault_every_s=0.5,
            segment_bytes=256 * KIB,
        ),
        Scenario(name="network", network_fault_every_s=0.7),
        Scenario(name="everything", process_fault_every_s=3.0, network_fault_every_s=2.0),
        Scenario(
            name="expiry",
            duration_s=40.0,
            network_fault_every_s=2.0,
            partition_s_max=25.0,
            session_ttl_s=6.0,
            may_lose_sessions=True,
        ),
        Scenario(
            name="bad-disk",
            min_copies=2,
            bad_disk_error_chance=0.01,
            rot_every_s=1.0,
            process_fault_every_s=5.0,
            victims=("meta", "client"),
        ),
        Scenario(
            name="full-disk",
            small_disk_bytes=1 * MIB,
            min_copies=2,
            process_fault_every_s=5.0,
        ),
        Scenario(
            name="slots",
            writers_per_client=0,
            slot_writers_per_client=2,
            clients=3,
            process_fault_every_s=4.0,
            network_fault_every_s=4.0,
        ),
        Scenario(
            name="contention",
            clients=3,
            writers_per_client=0,
            contenders_per_client=2,
            process_fault_every_s=2.5,
            network_fault_every_s=2.5,
        ),
        Scenario(
            name="storm",
            clients=3,
            writers_per_client=1,
            process_fault_every_s=0.5,
            network_fault_every_s=0.3,
        ),
        Scenario(
            name="chaos",
            duration_s=40.0,
            clients=3,
            writers_per_client=1,
            slot_writers_per_client=1,
            contenders_per_client=1,
            pause_s=0.1,
            shared_share=0.5,
            garbage_grace_s=0.5,
            process_fault_every_s=1.5,
            network_fault_every_s=1.5,
        ),
        Scenario(
            name="garbage",
            duration_s=40.0,
            shared_share=0.8,
            garbage_grace_s=0.0,
            pause_s=0.15,
            process_fault_every_s=8.0,
            network_fault_every_s=4.0,
        ),
    )
}
DEFAULT = "everything"
