"""All deliberate bugs, by name."""

from __future__ import annotations

from tests.simulation.bugs import in_chunk, in_client, in_core, in_exclusive, in_leases, in_meta

ALL = (
    *in_meta.BUGS,
    *in_core.BUGS,
    *in_chunk.BUGS,
    *in_client.BUGS,
    *in_leases.BUGS,
    *in_exclusive.BUGS,
)
BUGS = {bug.name: bug for bug in ALL}
