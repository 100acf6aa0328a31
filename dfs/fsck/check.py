"""Checks every invariant over a live cluster: records as of one moment, then blocks where they lie.

| phase | reads | finds |
|---|---|---|
| records | all records, exported as of one moment | what `core/namespace/invariants.py` checks
(I6) | | block copies | every chunk server: can you read these? | blocks with no copy, or with too
few (I1) | | every byte | every chunk server re-reads and re-hashes | copies whose bytes are wrong
(I2) |

The cluster may be in use: records are of one moment, and a block that seems gone is looked at
again, because its file may have been removed meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.core.namespace import keys
from dfs.core.namespace.invariants import RecordChecker
from dfs.core.namespace.records import Extent, decode_record
from dfs.fsck.fix import repair_copies, repair_records
from dfs.fsck.presence import Presence
from dfs.fsck.report import Problem, Progress, Report, ignore_progress
from dfs.fsck.servers import Servers, open_servers
from dfs.fsck.subjects import path_of, subject_of
from dfs.limits import SCAN_RECORDS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.core.namespace.census import Census, Finding
    from dfs.environment import Environment
    from dfs.types import BlockId, InodeId

PASSES_MAX = 5
"""One repair may uncover the next (a directory that is attached again has a wrong size)."""
MISSING_NAMED_MAX = 1000
"""Problems of one kind that are listed one by one."""


async def check_cluster(
    environment: Environment,
    addresses: Sequence[str],
    *,
    verify_data: bool = False,
    repair: bool = False,
    progress: Progress = ignore_progress,
) -> Report:
    """The state of the cluster; with `repair`, what is safe to mend is mended and checked again.

    Raises UserError when no metadata server answers, Disconnected when one is lost on the way.
    """
    repaired: list[str] = []
    async with open_servers(environment, addresses) as (servers, unreachable):
        check = _Check(servers, progress)
        await check.run(verify_data=verify_data)
        for _ in range(PASSES_MAX if repair else 0):
            mended = await check.repair()
            if not mended:
                break
            repaired += mended
            check = _Check(servers, progress)
            await check.run(verify_data=verify_data)
    check.report.repaired = repaired
    check.report.unreachable = unreachable
    return check.report


class _Check:
    """One look at everything."""

    def __init__(self, servers: Servers, progress: Progress) -> None:
        self._servers = servers
        self._progress = progress
        self.report = Report(cluster_id=servers.status.settings.cluster_id)
        self._findings: list[Finding] = []
        self._presence: Presence | None = None

    async def run(self, *, verify_data: bool) -> None:
        census = await self._read_records()
        presence = self._presence = Presence(self._servers, list(census.block_uses))
        await presence.ask_all(self._progress)
        if verify_data:
            await presence.verify_all(self._progress)
        self.report.copies = presence.copies
        self.report.verified_copies = presence.verified_copies
        await self._report_copies(presence, census)

    async def _take_census(self) -> tuple[Census, list[Finding], int]:
        """All records as of one moment, what is wrong with them, and how many extents there are."""
        checker = RecordChecker()
        held: set[InodeId] = set()
        extent_count = 0
        async for rows, page_held in self._servers.pages():
            held.update(page_held)
            for key, value in rows:
                checker.add(key, value)
                extent_count += key[2:3] == keys.EXTENT
            self._progress("records", checker.census.row_count, None)
        return checker.census, checker.finish(held), extent_count

    async def _read_records(self) -> Census:
        census, self._findings, self.report.extents = await self._take_census()
        self.report.inodes = len(census.inodes)
        self.report.directories = sum(inode.is_directory for inode in census.inodes.values())
        self.report.blocks = len(census.block_uses)
        for finding in self._findings:
            subject = subject_of(finding.key, census)
            problem = Problem(finding.check, subject, finding.message, finding.is_error)
            self.report.problems.append(problem)
        return census

    async def _report_copies(self, presence: Presence, census: Census) -> None:
        missing = [b for b in presence.good if not presence.good[b]]
        missing = [b for b in await presence.look_again(missing) if not presence.good[b]]
        files = await self._files_of(set(missing[:MISSING_NAMED_MAX]), census) if missing else {}
        for block_id in missing[:MISSING_NAMED_MAX]:
            message = f"block {block_id.hex()} has no readable copy on any server that answers"
            self._add("I1 block presence", ", ".join(files.get(block_id, ["?"])), message)
        if len(missing) > MISSING_NAMED_MAX:
            rest = len(missing) - MISSING_NAMED_MAX
            self._add("I1 block presence", "more blocks", f"{rest} more have no readable copy")
        for block_id, bits in presence.bad.items():
            for server_id in presence.servers_with(bits):
                message = f"the copy on {self._servers.name_of(server_id)} has wrong bytes"
                self._add("I2 verified bytes", f"block {block_id.hex()}", message)
        self._report_degraded(presence)

    def _report_degraded(self, presence: Presence) -> None:
        wanted = self._copies_wanted()
        few = sum(0 < bits.bit_count() < wanted for bits in presence.good.values())
        if few:
            message = f"{few} blocks have fewer than {wanted} readable copies"
            self._add("I1 block copies", "degraded", message, is_error=False)

    def _copies_wanted(self) -> int:
        cluster_map = self._servers.status.cluster_map
        return min(cluster_map.copies, len(self._servers.reachable))

    def _add(self, check: str, subject: str, message: str, *, is_error: bool = True) -> None:
        self.report.problems.append(Problem(check, subject, message, is_error))

    async def _files_of(self, blocks: set[BlockId], census: Census) -> dict[BlockId, list[str]]:
        """Paths of the files that these blocks belong to; reads the extents once more."""
        files: dict[BlockId, list[str]] = {}
        async for rows, _ in self._servers.pages():
            for key, value in rows:
                if keys.table_of(key) != keys.EXTENT:
                    continue
                extent = decode_record(Extent, value)
                if extent.block_id in blocks:
                    path = path_of(keys.ino_of(key), census)
                    paths = files.setdefault(extent.block_id, [])
                    if path not in paths:
                        paths.append(path)
        return files

    async def repair(self) -> list[str]:
        """Mend what is safe to mend; what was done, in words."""
        assert self._presence is not None
        done = await self._repair_records()
        done += await repair_copies(self._servers, self._presence, self._copies_wanted())
        return done

    async def _repair_records(self) -> list[str]:
        """Apply repairs whose finding stands in two censuses around one reading of its records.

        That the value read lies between two equal findings, and is still there at the commit, is
        what makes the repair one of the state that was checked.
        """
        repairable = [f for f in self._findings if f.is_error and f.repair]
        if not repairable:
            return []
        seen: dict[bytes, bytes] = {}
        wanted = sorted({key for finding in repairable for key in finding.repair})
        for start in range(0, len(wanted), SCAN_RECORDS_MAX):
            seen |= await self._servers.records(wanted[start : start + SCAN_RECORDS_MAX])
        _, again, _ = await self._take_census()
        return await repair_records(self._servers, [f for f in repairable if f in again], seen)
