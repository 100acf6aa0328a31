"""Bugs of the chunk server."""

from __future__ import annotations

from tests.simulation.bugs.bug import Bug, Change

BUGS = (
    Bug(
        "put-answered-before-sync",
        "A put is answered when it is written, without a sync.",
        "I3",
        ("blocks", "power-cut"),
        (
            Change(
                "dfs.chunk.segment_log",
                """
        try:
            self._disk.sync(name)
        except OSError as error:
            self._cut_back(is_trusted=False)
""",
                """
        try:
            self._disk.size(name)
        except OSError as error:
            self._cut_back(is_trusted=False)
""",
            ),
        ),
    ),
    Bug(
        "segment-name-not-synced",
        "The directory entry of a new segment is not synced.",
        "I3",
        ("blocks", "power-cut"),
        (
            Change(
                "dfs.chunk.segment_log",
                """
            self._disk.sync(name)
            self._disk.sync_directory(SEGMENTS_DIRECTORY)
""",
                """
            self._disk.sync(name)
""",
            ),
        ),
    ),
    Bug(
        "failed-sync-taken-for-success",
        "A sync that fails is taken for one that worked.",
        "I3",
        ("failing-syncs",),
        (
            Change(
                "dfs.chunk.segment_log",
                """
        except OSError as error:
            self._cut_back(is_trusted=False)
            logger.error("segment %d: sync failed, sealed: %s", self._number, error)
            raise disk_failure(error, f"segment {self._number} cannot be synced") from error
""",
                """
        except OSError as error:
            logger.error("segment %d: sync failed: %s", self._number, error)
""",
            ),
        ),
    ),
    Bug(
        "recovery-trusts-the-page-cache",
        "What a killed process wrote and did not sync counts as stored after the restart.",
        "I3",
        ("blocks",),
        (
            Change(
                "dfs.chunk.recovery",
                """
        if is_newest:
            self._disk.sync(name)
            self._disk.sync_directory(SEGMENTS_DIRECTORY)
""",
                "",
            ),
        ),
    ),
    Bug(
        "recovery-cuts-one-byte-too-many",
        "The cut of a torn tail takes the last byte of the last whole record.",
        "I3",
        ("blocks", "power-cut"),
        (
            Change(
                "dfs.chunk.recovery",
                """
            self._disk.truncate(name, end)
""",
                """
            self._disk.truncate(name, end - 1)
""",
            ),
        ),
    ),
    Bug(
        "index-trusted-without-the-segments",
        "What the segments hold beyond the last checkpoint of the index is not looked for.",
        "I3",
        ("blocks", "crash"),
        (
            Change(
                "dfs.chunk.recovery",
                """
            start = ends.get(number, SEGMENT_HEADER_BYTES)
""",
                """
            size = self._disk.size(segment_name(number))
            start = size if number in ends else SEGMENT_HEADER_BYTES
""",
            ),
        ),
    ),
    Bug(
        "tombstones-not-replayed",
        "An index that is made again from the segments has the deleted blocks, too.",
        "I3",
        ("blocks",),
        (
            Change(
                "dfs.chunk.recovery",
                """
        if is_target:
            self._index.remove(tombstone.block_id)
""",
                """
        if is_target and not self._is_rebuild:
            self._index.remove(tombstone.block_id)
""",
            ),
        ),
    ),
    Bug(
        "compaction-forgets-tombstones",
        "Compaction drops tombstones of copies that are still in other segments.",
        "I3",
        ("blocks", "garbage"),
        (
            Change(
                "dfs.chunk.compactor",
                """
            return KeepTombstone(record.header) if is_needed else None
""",
                """
            return None if is_needed else None
""",
            ),
        ),
    ),
    Bug(
        "compaction-revives-a-deleted-block",
        "A block that is deleted while compaction copies it is there again.",
        "I3",
        ("slow-blocks",),
        (
            Change(
                "dfs.chunk.segment_writer",
                """
            return [record] if is_there and put.source.is_same_place(current) else []
""",
                """
            return [record] if is_there or current is None else []
""",
            ),
        ),
    ),
    Bug(
        "compaction-drops-live-blocks",
        "A segment that is mostly dead is removed with the blocks that are left in it.",
        "I3",
        ("blocks", "garbage"),
        (
            Change(
                "dfs.chunk.compactor",
                """
        if usage.needed_bytes:
""",
                """
        if usage.needed_bytes > usage.dead_bytes:
""",
            ),
            Change(
                "dfs.chunk.compactor",
                """
        if left.live_bytes:
            # The walk did not find records that the index points to: their headers are damaged.
            await self._give_up_unreadable(number)
""",
                """
        logger.info("%d bytes are left", left.live_bytes)
""",
            ),
            Change(
                "dfs.chunk.index",
                """
        assert usage.live_bytes == 0
        usage.is_removed = True
""",
                """
        usage.is_removed = True
""",
            ),
        ),
    ),
    Bug(
        "bad-copy-counts-as-there",
        "A put finds a copy that is known to be bad there already.",
        "I1",
        ("bad-disk",),
        (
            Change(
                "dfs.chunk.store_segments",
                """
        if location is not None and not location.is_bad and not is_being_deleted:
            return None
""",
                """
        if location is not None and not is_being_deleted:
            return None
""",
            ),
        ),
    ),
)
