"""I3: a metadata server shows nobody what is not on stable storage yet.

Watches every answer that carries an inode, and every batch that becomes durable: an inode that is
shown has been in a durable batch, and no content is shown newer than the newest durable one. What
was durable once may be shown later (by a server that has lost its shard and not noticed).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfs.core.namespace import keys
from dfs.core.namespace.records import Inode, decode_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dfs.engine.embedded import Batch
    from tests.simulation.network import Connection
    from tests.simulation.packets import SeenPacket
    from tests.simulation.process import Process

_FIELDS = Inode.__struct_fields__
INO, DATA_VERSION = _FIELDS.index("ino"), _FIELDS.index("data_version")


class DurableAnswersChecker:
    """Watches answers and batches (I3). Tells `report` what is wrong."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._versions: dict[int, int] = {}
        """Inode number → the newest data version of it that was ever durable."""

    def see_batch(self, process: Process, batch: Batch) -> None:
        for key, value in batch.puts.items():
            if keys.table_of(key) == keys.INODE:
                inode = decode_record(Inode, value)
                self._note(inode.ino, inode.data_version)
        for key in batch.deletes:
            # Made and removed in one batch: whoever saw it in between is told when it landed.
            if keys.table_of(key) == keys.INODE:
                self._note(keys.ino_of(key), 0)

    def _note(self, ino: int, version: int) -> None:
        self._versions[ino] = max(self._versions.get(ino, 0), version)

    def see_packet(self, connection: Connection, sender: Process, packet: SeenPacket) -> None:
        for record in _inodes_in(packet):
            ino = record[INO]
            version = record[DATA_VERSION] if len(record) > DATA_VERSION else 0
            if ino not in self._versions:
                self._report(f"{packet.kind} shows inode {ino}, which is not durable (I3)")
            elif version > self._versions[ino]:
                shown = f"version {version} of inode {ino}"
                self._report(f"{packet.kind} shows {shown}, durable is {self._versions[ino]} (I3)")


def _inodes_in(packet: SeenPacket) -> Iterator[list[Any]]:
    """The inode records in an answer of a metadata server."""
    message = packet.message
    if packet.kind in ("InodeReply", "OpenReply", "ExtentsReply"):
        if message["inode"] is not None:
            yield message["inode"]
    elif packet.kind == "DirectoryReply":
        for entry in message["entries"]:
            yield entry["inode"] if isinstance(entry, dict) else entry[1]
