"""Bugs of the metadata server."""

from __future__ import annotations

from tests.simulation.bugs.bug import Bug, Change

BUGS = (
    Bug(
        "ops-answered-before-commit",
        "An op is answered when it is applied, not when its batch is durable.",
        "I3",
        ("quiet", "meta-crash"),
        (
            Change(
                "dfs.meta.streams",
                """
            self._applier.reaper.note_orphan(ino)
        batch.follow(attempt)
""",
                """
            self._applier.reaper.note_orphan(ino)
        self.settle(attempt)
""",
            ),
        ),
    ),
    Bug(
        "reads-of-what-is-not-durable",
        "A read is answered from a batch that is not durable yet.",
        "I3",
        ("contention", "small-limits", "chaos"),
        (
            Change(
                "dfs.meta.committer",
                """
            if seen is not None and not await seen.has_landed():
                continue
            return answer()
""",
                """
            return answer()
""",
            ),
        ),
    ),
    Bug(
        "reads-wait-for-the-older-batch",
        "A read of what two unwritten batches have changed waits for the older of them only.",
        "I3",
        ("slots",),
        (
            Change(
                "dfs.meta.committer",
                """
                self.seen = batch
                break
        assert self.seen is self._layers[0] or key not in self._layers[0].changes
""",
                """
                self.seen = batch
""",
            ),
        ),
    ),
    Bug(
        "unknown-outcome-taken-for-success",
        "A commit of which nobody heard whether it happened is taken for done.",
        "I3",
        ("lost-outcomes",),
        (
            Change(
                "dfs.meta.shards",
                """
                if await self._has_landed():
                    return
""",
                """
                self._fence = await self._read()
                return
""",
            ),
        ),
    ),
    Bug(
        "outcome-forgotten-once-sent",
        "An outcome is forgotten when it was sent once, not when the client says that it has it.",
        "I8",
        ("lost-answers", "fault-points"),
        (
            Change(
                "dfs.meta.streams",
                """
        if not attempt.done.is_set():
            attempt.end()
""",
                """
        if not attempt.done.is_set():
            attempt.end()
        self._attempts.pop(attempt.number, None)
        self.numbers.failed.pop(attempt.number, None)
""",
            ),
        ),
    ),
    Bug(
        "answered-before-a-restart-unknown",
        "After a restart the session's number of the last durable op is not taken over.",
        "I8",
        ("meta-crash", "crash", "contention"),
        (
            Change(
                "dfs.meta.sessions",
                """
            self._sessions[record.session_id] = Session(record, applier, NO_LINK)
""",
                """
            record = replace(record, last_op=OpNumber(0))
            self._sessions[record.session_id] = Session(record, applier, NO_LINK)
""",
            ),
        ),
    ),
    Bug(
        "inode-range-given-twice",
        "A session gets the inode numbers that the one before it got.",
        "I6",
        ("quiet", "crash"),
        (
            Change(
                "dfs.meta.sessions",
                """
    first_ino, end_ino = counters.next_ino, InodeId(counters.next_ino + INODE_RANGE_COUNT)
    overlay.put(COUNTERS_KEY, replace(counters, next_ino=end_ino))
""",
                """
    first_ino = InodeId(max(2, counters.next_ino - INODE_RANGE_COUNT))
    end_ino = InodeId(first_ino + INODE_RANGE_COUNT)
    overlay.put(COUNTERS_KEY, replace(counters, next_ino=end_ino))
""",
            ),
        ),
    ),
    Bug(
        "session-never-heard",
        "Requests of a session are not taken for a sign of life.",
        "I7",
        ("quiet",),
        (
            Change(
                "dfs.meta.sessions",
                """
        self._lifetimes.hear(session_id, trio.current_time())
        return session
""",
                """
        return session
""",
            ),
        ),
    ),
    Bug(
        "session-returns-after-its-end",
        "A session that has expired is begun anew when its client asks for it.",
        "I7",
        ("expiry",),
        (
            Change(
                "dfs.meta.sessions",
                """
        session = self._sessions.get(request.session_id)
        if session is None or session.is_deaf:
            raise _fenced(request.session_id)
        if request.opening < session.opening:
""",
                """
        session = self._sessions.get(request.session_id)
        if session is None:

            def begin(overlay: Overlay) -> SessionRecord:
                key = session_key(request.session_id)
                overlay.put(key, SessionRecord(request.session_id, request.client, OpNumber(0)))
                return _give_range(overlay, request.session_id)

            record = await self._committer.commit(begin)
            session = Session(record, self._applier, link.number)
            self._sessions[session.session_id] = session
            self._lifetimes.begin(session.session_id, trio.current_time())
        if request.opening < session.opening:
""",
            ),
        ),
    ),
    Bug(
        "ended-session-goes-on",
        "A session that was silent for too long loses its record, but its requests are still done.",
        "I7",
        ("expiry", "sleepers"),
        (
            Change(
                "dfs.meta.sessions",
                """
        session = self._sessions.pop(session_id)
        log.info("session %d ends: %s (%s)", session_id, reason, session.client)
        session.stream.close(_fenced(session_id))
        self._recalls.forget_all(session_id)
        self._lifetimes.end(session_id)
""",
                """
        session = self._sessions[session_id]
        self._recalls.forget_all(session_id)
        log.info("session %d ends: %s (%s)", session_id, reason, session.client)
""",
            ),
            Change(
                "dfs.meta.sessions",
                """
                assert session_id not in self._sessions
""",
                "",
            ),
        ),
    ),
    Bug(
        "session-on-any-link",
        "Requests that linger on an old link of a session are done after it was opened on another.",
        "I8",
        ("lingering", "reopen"),
        (
            Change(
                "dfs.meta.sessions",
                """
        if session.link_number != link.number:
            raise Disconnected(f"session {session_id} has to be opened again on this link")
        self._lifetimes.hear(session_id, trio.current_time())
""",
                """
        self._lifetimes.hear(session_id, trio.current_time())
""",
            ),
        ),
    ),
    Bug(
        "fence-not-checked",
        "A batch is written whoever owns the shard.",
        "I7",
        ("frozen",),
        (
            Change(
                "dfs.meta.shards",
                """
        checks = {FENCE_KEY: encode_record(fence) if fence is not None else None}
""",
                """
        checks: dict[bytes, bytes | None] = {}
""",
            ),
        ),
    ),
    Bug(
        "orphan-removed-though-held",
        "An inode whose last name goes is removed though a client has it open.",
        "I6",
        ("quiet", "crash"),
        (
            Change(
                "dfs.meta.reaper",
                """
        return self._lifetimes.is_everyone_back and not self._holds.is_held(ino)
""",
                """
        return self._lifetimes.is_everyone_back
""",
            ),
        ),
    ),
    Bug(
        "orphans-removed-before-everyone-is-back",
        "After a restart orphans are taken apart before the sessions told what they hold.",
        "I6",
        ("orphans", "meta-crash"),
        (
            Change(
                "dfs.core.sessions",
                """
        return not self._absent
""",
                """
        return True
""",
            ),
        ),
    ),
    Bug(
        "late-release-takes-a-new-hold",
        "A release that lingered on an old link lets go of what was opened again since.",
        "I6",
        ("reopen", "orphans"),
        (
            Change(
                "dfs.meta.handlers",
                """
        if session.link_number == link.number:
            self._sessions.release(session, request.releases)
        exclusive = await self._committer.read(
""",
                """
        self._sessions.release(session, request.releases)
        exclusive = await self._committer.read(
""",
            ),
        ),
    ),
    Bug(
        "deleted-before-condemned",
        "Blocks are deleted on the chunk servers, and condemned only then.",
        "I6",
        ("recreate", "fault-points"),
        (
            Change(
                "dfs.meta.collector",
                """
        condemned = await self._condemn(queued)
        if not condemned:
            return False
        await self._environment.fault_point("blocks are condemned, none is deleted")
        await self._delete(condemned)
""",
                """
        await self._delete(queued)
        await self._environment.fault_point("blocks are deleted, none is condemned")
        condemned = await self._condemn(queued)
        if not condemned:
            return False
""",
            ),
        ),
    ),
    Bug(
        "revived-block-deleted",
        "All blocks that were in the queue are deleted, also those that are named again meanwhile.",
        "I6",
        ("fault-points", "chaos"),
        (
            Change(
                "dfs.meta.collector",
                """
        await self._delete(condemned)
""",
                """
        await self._delete(queued)
""",
            ),
        ),
    ),
    Bug(
        "uploaded-since-ignored",
        "A commit may rely on an upload from before its block was deleted.",
        "I1",
        ("recreate", "garbage"),
        (
            Change(
                "dfs.meta.deletions",
                """
        if op.uploaded_since is None or op.uploaded_since >= self.number:
            return
""",
                """
        if op.uploaded_since is None or op.uploaded_since >= 0:
            return
""",
            ),
        ),
    ),
    Bug(
        "older-record-over-a-newer",
        "A fetch that a commit overtook puts the older record into the cache.",
        "I4",
        ("small-limits",),
        (
            Change(
                "dfs.meta.record_store",
                """
            record = changes.get(key, record)
            self._records.put(key, ABSENT if record is None else record)
""",
                """
            self._records.put(key, ABSENT if record is None else record)
""",
            ),
        ),
    ),
    Bug(
        "range-cached-without-late-commits",
        "A range that was read while a batch landed is cached as it was before the batch.",
        "I4",
        ("small-cache",),
        (
            Change(
                "dfs.meta.record_store",
                """
            if start <= key < end and shelf_of(key) == shelf:
                page.patch(key, record)
""",
                """
            if start <= key < end and shelf_of(key) == shelf:
                continue
""",
            ),
        ),
    ),
)
