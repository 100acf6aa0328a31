"""Brings dirty data to the cluster: upload, then commit, in the order in which it was taken (I1).

Per file one worker at a time runs rounds; whoever wants durability leaves a ticket and waits for
the round that answers it. Full blocks are uploaded as soon as they fill; commits gather. What could
not be flushed stays dirty and is tried again, as long as that can help. Dirty bytes are bounded:
writers wait for room.

Data of a file that is this client's alone is committed without asking (`commit_here`) if it fits
into records. Else it may be *promised*: the file was closed, others are to find what was written,
and it is committed when it is old enough, when somebody recalls the file, or before anything is
sent that may wait for others.
"""

from __future__ import annotations

import errno
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from dfs.client.failures import copy_of
from dfs.client.open_files import NEVER
from dfs.client.upload import UPLOAD_AGAIN_S, FlushTicket, Upload, commit_of
from dfs.core.namespace.access import mode_after_write
from dfs.core.pending import commit_group
from dfs.errors import DfsError, Fenced, FsError, Overloaded
from dfs.limits import DIRTY_AGE_S, FILE_BYTES_MAX, MIB, UPLOADS_IN_FLIGHT_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from dfs.client.block_cache import BlockCache
    from dfs.client.open_files import OpenFile, OpenFiles
    from dfs.client.session import MetaSession
    from dfs.client.uploader import Uploader
    from dfs.config import ClientConfig
    from dfs.core.pending import PendingBlock
    from dfs.environment import Environment
    from dfs.types import Credentials, InodeId

logger = logging.getLogger(__name__)

COMMIT_BYTES: Final = 16 * MIB
"""Uploaded bytes that are committed without waiting for more."""
RETRY_S: Final = 2.0
AGE_CHECK_S: Final = DIRTY_AGE_S / 4
_KEPT_ON = (errno.ENOSPC, errno.EDQUOT)
"""Refusals that may go away: the data stays dirty while the file is open."""


