"""The repairs that are safe: each makes one rule hold and loses no content.

A record is written only if it still is what the check looked at, so a cluster in use cannot be
damaged: whoever changed it meanwhile wins, and the next pass looks again.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfs.core.namespace.records import encode_record
from dfs.core.placement import servers_for
from dfs.errors import DfsError, FsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfs.core.namespace.census import Finding
    from dfs.fsck.presence import Presence
    from dfs.fsck.servers import Servers
    from dfs.types import BlockId


async def repair_records(
    servers: Servers, findings: list[Finding], seen: Mapping[bytes, bytes]
) -> list[str]:
    """Apply the findings' own repairs, no key twice in one pass; what was done, in words.

    `seen`: the engine's values that the findings are about. A record that has another one by now
    is left alone.
    """
    touched: set[bytes] = set()
    done: list[str] = []
    for finding in findings:
        if not finding.is_error or not finding.repair or touched & finding.repair.keys():
            continue
        touched |= finding.repair.keys()
        if await _repair(servers, finding, seen):
            done.append(f"{finding.check}: {finding.message}")
    return done


async def _repair(servers: Servers, finding: Finding, seen: Mapping[bytes, bytes]) -> bool:
    """Whether the repair was written. False if a record changed since the check: look again."""
    checks = {key: seen.get(key) for key in finding.repair}
    puts = {key: encode_record(r) if r else None for key, r in finding.repair.items()}
    try:
        await servers.repair(checks, puts)
    except FsError as error:
        if error.errno != errno.EAGAIN:
            raise
        return False
    return True


async def repair_copies(servers: Servers, presence: Presence, wanted: int) -> list[str]:
    """Give blocks with bad or too few copies new ones from a good one; what was done, in words."""
    done: list[str] = []
    for block_id, good in presence.good.items():
        bad = presence.bad.get(block_id, 0)
        if not good or (not bad and good.bit_count() >= wanted):
            continue
        source_id = presence.servers_with(good)[0]
        for target_id in _targets(servers, presence, block_id, wanted):
            try:
                await servers.copy_block(block_id, source_id, target_id)
            except DfsError as error:
                done.append(f"block {block_id.hex()}: not copied to {target_id}: {error}")
                continue
            done.append(f"block {block_id.hex()}: copied to {servers.name_of(target_id)}")
    return done


def _targets(servers: Servers, presence: Presence, block_id: BlockId, wanted: int) -> list[str]:
    """Servers that need a copy: those with a bad one, then the best-placed ones without."""
    good = presence.servers_with(presence.good[block_id])
    bad = presence.servers_with(presence.bad.get(block_id, 0))
    order = [server.server_id for server in servers_for(block_id, servers.status.cluster_map)]
    empty = [s for s in order if s in servers.reachable and s not in good and s not in bad]
    missing = max(0, wanted - len(good) - len(bad))
    return bad + empty[:missing]
