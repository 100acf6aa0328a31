"""The inodes that this client holds open, and what it knows and owes of each.

    file      means                                      leaves when
    opening   Open is asked                              answered → held · failed → gone
    leased    nobody can remove it without a recall      recalled → held · unused → gone
    held      held at the server, once for all handles   unused → gone

Unused is a file whose last user left, and of which nothing is dirty. What is leased opens without a
message: the server is told of the hold before it hears that the lease is gone.

The newest record wins, told apart by `data_version`: an answer that was overtaken by our own commit
never hides what the application wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from dfs.client.extent_map import ExtentMap
from dfs.client.failures import copy_of
from dfs.core.dirty import DirtyFile
from dfs.core.messages import ExtentsReply, Open, OpenReply, ReadExtents
from dfs.core.namespace.access import mode_after_write
from dfs.errors import DfsError, FsError
from dfs.limits import FILE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.client.session import MetaSession
    from dfs.client.upload import FlushTicket, Upload
    from dfs.core.namespace.ops import Piece
    from dfs.core.namespace.records import Extent, Inode
    from dfs.core.pending import PendingBlock
    from dfs.types import Credentials, InodeId

NEVER: Final = float("inf")


class OpenFile:
    """One inode in use. The flusher owns what is marked so; everyone may read everything."""

    def __init__(self, ino: InodeId, block_bytes: int) -> None:
        self.ino = ino
        self.user_count = 0
        """Handles, and tasks that are about to make one."""
        self.is_held = False
        """The server knows, or is about to know, that we hold it."""
        self.is_leased = False
        """It is open under its lease, and the server knows nothing of it."""
        self.opening = trio.Lock()
        self.appending = trio.Lock()
        self.extents = ExtentMap(0)
        self.dirty = DirtyFile(block_bytes)
        self.lost: DfsError | None = None
        """Why dirty data was lost last."""
        self.lost_count = 0
        """How often that happened; each handle reports it once."""
        self.untold_loss: DfsError | None = None
        """Set while nobody was told of the newest loss."""
        self.resized = trio.Event()
        """Not set while the size is being changed: writers wait."""
        self.resized.set()
        self._record: Inode | None = None
        self._is_doubtful = False
        """What is known may be of changes that are lost."""
        # The flusher's:
        self.uploads: dict[PendingBlock, Upload] = {}
        self.tickets: list[FlushTicket] = []
        self.is_flushing = False
        self.counted_bytes = 0
        self.ready_bytes = 0
        self.live_since_s = NEVER
        self.pending_since_s = NEVER
        self.retry_at_s = 0.0
        self.has_problem = False
        self.last_write_ns = 0
        self.writer: Credentials | None = None
        self.keeps_attributes = False
        """The attributes were set after everything that is dirty was written."""

    async def wait_resized(self) -> None:
        """Return while the size is not being changed, without an await in between."""
        while not self.resized.is_set():
            await self.resized.wait()

    @property
    def record(self) -> Inode:
        """As the server told it last."""
        assert self._record is not None, "the file is being opened"
        return self._record

    @property
    def is_known(self) -> bool:
        return self._record is not None

    @property
    def size(self) -> int:
        """As the application sees it."""
        return max(self.record.size, self.dirty.end)

    @property
    def attributes(self) -> Inode:
        """The record with what was written since laid over it."""
        if self.dirty.is_clean:
            return self.record
        record = self.record
        if self.keeps_attributes:
            return msgspec.structs.replace(record, size=self.size)
        return msgspec.structs.replace(
            record,
            mode=mode_after_write(record, self.writer) if self.writer else record.mode,
            size=self.size,
            mtime_ns=max(record.mtime_ns, self.last_write_ns),
            ctime_ns=max(record.ctime_ns, self.last_write_ns),
        )

    def take_untold_loss(self) -> DfsError | None:
        """The newest loss, if nobody was told of it; somebody is being told now."""
        loss, self.untold_loss = self.untold_loss, None
        return loss

    def note(self, record: Inode) -> bool:
        """Take in what a server said. False: it is older than what is known, and was left."""
        assert record.ino == self.ino
        if record.data_version < self._known_version:
            return False
        self._record = record
        self._is_doubtful = False
        self.extents.move_to(record.data_version)
        return True

    @property
    def _known_version(self) -> int:
        """-1: nothing is known for sure."""
        is_known = self._record is not None and not self._is_doubtful
        return self.record.data_version if is_known else -1

    def doubt(self) -> None:
        """The session is lost, and with it changes that were not durable: what a server says next
        may be older."""
        self._is_doubtful = True
        self.extents.reset()

    def note_extents(self, record: Inode, start: int, end: int, extents: Sequence[Extent]) -> None:
        """Take in the extents of [start, end), told together with `record`."""
        if self.note(record):
            self.extents.learn(start, end, extents)

    def note_commit(self, record: Inode, pieces: Sequence[Piece]) -> None:
        """This client's own commit is durable, and gave `record`."""
        if record.data_version > self._known_version:
            self.extents.commit(pieces, record.data_version)
            self._record = record
            self._is_doubtful = False
        assert self.extents.data_version == self.record.data_version


