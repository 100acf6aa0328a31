"""The repairs that are safe: each makes one rule hold and loses no content.

A record is written only if it still is what the check looked at, so a cluster in use cannot be
damaged: whoever changed it meanwhile wins, and the next pass looks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.core.namespace.records import encode_record
from dfs.core.placement import servers_for
from dfs.errors import BlockNotFound, CorruptBlock, DfsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dfs.core.namespace.census import Finding
    from dfs.fsck.metadata import Metadata
    from dfs.fsck.presence import Presence
    from dfs.fsck.servers import ChunkServers
    from dfs.types import BlockId, ServerId

TOGETHER_MAX = 64
"""Repairs that are tried in one commit."""


async def repair_records(
    metadata: Metadata, findings: Sequence[Finding], seen: Mapping[bytes, bytes]
) -> list[str]:
    """Apply the findings' own repairs, no key twice in one pass; what was done, in words.

    `seen`: the engine's values that the findings are about. A record that has another one by now
    is left alone.
    """
    chosen = _independent(findings)
    done: list[str] = []
    for start in range(0, len(chosen), TOGETHER_MAX):
        group = chosen[start : start + TOGETHER_MAX]
        written = group if await _repair(metadata, group, seen) else []
        if not written and len(group) > 1:
            written = [finding for finding in group if await _repair(metadata, [finding], seen)]
        done += [finding.message for finding in written]
    return done


def keys_of(finding: Finding) -> set[bytes]:
    """The records that must be as they were seen when the repair is written."""
    return finding.repair.keys() | set(finding.relies_on)


def _independent(findings: Sequence[Finding]) -> list[Finding]:
    """Those with a repair, without any that touches what an earlier one writes or relies on."""
    written: set[bytes] = set()
    relied_on: set[bytes] = set()
    chosen: list[Finding] = []
    for finding in findings:
        if not finding.is_error or not finding.repair:
            continue
        if keys_of(finding) & written or finding.repair.keys() & relied_on:
            continue
        written |= finding.repair.keys()
        relied_on.update(finding.relies_on)
        chosen.append(finding)
    return chosen


async def _repair(
    metadata: Metadata, findings: Sequence[Finding], seen: Mapping[bytes, bytes]
) -> bool:
    """Whether all of them were written. False, and none was, if a record changed since the
    check."""
    checks = {key: seen.get(key) for finding in findings for key in keys_of(finding)}
    puts = {
        key: encode_record(record) if record else None
        for finding in findings
        for key, record in finding.repair.items()
    }
    return await metadata.repair(checks, puts)


async def copy_blocks(
    servers: ChunkServers, presence: Presence, block_ids: Sequence[BlockId], wanted: int
) -> tuple[list[str], list[str]]:
    """Replace bad copies and add missing ones; what was done and what could not be, in words."""
    done: list[str] = []
    failed: list[str] = []
    for block_id in block_ids:
        if presence.good[block_id]:
            await _copy_block(servers, presence, block_id, wanted, done, failed)
    return done, failed


async def _copy_block(
    servers: ChunkServers,
    presence: Presence,
    block_id: BlockId,
    wanted: int,
    done: list[str],
    failed: list[str],
) -> None:
    """Bad copies are replaced wherever they are; others are added until there are enough."""
    bad = presence.bad_at(block_id)
    count = len(presence.good_at(block_id))
    for target in [*bad, *_empty_servers(servers, presence, block_id)]:
        if count >= wanted and target not in bad:
            break
        problem = await _copy_to(servers, presence, block_id, target)
        where = f"block {block_id.hex()} to {servers.name_of(target)}"
        if problem:
            failed.append(f"cannot copy {where}: {problem}")
        else:
            count += 1
            done.append(f"copied {where}")


def _empty_servers(servers: ChunkServers, presence: Presence, block_id: BlockId) -> list[ServerId]:
    """Servers that answer and have no copy, best-placed first."""
    taken = {*presence.good_at(block_id), *presence.bad_at(block_id)}
    order = [server.server_id for server in servers_for(block_id, servers.cluster_map)]
    return [one for one in order if servers.is_answering(one) and one not in taken]


async def _copy_to(
    servers: ChunkServers, presence: Presence, block_id: BlockId, target: ServerId
) -> str:
    """Why it could not be copied there; empty if it was. Tries one good copy after the other."""
    problem = "no copy can be read"
    for source in presence.good_at(block_id):
        try:
            await servers.copy_block(block_id, source, target)
        except (BlockNotFound, CorruptBlock) as error:
            problem = str(error)
        except DfsError as error:
            return str(error)
        else:
            return ""
    return problem