class Flusher:
    """Takes writes and makes them durable. `run` carries it."""

    def __init__(
        self,
        environment: Environment,
        session: MetaSession,
        uploader: Uploader,
        files: OpenFiles,
        cache: BlockCache,
        config: ClientConfig,
    ) -> None:
        self._environment = environment
        self._session = session
        self._uploader = uploader
        self._files = files
        self._cache = cache
        self._dirty_bytes_max = config.dirty_bytes_max
        self._commit_bytes = min(COMMIT_BYTES, config.dirty_bytes_max // 4)
        self._patience_s = config.patience_s
        self._slots = trio.CapacityLimiter(UPLOADS_IN_FLIGHT_MAX)
        self._nursery: trio.Nursery | None = None
        self._freed = trio.Event()
        self._dirtied = trio.Event()
        self._dirty: dict[OpenFile, None] = {}
        """Files with dirty data, in the order in which they became dirty."""
        self.dirty_bytes = 0
        """Memory that dirty data of all files takes."""
        self._promised: dict[OpenFile, None] = {}
        self.loss_count = 0
        """How often dirty data of any file was lost."""
        self._loss_notes: list[dict[InodeId, DfsError]] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush by age, and carry uploads and rounds, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                while self.dirty_bytes == 0:
                    self._dirtied = trio.Event()
                    await self._dirtied.wait()
                await trio.sleep(AGE_CHECK_S)
                self._flush_aged()

    # ------------------------------------------------------------ writing

    async def write(
        self, file: OpenFile, offset: int, data: bytes | memoryview, who: Credentials
    ) -> None:
        """Take bytes of a file; waits while too much is dirty.

        Raises what keeps older dirty data from leaving when there is no room: ENOSPC, Disconnected.
        """
        await self._wait_to_write(file, len(data))
        self._take(file, offset, data, who)

    async def append_here(self, file: OpenFile, data: bytes | memoryview, who: Credentials) -> bool:
        """Append to a file that is this client's alone: until others hear of it nobody can move its
        end. False: not now. Raises as `write`."""
        await self._wait_to_write(file, len(data))
        records = self._session.records
        record = records.inode(file.ino) if records.is_exclusive(file.ino) else None
        if record is None or not self._session.ops.may_do_here or file.has_problem:
            return False
        file.note(record)
        if file.size + len(data) > FILE_BYTES_MAX:
            raise FsError(errno.EFBIG)
        self._take(file, file.size, data, who)
        is_promised = self.promise(file)
        assert is_promised, "else a recall would not wait for it"
        return True

    async def _wait_to_write(self, file: OpenFile, byte_count: int) -> None:
        # A writer that never waits would keep the uploads from starting.
        await trio.lowlevel.checkpoint()
        await self._wait_for_room(byte_count)
        await file.wait_resized()

    def _take(
        self, file: OpenFile, offset: int, data: bytes | memoryview, who: Credentials
    ) -> None:
        if file.dirty.live_bytes == 0:
            file.live_since_s = trio.current_time()
        for index in file.dirty.write(offset, data):
            self._start(file, file.dirty.take_full(index))
        if file.dirty.live_bytes == 0:
            file.live_since_s = NEVER
        file.last_write_ns = max(file.last_write_ns, self._environment.now_ns())
        if file.keeps_attributes or file.writer is None or file.writer.is_privileged:
            # Whoever lacks privilege decides whether setuid goes.
            file.writer = who
        file.keeps_attributes = False
        self.account(file)

    async def _wait_for_room(self, byte_count: int) -> None:
        while self.dirty_bytes and self.dirty_bytes + byte_count > self._dirty_bytes_max:
            file = max(self._dirty, key=lambda candidate: candidate.counted_bytes)
            live_bytes = file.dirty.live_bytes
            freed = self._freed
            ticket = self._request(file, takes_rest=live_bytes * 2 > file.dirty.byte_count)
            await freed.wait()
            has_room = self.dirty_bytes + byte_count <= self._dirty_bytes_max
            if ticket.error is not None and not has_room:
                raise copy_of(ticket.error)

    def account(self, file: OpenFile) -> None:
        """Count the file's dirty bytes again, after any change of them."""
        change = file.dirty.byte_count - file.counted_bytes
        file.counted_bytes += change
        self.dirty_bytes += change
        if file.dirty.is_clean:
            self._dirty.pop(file, None)
            file.has_problem = False
            if file in self._promised:
                del self._promised[file]
                self._session.records.keep_promise(file.ino)
        else:
            self._dirty[file] = None
        if change < 0:
            self._tell_freed()
        if self.dirty_bytes > 0:
            self._dirtied.set()
        assert self.dirty_bytes >= 0

    def _tell_freed(self) -> None:
        self._freed.set()
        self._freed = trio.Event()

    # ------------------------------------------------------------ asking for durability

    async def flush(self, file: OpenFile) -> None:
        """Everything written to the file so far is durable (I3). Raises why not."""
        if file.dirty.is_clean:
            return
        await self._flush([file])

    async def flush_or_owe(self, file: OpenFile) -> None:
        """Everything written to the file so far is durable, or an op that is owed: what is done
        after this does not survive without it (I5). Raises as `flush`."""
        if not self.commit_here(file):
            await self.flush(file)

    async def flush_all(self) -> None:
        """Everything written so far is durable. Raises the first failure, after trying all."""
        await self._flush(list(self._dirty))

    def commit_here(self, file: OpenFile) -> bool:
        """Commit what was written as an op that is done here: it is durable when nothing is owed.
        False: it has to be flushed, for it is too large, or not this client's alone."""
        ops = self._session.ops
        if not file.dirty.fits_records or file.is_flushing or not ops.may_do_here:
            return False
        if not self._session.records.is_exclusive(file.ino):
            return False
        file.live_since_s = NEVER
        for block in file.dirty.take_rest():
            self._start(file, block)
        uploads = list(file.uploads.values())
        op = commit_of(file, uploads)
        result = ops.do_here(op)
        if result is None:
            return False
        assert result.inode is not None
        file.note_commit(result.inode, op.pieces)
        self._settle(file, uploads)
        return True

    def promise(self, file: OpenFile) -> bool:
        """Whether others will find what was written to the file though it is not committed yet."""
        if self.commit_here(file):
            return True
        records = self._session.records
        may_promise = records.is_exclusive(file.ino) and self._session.ops.may_do_here
        if not may_promise or file.has_problem or file.dirty.is_clean:
            return file in self._promised
        self._promised[file] = None
        records.promise(file.ino)
        return True

    @property
    def promised_count(self) -> int:
        """Files with data that is promised."""
        return len(self._promised)

    async def keep_promises(self) -> None:
        """Commit what was promised. What cannot be committed is reported by fsync."""
        await self._commit_promised(list(self._promised))

    async def commit_data(self, inos: Collection[InodeId]) -> None:
        """Commit what was written to these files, which were this client's alone until now."""
        files = [file for ino in inos if (file := self._files.get(ino)) and file in self._dirty]
        if self._session.ops.may_do_here:
            for file in files:
                self._promised[file] = None
                self._session.records.promise(file.ino)
        # Data of files that are open would wait behind what may wait for others.
        await self._commit_promised([file for file in files if file in self._promised])

    async def _commit_promised(self, files: Sequence[OpenFile]) -> None:
        try:
            await self._flush(files)
        except DfsError as error:
            logger.warning("what was written to closed files is not committed: %s", error)

    async def _flush(self, files: Sequence[OpenFile]) -> None:
        tickets = [self._request(file, takes_rest=True) for file in files]
        with self.noting_losses() as losses:
            for ticket in tickets:
                await ticket.is_over.wait()
        errors = [ticket.error for ticket in tickets]
        # What is lost leaves nothing to commit, but it did not become durable (I3).
        errors += [losses.get(file.ino) for file in files]
        for error in errors:
            if error is not None:
                raise copy_of(error)

    @contextmanager
    def noting_losses(self) -> Iterator[dict[InodeId, DfsError]]:
        """Inside, which files lose dirty data, and why: a later flush finds them clean."""
        losses: dict[InodeId, DfsError] = {}
        self._loss_notes.append(losses)
        try:
            yield losses
        finally:
            # Not by equality: empty ones are equal.
            self._loss_notes = [each for each in self._loss_notes if each is not losses]

    def truncate(self, file: OpenFile, size: int) -> None:
        """Forget dirty data at or beyond `size`."""
        file.dirty.truncate(size)
        if file.dirty.live_bytes == 0:
            file.live_since_s = NEVER
        self.account(file)

    def may_set_attributes(self, file: OpenFile) -> bool:
        """Whether attributes can be set before what was written is committed, without anybody being
        able to tell: the writes change neither mode nor capabilities."""
        assert file.writer is not None
        record = file.record
        if file.keeps_attributes:
            return True
        return record.xattr_count == 0 and mode_after_write(record, file.writer) == record.mode

    def lose_all(self, reason: str) -> None:
        """The session is gone, and with it what was not committed, as after a crash (I7)."""
        for file in list(self._dirty):
            self._lose(file, Fenced(reason))
            self._files.settle(file)
        assert self.dirty_bytes == 0

    def _request(self, file: OpenFile, *, takes_rest: bool) -> FlushTicket:
        ticket = FlushTicket(takes_rest=takes_rest)
        file.tickets.append(ticket)
        if not file.is_flushing:
            file.is_flushing = True
            self._spawn_worker(file)
        return ticket

    def _spawn_worker(self, file: OpenFile) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._work, file)

    def _flush_aged(self) -> None:
        now_s = trio.current_time()
        for file in self._dirty:
            if file.is_flushing or file.retry_at_s > now_s:
                continue
            if file.live_since_s <= now_s - DIRTY_AGE_S:
                self._request(file, takes_rest=True)
            elif file.pending_since_s <= now_s - DIRTY_AGE_S:
                self._request(file, takes_rest=False)

    # ------------------------------------------------------------ rounds

    async def _work(self, file: OpenFile) -> None:
        """Run rounds while there are tickets."""
        while file.tickets:
            tickets, file.tickets = file.tickets, []
            error: DfsError | None = None
            try:
                await self._round(file, takes_rest=any(t.takes_rest for t in tickets))
            except DfsError as failure:
                error = failure
                self._note_failure(file, failure)
            for ticket in tickets:
                ticket.error = error
                ticket.is_over.set()
            self._tell_freed()
        file.is_flushing = False
        self._files.settle(file)

    def _note_failure(self, file: OpenFile, error: DfsError) -> None:
        """Decide what becomes of data that could not be flushed."""
        file.retry_at_s = trio.current_time() + RETRY_S
        if file.dirty.is_clean:
            return
        is_hopeless = isinstance(error, FsError) and error.errno not in _KEPT_ON
        may_heal = error.is_retryable or file in self._promised
        is_closed = file.user_count == 0 and not may_heal
        if is_hopeless or is_closed:
            self._lose(file, error)
        else:
            level = logging.DEBUG if file.has_problem else logging.WARNING
            file.has_problem = True
            byte_count = file.dirty.byte_count
            logger.log(level, "inode %d keeps %d dirty bytes: %s", file.ino, byte_count, error)

    def _lose(self, file: OpenFile, error: DfsError) -> None:
        """Give up the file's dirty data; every handle hears of it once."""
        logger.error("inode %d lost %d dirty bytes: %s", file.ino, file.dirty.byte_count, error)
        for upload in file.uploads.values():
            upload.is_dropped = True
        file.uploads.clear()
        file.dirty.clear()
        file.ready_bytes = 0
        file.live_since_s = file.pending_since_s = NEVER
        file.lost = file.untold_loss = error
        file.lost_count += 1
        self.loss_count += 1
        for losses in self._loss_notes:
            losses[file.ino] = error
        self.account(file)
        assert file.dirty.is_clean

    async def _round(self, file: OpenFile, *, takes_rest: bool) -> None:
        """Upload what is pending, with the rest if asked, and commit it all in order."""
        if takes_rest:
            file.live_since_s = NEVER
            for block in file.dirty.take_rest():
                self._start(file, block)
        uploads = list(file.uploads.values())
        for upload in uploads:
            if upload.error is not None:
                self._restart(file, upload)
        while uploads:
            group = uploads[: self._group_count(uploads)]
            uploads = uploads[len(group) :]
            for upload in group:
                await upload.is_over.wait()
                if upload.error is not None and not upload.is_dropped:
                    raise copy_of(upload.error)
            await self._commit(file, group)

    def _group_count(self, uploads: Sequence[Upload]) -> int:
        """How many of the oldest uploads share the next commit."""
        count = commit_group([upload.block for upload in uploads])
        total = 0
        for index, upload in enumerate(uploads[:count]):
            total += len(upload.block.plain)
            if total >= self._commit_bytes:
                return index + 1
        assert count > 0
        return count

    # ------------------------------------------------------------ uploads

    def _start(self, file: OpenFile, block: PendingBlock) -> None:
        """Send a pending block on its way."""
        upload = Upload(block)
        file.uploads[block] = upload
        file.pending_since_s = min(file.pending_since_s, trio.current_time())
        if block.is_inline:
            upload.is_over.set()
        else:
            assert self._nursery is not None
            self._nursery.start_soon(self._store, file, upload)

    def _restart(self, file: OpenFile, upload: Upload) -> None:
        assert upload.is_over.is_set()
        upload.error = None
        upload.is_over = trio.Event()
        assert self._nursery is not None
        self._nursery.start_soon(self._store, file, upload)

    async def _store(self, file: OpenFile, upload: Upload) -> None:
        is_over = upload.is_over
        try:
            async with self._slots:
                if upload.block.parts and not upload.is_dropped:
                    upload.since = self._session.delete_number
                    upload.block_id = await self._uploader.store(upload.block.plain)
        except DfsError as error:
            upload.error = error
        is_over.set()
        if upload.error is None and not upload.is_dropped:
            file.ready_bytes += len(upload.block.plain)
            if file.ready_bytes >= self._commit_bytes and not file.is_flushing:
                self._request(file, takes_rest=False)

    # ------------------------------------------------------------ commits

    async def _commit(self, file: OpenFile, group: Sequence[Upload]) -> None:
        """Make uploaded blocks the file's content (I1); those that a collector took meanwhile are
        uploaded again."""
        deadline_s = trio.current_time() + self._patience_s
        while True:
            kept = [upload for upload in group if not upload.is_dropped]
            try:
                await self._commit_once(file, kept)
            except FsError as error:
                if error.errno != errno.EAGAIN:
                    raise
                if trio.current_time() >= deadline_s:
                    # EAGAIN means something else to an application.
                    raise Overloaded(f"inode {file.ino} cannot be committed: {error}") from error
                logger.info("inode %d: uploading again: %s", file.ino, error)
            else:
                return
            await trio.sleep(UPLOAD_AGAIN_S)
            # Learn of the deletion that the uploads came before.
            await self._session.refresh_map()
            for upload in kept:
                if upload.block_id is not None and not upload.is_dropped:
                    upload.since = self._session.delete_number
                    upload.block_id = await self._uploader.store(upload.block.plain)

    async def _commit_once(self, file: OpenFile, kept: Sequence[Upload]) -> None:
        # Truncation may have left no part of any.
        if any(upload.block.parts for upload in kept):
            op = commit_of(file, kept)
            result = await self._session.ops.commit(op)
            assert result.inode is not None
            file.note_commit(result.inode, op.pieces)
        self._settle(file, kept)

    def _settle(self, file: OpenFile, kept: Sequence[Upload]) -> None:
        """These are committed. What was truncated meanwhile is settled already."""
        for upload in kept:
            if not upload.is_dropped:
                self._let_go(file, upload)
        self.account(file)

    def _let_go(self, file: OpenFile, upload: Upload) -> None:
        """A block is committed: the cluster has it now."""
        del file.uploads[upload.block]
        file.dirty.settle(upload.block)
        if not upload.block.is_inline:
            file.ready_bytes -= len(upload.block.plain)
        if not file.uploads:
            file.pending_since_s = NEVER
        if file.dirty.is_clean:
            file.writer = None
        if upload.block_id is not None and len(upload.block.plain) < self._files.block_bytes:
            # Small files and tails are often read soon; streams would only push others out.
            self._cache.put_block(upload.block_id, 0, upload.block.plain)
