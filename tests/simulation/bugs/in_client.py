"""Bugs of the client."""

from __future__ import annotations

from tests.simulation.bugs.bug import Bug, Change

BUGS = (
    Bug(
        "one-copy-more-than-there-is",
        "A client counts one copy more than chunk servers have answered.",
        "I1",
        ("full-disk", "bad-disk", "chunk-crash"),
        (
            Change(
                "dfs.client.uploader",
                """
            if len(race.successes) >= needed:
                return
""",
                """
            if len(race.successes) + 1 >= needed:
                return
""",
            ),
        ),
    ),
    Bug(
        "min-copies-not-waited-for",
        "A client is content with one copy whatever `min_copies` says.",
        "I1",
        ("full-disk", "bad-disk"),
        (
            Change(
                "dfs.client.uploader",
                """
        race = Race(counted_on, put, wanted=cluster_map.copies, hedge_s=PUT_HEDGE_S)
""",
                """
        race = Race(counted_on, put, wanted=1, hedge_s=PUT_HEDGE_S)
""",
            ),
            Change(
                "dfs.client.uploader",
                """
        return race, cluster_map.min_copies
""",
                """
        return race, 1
""",
            ),
        ),
    ),
    Bug(
        "committed-before-uploaded",
        "A commit does not wait for the uploads that it names.",
        "I1",
        ("quiet", "crash"),
        (
            Change(
                "dfs.client.flusher",
                """
                await upload.is_over.wait()
                if upload.error is not None and not upload.is_dropped:
""",
                """
                if upload.error is not None and not upload.is_dropped:
""",
            ),
        ),
    ),
    Bug(
        "refused-commit-not-uploaded-again",
        "A commit that was refused because its blocks are being deleted is only sent again.",
        "I1",
        ("recreate", "garbage"),
        (
            Change(
                "dfs.client.flusher",
                """
                if upload.block_id is not None and not upload.is_dropped:
                    upload.since = self._session.delete_number
                    upload.block_id = await self._uploader.store(upload.block.plain)
""",
                """
                if upload.block_id is not None and not upload.is_dropped:
                    upload.since = self._session.delete_number
""",
            ),
        ),
    ),
    Bug(
        "upload-counts-from-its-end",
        "A commit says the deletion number that was known when its uploads ended, not began.",
        "I1",
        ("recreate",),
        (
            Change(
                "dfs.client.flusher",
                """
                    upload.since = self._session.delete_number
                    upload.block_id = await self._uploader.store(upload.block.plain)
        except DfsError as error:
""",
                """
                    upload.block_id = await self._uploader.store(upload.block.plain)
                    await self._session.refresh_map()
                    upload.since = self._session.delete_number
        except DfsError as error:
""",
            ),
        ),
    ),
    Bug(
        "fsync-before-commit",
        "fsync returns when the flush has begun, not when its commit is durable.",
        "I3",
        ("quiet", "busy"),
        (
            Change(
                "dfs.client.flusher",
                """
            for ticket in tickets:
                await ticket.is_over.wait()
        errors = [ticket.error for ticket in tickets]
""",
                """
            pass
        errors = [ticket.error for ticket in tickets]
""",
            ),
        ),
    ),
    Bug(
        "fsync-forgets-what-is-uploading",
        "fsync returns at once when all that is dirty is being uploaded already.",
        "I3",
        ("quiet", "busy"),
        (
            Change(
                "dfs.client.flusher",
                """
        if file.dirty.is_clean:
            return
        await self._flush([file])
""",
                """
        if not file.dirty.live_bytes:
            return
        await self._flush([file])
""",
            ),
        ),
    ),
    Bug(
        "rename-without-a-flush",
        "A rename does not commit before what was written to the file.",
        "I5",
        ("busy", "client-crash"),
        (
            Change(
                "dfs.client.namespace_calls",
                """
            flushed = [await self._flush_named(parent, name)]
            if flags & RENAME_EXCHANGE:
                flushed.append(await self._flush_named(new_parent, new_name))
""",
                """
            flushed: list[InodeId | None] = []
""",
            ),
        ),
    ),
    Bug(
        "exchange-flushes-one-file",
        "A rename that exchanges two files commits before what was written to one of them only.",
        "I5",
        ("busy", "client-crash"),
        (
            Change(
                "dfs.client.namespace_calls",
                """
            if flags & RENAME_EXCHANGE:
                flushed.append(await self._flush_named(new_parent, new_name))
""",
                "",
            ),
        ),
    ),
    Bug(
        "commit-hides-a-foreign-change",
        "After its own commit a client keeps the extents that it knew, though others had changed "
        "the file before.",
        "I4",
        ("slots",),
        (
            Change(
                "dfs.client.extent_map",
                """
        if data_version != self.data_version + 1:
            self.move_to(data_version)
            return
""",
                "",
            ),
        ),
    ),
    Bug(
        "old-extents-of-a-new-version",
        "Extents stay known when the file is found changed by others.",
        "I4",
        ("slots", "chaos"),
        (
            Change(
                "dfs.client.extent_map",
                """
        if data_version != self.data_version:
            self.forget()
            self.data_version = data_version
""",
                """
        self.data_version = data_version
""",
            ),
        ),
    ),
    Bug(
        "size-of-dirty-data-forgotten",
        "What was written and not committed does not count for a file's size.",
        "I4",
        ("quiet",),
        (
            Change(
                "dfs.client.open_files",
                """
            size=self.size,
            mtime_ns=max(record.mtime_ns, self.last_write_ns),
""",
                """
            mtime_ns=max(record.mtime_ns, self.last_write_ns),
""",
            ),
        ),
    ),
    Bug(
        "open-does-not-wait-for-a-release",
        "A file is opened again while a release of it is under way, which then takes the new hold.",
        "I6",
        ("reopen", "lost-answers", "orphans"),
        (
            Change(
                "dfs.client.op_stream",
                """
        while ino in self._releases_under_way:
            await self._releases_under_way[ino].wait()
""",
                """
""",
            ),
        ),
    ),
    Bug(
        "holds-not-told-after-a-lost-link",
        "A client that opens its session again does not say what it holds open.",
        "I6",
        ("orphans", "network"),
        (
            Change(
                "dfs.client.session",
                """
            held=tuple(sorted(set(held))) if is_return else (),
""",
                """
            held=(),
""",
            ),
        ),
    ),
    Bug(
        "lost-session-keeps-its-data",
        "A client that lost its session flushes in the next one what it owed in the old one.",
        "I7",
        ("expiry", "sleepers"),
        (
            Change(
                "dfs.client.session",
                """
        self.ops.fail_all(reason)
        self._on_lost(reason)
""",
                """
        self.ops.fail_all(reason)
""",
            ),
        ),
    ),
    Bug(
        "lost-session-keeps-its-ops",
        "A client that lost its session sends its unanswered ops again in the next one.",
        "I7",
        ("expiry", "sleepers"),
        (
            Change(
                "dfs.client.session",
                """
        self.ops.fail_all(reason)
        self._on_lost(reason)
""",
                """
        self._on_lost(reason)
""",
            ),
            Change(
                "dfs.client.session",
                """
        assert len(self.ops.journal) == 0 or self.ops.journal.answered_below == 1
""",
                "",
            ),
        ),
    ),
    Bug(
        "flush-of-lost-data-ends-well",
        "Who waits for a flush is not told that its data was lost with the session meanwhile.",
        "I5",
        ("sleepers", "expiry"),
        (
            Change(
                "dfs.client.flusher",
                """
        errors += [losses.get(file.ino) for file in files]
""",
                "",
            ),
        ),
    ),
    Bug(
        "rename-of-lost-data-goes-on",
        "A rename goes on though the file lost its data while its names were looked up.",
        "I5",
        ("replacers",),
        (
            Change(
                "dfs.client.namespace_calls",
                """
            if ino in losses:
""",
                """
            if ino in losses and ino is None:
""",
            ),
        ),
    ),
    Bug(
        "lost-data-not-told",
        "Nobody is told that data was lost with the session.",
        "I7",
        ("expiry", "sleepers"),
        (
            Change(
                "dfs.client.flusher",
                """
        file.lost = file.untold_loss = error
        file.lost_count += 1
""",
                """
        file.lost = error
""",
            ),
            Change(
                "dfs.client.flusher",
                """
        for losses in self._loss_notes:
            losses[file.ino] = error
""",
                "",
            ),
        ),
    ),
    Bug(
        "append-at-an-old-end",
        "An append is committed where the file ended, though others have appended since.",
        "I4",
        ("appends",),
        (
            Change(
                "dfs.client.appender",
                """
            expected_version=version,
""",
                """
            expected_version=None if version >= 0 else version,
""",
            ),
        ),
    ),
    Bug(
        "appended-here-and-not-promised",
        "An append to what is one client's alone is not waited for when others append, too.",
        "I4",
        ("appends",),
        (
            Change(
                "dfs.client.flusher",
                """
        is_promised = self.promise(file)
""",
                """
        is_promised = not file.dirty.is_clean
""",
            ),
        ),
    ),
    Bug(
        "page-of-a-directory-skips-an-entry",
        "A directory that is listed in pages lacks the first entry of each page but the first.",
        "I4",
        ("large-directory", "small-limits"),
        (
            Change(
                "dfs.client.directory",
                """
        skipped = cookie - page.start
""",
                """
        skipped = cookie - page.start + (cookie > 0)
""",
            ),
        ),
    ),
)
