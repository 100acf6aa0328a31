"""The records of a live cluster as of one moment, what is wrong with them, and mending that.

A repair is written only if its finding stands in two censuses around one reading of its records,
and they still have those values at the commit. So it is a repair of the state that was checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dfs.core.namespace import keys
from dfs.core.namespace.invariants import RecordChecker
from dfs.errors import Disconnected
from dfs.fsck.fix import keys_of, repair_records
from dfs.fsck.metadata import ExportLost
from dfs.fsck.subjects import Subjects

if TYPE_CHECKING:
    from dfs.core.namespace.census import Census, Finding
    from dfs.fsck.metadata import Metadata
    from dfs.fsck.report import Problems, Progress
    from dfs.types import InodeId

ATTEMPTS_MAX = 4
"""How often a census is begun that the metadata server's restart interrupts."""
PASSES_MAX = 8
"""One repair may uncover the next (a directory that is attached again has a wrong size)."""
WAITING = "orphans_held"
_NUMBERED = {
    "reference_counts": "I6 reference counts",
    "garbage_queue": "I6 garbage queue",
    "blocks_hold_extents": "I6 blocks hold extents",
}


class Moment(NamedTuple):
    """All records as of one moment, and what is wrong with them."""

    census: Census
    findings: list[Finding]
    extent_count: int

    def report_to(self, problems: Problems) -> None:
        """Say what is wrong. An orphan that is held, or waits to be taken apart, is nothing."""
        subjects = Subjects(self.census)
        for finding in self.findings:
            if finding.check != WAITING:
                problems.add(
                    check_words(finding.check),
                    subjects.of_key(finding.key),
                    finding.message,
                    is_error=finding.is_error,
                )


async def take_census(metadata: Metadata, progress: Progress) -> Moment:
    """The records of now. Raises Disconnected when the metadata server is lost for good."""
    problem = ""
    for _ in range(ATTEMPTS_MAX):
        try:
            return await _read_all(metadata, progress)
        except ExportLost as error:
            problem = str(error)
            await metadata.status()
    raise Disconnected(f"the records cannot be read to their end: {problem}")


async def _read_all(metadata: Metadata, progress: Progress) -> Moment:
    checker = RecordChecker()
    held: set[InodeId] = set()
    extent_count = 0
    async for rows, page_held in metadata.pages():
        held.update(page_held)
        for key, value in rows:
            checker.add(key, value)
            extent_count += key[2:3] == keys.EXTENT
        progress("records", checker.census.row_count, None)
    return Moment(checker.census, checker.finish(held), extent_count)


async def mend(metadata: Metadata, moment: Moment, progress: Progress) -> tuple[Moment, list[str]]:
    """The records after all safe repairs, and what was done, in words."""
    done: list[str] = []
    for _ in range(PASSES_MAX):
        repairable = [f for f in moment.findings if f.is_error and f.repair]
        if not repairable:
            break
        seen = await metadata.records(key for finding in repairable for key in keys_of(finding))
        moment = await take_census(metadata, progress)
        standing = _standing(repairable, moment.findings)
        done += await repair_records(metadata, standing, seen)
        moment = await take_census(metadata, progress)
    return moment, done


def _standing(before: list[Finding], now: list[Finding]) -> list[Finding]:
    """Findings that are in both, in the order of the first."""
    by_name = {(finding.check, finding.key, finding.message): finding for finding in now}
    return [f for f in before if by_name.get((f.check, f.key, f.message)) == f]


def check_words(check: str) -> str:
    """The name of a check for people."""
    return _NUMBERED.get(check, check.replace("_", " "))
