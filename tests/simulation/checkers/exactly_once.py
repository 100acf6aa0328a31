"""I8: an op takes effect once, and what is told of it is told the same every time.

Watches the packets between clients and the metadata server, and the batches that become durable:

- a number that is sent again carries the same op, and a client's later session does not;
- an outcome that is told again is the same outcome (a failure that never reached the client may be
  decided anew by the next server: decisions/0004);
- an op is answered with success only when its session's durable `last_op` has reached it (I3);
- a session's `last_op` never goes back, and an ended session never returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfs.core.namespace import keys
from dfs.core.namespace.records import SessionRecord, decode_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.engine.embedded import Batch
    from tests.simulation.network import Connection
    from tests.simulation.packets import SeenPacket
    from tests.simulation.process import Process

_OpKey = tuple[int, int]
"""Session and op number."""


class ExactlyOnceChecker:
    """Watches ops, answers and session records (I8). Tells `report` what is wrong."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._ops: dict[_OpKey, Any] = {}
        self._sessions: dict[tuple[str, str], int] = {}
        """Client and op as text, with its time → the session in which it sent it."""
        self._outcomes: dict[_OpKey, tuple[str, tuple[int, int]]] = {}
        """Which server told it last, and what: errno and inode number."""
        self._asked: dict[tuple[int, int], list[_OpKey]] = {}
        """Connection and request id → the ops of the request."""
        self._last_ops: dict[int, int] = {}
        """Session → its durable last op."""
        self._ended: dict[int, None] = {}

    def see_packet(self, connection: Connection, sender: Process, packet: SeenPacket) -> None:
        key = (connection.number, packet.request_id)
        if packet.kind == "ApplyOps":
            self._asked[key] = [
                self._see_op(sender.name, packet.message, each) for each in packet.message["ops"]
            ]
        elif packet.kind == "ApplyReply" and key in self._asked:
            asked, outcomes = self._asked.pop(key), packet.message["outcomes"]
            if len(asked) != len(outcomes):
                self._report(f"{len(asked)} ops got {len(outcomes)} outcomes")
            for op_key, outcome in zip(asked, outcomes, strict=False):
                self._see_outcome(sender, op_key, outcome)

    def _see_op(self, client: str, message: dict[str, Any], numbered: list[Any]) -> _OpKey:
        op_key = (message["session_id"], numbered[0])
        known = self._ops.setdefault(op_key, numbered[1])
        if known != numbered[1]:
            self._report(f"op {op_key} was {known} and is sent again as {numbered[1]}")
        first = self._sessions.setdefault((client, repr(numbered[1])), op_key[0])
        if first != op_key[0]:
            self._report(f"session {op_key[0]} sends {numbered[1]}, as {first} did before (I7)")
        return op_key

    def _see_outcome(self, server: Process, op_key: _OpKey, outcome: dict[str, Any]) -> None:
        session_id, number = op_key
        errno = outcome.get("errno", 0)
        result = outcome.get("result") or {}
        inode = result.get("inode")
        told = (errno, inode[0] if inode else 0)
        teller, known = self._outcomes.get(op_key, (server.name, told))
        if known[0] and teller != server.name:
            known = told
        # After a restart the inode of a removal or a rename cannot be told any more.
        is_same = known[0] == told[0] and (known[1] == told[1] or 0 in (known[1], told[1]))
        if not is_same:
            self._report(f"op {op_key} was answered {known} and then {told}")
        self._outcomes[op_key] = (server.name, told)
        is_done = errno == 0 and not outcome.get("kind")
        durable = self._last_ops.get(session_id, 0)
        if is_done and number > durable and session_id not in self._ended:
            self._report(f"op {op_key} is answered, but only {durable} are durable (I3)")

    def see_batch(self, process: Process, batch: Batch) -> None:
        for key, value in batch.puts.items():
            if keys.table_of(key) == keys.SESSION:
                self._see_session(decode_record(SessionRecord, value))
        for key in sorted(batch.deletes):
            if keys.table_of(key) == keys.SESSION:
                self._ended[int.from_bytes(key[-8:], "big")] = None

    def _see_session(self, record: SessionRecord) -> None:
        session_id = record.session_id
        if session_id in self._ended:
            self._report(f"session {session_id} returns after its end")
        before = self._last_ops.get(session_id, 0)
        if record.last_op < before:
            self._report(f"session {session_id}: last op {before} became {record.last_op}")
        self._last_ops[session_id] = record.last_op
