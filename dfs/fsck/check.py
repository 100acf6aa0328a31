"""Checks every invariant over a live cluster: records as of one moment, then blocks where they lie.

| phase | reads | finds |
|---|---|---|
| records | all, exported as of one moment | what `core/namespace/invariants.py` checks (I6) |
| block copies | every chunk server: can you read these? | blocks with no copy, or too few (I1) |
| every byte | every chunk server re-reads and re-hashes | copies whose bytes are wrong (I2) |

The cluster may be in use. Chunk servers are looked up after the census, so they include every
server that a block of the census was written to. With `repair`, each phase ends with a look at what
its repairs left: the report is of the state afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.fsck.census import mend, take_census
from dfs.fsck.copies import Copies
from dfs.fsck.counts import restore_counts
from dfs.fsck.metadata import open_metadata
from dfs.fsck.report import Problems, Progress, Report, ignore_progress
from dfs.fsck.servers import open_chunk_servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.environment import Environment
    from dfs.fsck.census import Moment
    from dfs.fsck.presence import Presence

NOT_MENDED = "nothing was repaired: with unreadable records nobody knows what is safe to mend"


async def check_cluster(
    environment: Environment,
    addresses: Sequence[str],
    *,
    verify_data: bool = False,
    repair: bool = False,
    progress: Progress = ignore_progress,
) -> Report:
    """The state of the cluster, after what is safe to mend was mended if `repair`.

    Raises UserError when no metadata server answers, Disconnected when it is lost on the way. A
    lost chunk server is reported.
    """
    problems = Problems()
    report = Report()
    async with open_metadata(environment, addresses) as metadata:
        moment = await take_census(metadata, progress)
        if repair:
            moment, report.repaired = await mend(metadata, moment, progress)
            if moment.census.unreadable:
                problems.add("repair", "records", NOT_MENDED, is_error=False)
        status = await metadata.status()
        async with open_chunk_servers(environment, status) as servers:
            copies = Copies(metadata, servers, moment.census, progress, verify_data=verify_data)
            await copies.look()
            if repair:
                report.repaired += await copies.mend()
                restored = await restore_counts(metadata, servers, copies.presence, moment.census)
                report.repaired += restored
                moment = await take_census(metadata, progress) if restored else moment
            moment.report_to(problems)
            await copies.report_to(problems)
    _count(report, moment, copies.presence, verify_data=verify_data)
    report.cluster_id = status.settings.cluster_id
    report.unreachable = servers.unreachable
    problems.write_to(report)
    return report


def _count(report: Report, moment: Moment, presence: Presence, *, verify_data: bool) -> None:
    census = moment.census
    report.inodes = len(census.inodes)
    report.directories = sum(inode.is_directory for inode in census.inodes.values())
    report.orphans = len(census.orphans)
    report.extents = moment.extent_count
    report.blocks = len(census.block_uses)
    report.copies = presence.copies
    report.verified_copies = presence.copies if verify_data else 0