class OpenFiles:
    """All of them, by inode."""

    def __init__(self) -> None:
        self._files: dict[InodeId, OpenFile] = {}
        self._session: MetaSession | None = None

    def attach(self, session: MetaSession) -> None:
        assert self._session is None
        self._session = session

    @property
    def session(self) -> MetaSession:
        assert self._session is not None
        return self._session

    @property
    def block_bytes(self) -> int:
        return self.session.settings.block_bytes

    def get(self, ino: InodeId) -> OpenFile | None:
        """The file, if it is open and known."""
        file = self._files.get(ino)
        return file if file is not None and file.is_known else None

    def held(self) -> list[InodeId]:
        """What the server is to be told to hold. Nothing is leased any more."""
        for file in self._files.values():
            file.is_held |= file.is_leased
            file.is_leased = False
        return [file.ino for file in self._files.values() if file.is_held]

    def lose_lease(self, ino: InodeId) -> None:
        """The inode is leased no longer: if it is open it has to be held."""
        file = self._files.get(ino)
        if file is not None and file.is_leased:
            file.is_leased, file.is_held = False, True
            self.session.ops.owe_hold(ino)

    def doubt_all(self) -> None:
        """See OpenFile.doubt."""
        for file in self._files.values():
            file.doubt()

    def extents_of(self, ino: InodeId) -> ExtentMap | None:
        """What is known of an open file's extents."""
        file = self._files.get(ino)
        return file.extents if file is not None else None

    def tell_loss(self) -> None:
        """Raise the newest loss of any open file's data that nobody was told of."""
        for file in self._files.values():
            loss = file.take_untold_loss()
            if loss is not None:
                raise copy_of(loss)

    def current(self, record: Inode) -> Inode:
        """What a server said of an inode, with what this client knows better."""
        file = self.get(record.ino)
        if file is None:
            return record
        file.note(record)
        return file.attributes

    # ------------------------------------------------------------ opening

    async def acquire(self, ino: InodeId) -> OpenFile:
        """The file, leased or held at the server, with what it is right now. `let_go` must follow.

        Raises FsError(ESTALE), Disconnected.
        """
        file = self._files.get(ino)
        if file is None:
            file = self._files[ino] = OpenFile(ino, self.block_bytes)
        file.user_count += 1
        try:
            async with file.opening:
                await self._fetch(file)
        except BaseException:
            self.let_go(file)
            raise
        return file

    async def _fetch(self, file: OpenFile) -> None:
        """Open it under its lease; else hold it, and learn its first extents by one message."""
        if not file.is_held:
            file.is_held = await self.session.ops.hold_again(file.ino)
        leased = self.session.records.inode(file.ino)
        if leased is not None and file.note(leased):
            file.is_leased = not file.is_held
            return
        if file.is_held:
            request = ReadExtents(ino=file.ino, start=0, end=FILE_BYTES_MAX)
            extents = await self.session.ask(request, ExtentsReply)
            file.note_extents(extents.inode, 0, extents.end, extents.extents)
            return
        # From here the server may count us in, whatever becomes of the answer.
        file.is_leased, file.is_held = False, True
        try:
            reply = await self.session.ask(
                Open(session_id=self.session.session_id, ino=file.ino), OpenReply
            )
        except FsError:
            file.is_held = False
            raise
        end = FILE_BYTES_MAX
        if not reply.is_complete:
            end = reply.extents[-1].end if reply.extents else 0
        file.note_extents(reply.inode, 0, end, reply.extents)

    def is_unused(self, ino: InodeId) -> bool:
        """Nobody here has it open, or is letting it go. A file that we have just created may be
        opened through its name before we hear that it is there."""
        return ino not in self._files and not self.session.ops.is_released(ino)

    def adopt(self, record: Inode, *, is_leased: bool) -> OpenFile:
        """The file that this client has just created, and holds if it is not leased. `let_go` must
        follow."""
        assert self.is_unused(record.ino)
        file = OpenFile(record.ino, self.block_bytes)
        self._files[record.ino] = file
        file.user_count = 1
        file.is_leased, file.is_held = is_leased, not is_leased
        file.note(record)
        if record.data_version == 0:
            # Others may have written it before this client heard that it is there.
            file.extents.learn(0, FILE_BYTES_MAX, ())
        return file

    def let_go(self, file: OpenFile) -> None:
        """One user less."""
        assert file.user_count > 0
        file.user_count -= 1
        self.settle(file)

    def settle(self, file: OpenFile) -> None:
        """Forget the file if nobody uses it and nothing of it is owed."""
        if file.user_count or file.is_flushing or not file.dirty.is_clean:
            return
        if self._files.get(file.ino) is not file:
            return
        assert not (file.is_leased and file.is_held)
        del self._files[file.ino]
        if file.is_held:
            self.session.ops.release(file.ino)

    def drop_unclaimed(self, ino: InodeId) -> None:
        """An inode is held for a caller that left: let it go, unless someone else has it open."""
        if ino not in self._files and not self.session.ops.is_release_due(ino):
            self.session.ops.release(ino)
