"""Bugs of exclusive leases and of what clients do by themselves."""

from __future__ import annotations

from tests.simulation.bugs.bug import Bug, Change

BUGS = (
    Bug(
        "looked-at-without-a-recall",
        "Somebody is told of an inode that another session has changed by itself.",
        "I4",
        (
            "alone",
            "fights",
        ),
        (
            Change(
                "dfs.meta.recalls",
                """
        if recalls or self._strangers:
            raise LeaseConflict({ino: set() for ino in inos}, recalls, is_shared=True)
""",
                """
        if self._strangers:
            raise LeaseConflict({ino: set() for ino in inos}, recalls, is_shared=True)
""",
            ),
        ),
    ),
    Bug(
        "answered-from-what-is-not-told",
        "An op's answer depends on what another session has changed by itself.",
        "I4",
        (
            "fights",
            "alone",
        ),
        (
            Change(
                "dfs.meta.streams",
                """
        overlay.base = base
        check()
        return result
""",
                """
        overlay.base = base
        return result
""",
            ),
            Change(
                "dfs.meta.streams",
                """
        except FsError:
            check()
            raise
""",
                """
        except FsError:
            raise
""",
            ),
        ),
    ),
    Bug(
        "recall-answered-while-ops-are-owed",
        "A recall is answered though the server does not know yet what was done.",
        "I4",
        (
            "alone",
            "fights",
        ),
        (
            Change(
                "dfs.client.lease_holder",
                """
            await self._session.ops.settled()
""",
                "",
            ),
        ),
    ),
    Bug(
        "recall-answered-without-the-data",
        "A recall is answered though data of a closed file is not committed.",
        "I4",
        (
            "alone",
            "alone-links",
        ),
        (
            Change(
                "dfs.client.lease_holder",
                """
                await self.commit_data(alone)
""",
                """
                assert alone is not None
""",
            ),
        ),
    ),
    Bug(
        "shared-and-still-changed",
        "A client goes on changing by itself what it was told to share.",
        "I4",
        (
            "fights",
            "alone",
        ),
        (
            Change(
                "dfs.client.record_cache",
                """
                lease.is_exclusive = False
            if recall.is_shared:
""",
                """
                lease.is_used = True
            if recall.is_shared:
""",
            ),
        ),
    ),
    Bug(
        "changed-under-a-shared-lease",
        "A client changes by itself what others have leased as well.",
        "I4",
        (
            "fights",
            "leases",
        ),
        (
            Change(
                "dfs.client.local_ops",
                """
    if not all(ino == unused or records.is_leased_exclusively(ino) for ino in touched):
        return None
""",
                "",
            ),
        ),
    ),
    Bug(
        "exclusive-beside-others",
        "A session has exclusively what others have a lease on.",
        "I4",
        (
            "fights",
            "leases",
        ),
        (
            Change(
                "dfs.core.leases",
                """
        if len(holders) > (session_id in holders) or not self.grant(session_id, ino, own):
            return False
""",
                """
        if holders is None or not self.grant(session_id, ino, own):
            return False
""",
            ),
        ),
    ),
    Bug(
        "made-and-not-exclusive",
        "Of what a client makes by itself the server does not know that it is that client's alone.",
        "I4",
        (
            "alone",
            "fights",
        ),
        (
            Change(
                "dfs.meta.streams",
                """
            leases.take(self.session_id, made)
""",
                """
            leases.grant(self.session_id, made)
""",
            ),
        ),
    ),
    Bug(
        "fsync-without-what-was-done-before",
        "fsync does not wait for what the client has done by itself.",
        "I3",
        ("alone-crashes",),
        (
            Change(
                "dfs.client.client",
                """
        await self._flush(handle)
        await self.meta.ops.settled()
""",
                """
        await self._flush(handle)
""",
            ),
        ),
    ),
    Bug(
        "done-here-beside-an-op-under-way",
        "A client does an op by itself while one is under way whose outcome it does not know.",
        "I5",
        (
            "alone",
            "fights",
            "crossings",
        ),
        (
            Change(
                "dfs.client.op_stream",
                """
        return not self._asked and not self._asking_count and not self._is_synchronous
""",
                """
        return not self._is_synchronous
""",
            ),
        ),
    ),
    Bug(
        "returned-without-what-is-owed",
        "A client that comes back does not say what it still has exclusively.",
        "I4",
        (
            "alone-links",
            "fights",
        ),
        (
            Change(
                "dfs.client.session",
                """
            exclusive=tuple(sorted({*self.records.owed, *self.records.promised}))
            if is_return
            else (),
""",
                """
            exclusive=(),
""",
            ),
        ),
    ),
    Bug(
        "directory-taken-for-complete",
        "A name that is not known in a directory is taken for absent.",
        "I4",
        ("alone",),
        (
            Change(
                "dfs.client.lease",
                """
        return inode is not None and inode.is_directory and self.present_count == inode.size
""",
                """
        return inode is not None and inode.is_directory
""",
            ),
        ),
    ),
    Bug(
        "changed-while-a-commit-is-under-way",
        "A client changes by itself a file that a commit on its way changes, too.",
        "I5",
        ("alone",),
        (
            Change(
                "dfs.client.local_ops",
                """
        if inode is None or self._records.is_in_flux(ino):
""",
                """
        if inode is None:
""",
            ),
        ),
    ),
    Bug(
        "lost-changes-not-told",
        "fsync says nothing of changes that were lost with the session.",
        "I3",
        ("alone-expiry",),
        (
            Change(
                "dfs.client.failures",
                """
        if count != self._seen:
            self._seen = count
""",
                """
        if count < self._seen:
            self._seen = count
""",
            ),
        ),
    ),
    Bug(
        "strangers-are-looked-past",
        "A server that was started again shows what an older session may have changed by itself.",
        "I4",
        (
            "fights",
            "alone-links",
        ),
        (
            Change(
                "dfs.meta.recalls",
                """
        if recalls or self._strangers:
            raise LeaseConflict({ino: set() for ino in inos}, recalls, is_shared=True)
""",
                """
        if recalls:
            raise LeaseConflict({ino: set() for ino in inos}, recalls, is_shared=True)
""",
            ),
            Change(
                "dfs.meta.recalls",
                """
        await self._no_stranger.wait()

""",
                """
        if not conflict.is_shared:
            await self._no_stranger.wait()

""",
            ),
        ),
    ),
    Bug(
        "upgrade-overtaken-by-a-recall-is-kept",
        "What a client was given exclusively it changes by itself, though others look at it since.",
        "I4",
        (
            "fights",
            "crossings",
            "alone",
        ),
        (
            Change(
                "dfs.client.record_cache",
                """
            if lease is not None and self.is_unforgotten(question, ino) and ino not in self._flux:
                lease.is_exclusive = True
""",
                """
            if lease is not None and question.asked_at >= 0 and ino not in self._flux:
                lease.is_exclusive = True
""",
            ),
        ),
    ),
    Bug(
        "lost-commits-still-known",
        "What a client committed by itself and lost with its session it goes on to show.",
        "I7",
        ("alone-expiry",),
        (
            Change(
                "dfs.client.client",
                """
        self._files.doubt_all()
""",
                "",
            ),
        ),
    ),
    Bug(
        "renamed-before-its-commit-here",
        "A rename goes before small data that was written to the file.",
        "I5",
        ("alone-crashes", "alone"),
        (
            Change(
                "dfs.client.namespace_calls",
                """
        await self._flusher.flush_or_owe(file)

    # ------------------------------------------------------------ extended attributes
""",
                """
        if not file.dirty.fits_records:
            await self._flusher.flush(file)

    # ------------------------------------------------------------ extended attributes
""",
            ),
        ),
    ),
    Bug(
        "closed-and-not-promised",
        "A file is closed at once, and nobody sees to it that others find the data.",
        "I4",
        ("alone",),
        (
            Change(
                "dfs.client.flusher",
                """
        self._promised[file] = None
        records.promise(file.ino)
        return True
""",
                """
        return True
""",
            ),
        ),
    ),
    Bug(
        "asked-while-something-is-owed",
        "An op that may wait for others is sent while others wait for what is owed behind it.",
        "I4",
        (
            "fights",
            "crossings",
            "alone",
        ),
        (
            Change(
                "dfs.client.op_stream",
                """
            await self.settled()
            await self.keep_promises()
            await self._wait_for_room()
            check()
""",
                """
            await self._wait_for_room()
            check()
""",
            ),
            Change(
                "dfs.client.op_stream",
                """
        return not self._asked and not self._asking_count and not self._is_synchronous
""",
                """
        return not self._is_synchronous
""",
            ),
        ),
    ),
)
