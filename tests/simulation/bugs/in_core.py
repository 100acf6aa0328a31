"""Bugs of the rules: the namespace, reference counts, sessions, blocks."""

from __future__ import annotations

from tests.simulation.bugs.bug import Bug, Change

BUGS = (
    Bug(
        "sent-again-applied-again",
        "An op that is sent again is applied again.",
        "I8",
        ("lost-answers", "fault-points"),
        (
            Change(
                "dfs.core.sessions",
                """
        if number <= self.taken:
            return Verdict.TELL_AGAIN
""",
                """
        if number <= self.taken:
            return Verdict.TAKE
""",
            ),
            Change(
                "dfs.core.sessions",
                """
        assert record.last_op < number <= self.taken
""",
                """
        number = max(number, record.last_op)
""",
            ),
        ),
    ),
    Bug(
        "failed-ops-not-written",
        "The ops that failed are not in the session's record, so a restart forgets that they did.",
        "I8",
        ("lost-answers", "meta-crash"),
        (
            Change(
                "dfs.core.sessions",
                """
        return replace(record, last_op=number, failed_ops=tuple(failed))
""",
                """
        return replace(record, last_op=number, failed_ops=tuple(failed[:0]))
""",
            ),
        ),
    ),
    Bug(
        "reference-counted-twice",
        "One more extent of a block that has some counts as two.",
        "I6",
        ("garbage", "quiet"),
        (
            Change(
                "dfs.core.garbage",
                """
    overlay.put(key, msgspec.structs.replace(ref, count=ref.count + count))
""",
                """
    count += ref.count > 0
    overlay.put(key, msgspec.structs.replace(ref, count=ref.count + count))
""",
            ),
        ),
    ),
    Bug(
        "overwritten-reference-kept",
        "A block whose extent was overwritten keeps its reference.",
        "I6",
        ("quiet", "garbage"),
        (
            Change(
                "dfs.core.namespace.extents",
                """
    for block_id, count in (dropped - added).items():
        drop_reference(overlay, block_id, count=count)
""",
                """
    for block_id, count in (dropped - added).items():
        if not added:
            drop_reference(overlay, block_id, count=count)
""",
            ),
        ),
    ),
    Bug(
        "revived-block-stays-garbage",
        "A block that is named again stays in the garbage queue.",
        "I6",
        ("garbage", "fault-points"),
        (
            Change(
                "dfs.core.garbage",
                """
    if ref.count == 0:
        overlay.delete(garbage_key(block_id))
    overlay.put(key, msgspec.structs.replace(ref, count=ref.count + count))
""",
                """
    overlay.put(key, msgspec.structs.replace(ref, count=ref.count + count))
""",
            ),
        ),
    ),
    Bug(
        "condemned-block-named-again",
        "A commit may name a block that is condemned.",
        "I6",
        ("recreate",),
        (
            Change(
                "dfs.core.garbage",
                """
    if ref.is_condemned:
        raise FsError(errno.EAGAIN, f"block {block_id.hex()} is being deleted")
""",
                """
    ref = msgspec.structs.replace(ref, is_condemned=False)
""",
            ),
        ),
    ),
    Bug(
        "truncate-leaves-stale-bytes",
        "The extent in which the new end of a file lies is not cut.",
        "I2",
        ("busy", "quiet"),
        (
            Change(
                "dfs.core.namespace.extents",
                """
    inode = _replace(overlay, inode, old, pieces.cut_at(old, size), {})
    return msgspec.structs.replace(inode, size=size, data_version=inode.data_version + 1)
""",
                """
    kept = [extent for extent in old if extent.offset < size]
    inode = _replace(overlay, inode, old, kept, {})
    return msgspec.structs.replace(inode, size=size, data_version=inode.data_version + 1)
""",
            ),
        ),
    ),
    Bug(
        "truncate-keeps-the-data-version",
        "A truncation does not count as a change of the content, so clients keep old extents.",
        "I4",
        ("busy", "crash"),
        (
            Change(
                "dfs.core.namespace.extents",
                """
    return msgspec.structs.replace(inode, size=size, data_version=inode.data_version + 1)
""",
                """
    return msgspec.structs.replace(inode, size=size)
""",
            ),
        ),
    ),
    Bug(
        "rest-of-an-extent-misplaced",
        "What is left behind an overwritten range shows the beginning of its block.",
        "I2",
        ("quiet", "crash"),
        (
            Change(
                "dfs.core.namespace.pieces",
                """
        if start < extent.end:
            left.append(part(extent, start, extent.end))
    return left
""",
                """
        if start < extent.end:
            rest = part(extent, start, extent.end)
            left.append(msgspec.structs.replace(rest, block_offset=extent.block_offset))
    return left
""",
            ),
        ),
    ),
    Bug(
        "exchange-loses-an-entry",
        "A rename that exchanges two names moves only one of them.",
        "I6",
        ("busy", "quiet"),
        (
            Change(
                "dfs.core.namespace.rename",
                """
    _settle(overlay, other, op.parent, op.name, op)
    return OpResult(_settle(overlay, moved, op.new_parent, op.new_name, op))
""",
                """
    return OpResult(_settle(overlay, moved, op.new_parent, op.new_name, op))
""",
            ),
        ),
    ),
    Bug(
        "link-not-counted",
        "A hard link is not counted.",
        "I6",
        ("quiet", "crash"),
        (
            Change(
                "dfs.core.namespace.entries",
                """
    inode = msgspec.structs.replace(inode, nlink=inode.nlink + 1, ctime_ns=op.now_ns)
""",
                """
    inode = msgspec.structs.replace(inode, ctime_ns=op.now_ns)
""",
            ),
        ),
    ),
    Bug(
        "replaced-file-keeps-its-name-count",
        "A file that a rename replaces is not counted as having a name less.",
        "I6",
        ("quiet", "crash"),
        (
            Change(
                "dfs.core.namespace.rename",
                """
        other = drop_name(overlay, other, op.now_ns)
        orphans = (other.ino,) if other.nlink == 0 else ()
""",
                """
        if other.is_directory:
            other = drop_name(overlay, other, op.now_ns)
        orphans = (other.ino,) if other.nlink == 0 else ()
""",
            ),
        ),
    ),
    Bug(
        "nobody-verifies-bytes",
        "Neither a chunk server nor a client compares what it reads with the block's name.",
        "I2",
        ("bad-disk",),
        (
            Change(
                "dfs.core.blocks",
                """
    if blake3(plain).digest() != frame.frame_hash:
        raise _corrupt(header, f"wrong bytes in frame {frame_index}")
    return plain
""",
                """
    return plain
""",
            ),
            Change(
                "dfs.chunk.block_reader",
                """
        if payload_checksum(payload) != record.payload_checksum:
            raise CorruptBlock("its bytes do not match their checksum")
""",
                "",
            ),
        ),
    ),
    Bug(
        "resent-op-gets-a-new-number",
        "Ops without an answer are numbered anew when they are sent over a new link.",
        "I8",
        ("lost-answers", "fault-points"),
        (
            Change(
                "dfs.core.journal",
                """
        batch: list[JournalEntry] = []
        total = 0
""",
                """
        for entry in self._sent:
            entry.number = NO_NUMBER
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        batch: list[JournalEntry] = []
        total = 0
""",
            ),
        ),
    ),
    Bug(
        "resent-ops-in-another-order",
        "Ops without an answer are sent again newest first.",
        "I8",
        ("lost-answers", "storm"),
        (
            Change(
                "dfs.core.journal",
                """
        for entry in [*self._sent, *self._waiting]:
""",
                """
        for entry in [*reversed(self._sent), *self._waiting]:
""",
            ),
            Change(
                "dfs.core.journal",
                """
        assert numbers == list(range(numbers[0], numbers[0] + len(batch))) if batch else True
""",
                """
        assert sorted(numbers) == numbers or len(batch) > 1
""",
            ),
            Change(
                "dfs.core.journal",
                """
            entry = self._sent.popleft()
            assert entry.number == sent.number
""",
                """
            entry = next(entry for entry in self._sent if entry.number == sent.number)
            self._sent.remove(entry)
""",
            ),
        ),
    ),
)
