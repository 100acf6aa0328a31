"""Appends (O_APPEND), atomic among all clients: each piece goes to where the file ends then.

    the file is            | an append
    this client's alone    | is written behind the end that is known here, and promised
    anybody else's, too    | is committed at once, if the file is still as it was asked for; else
                           | it is tried again behind the new end

So of clients that append to one file side by side nobody overwrites another's bytes. That is paid
for with a commit per write(2) for as long as several do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import trio

from dfs.client.upload import UPLOAD_AGAIN_S
from dfs.core.messages import GetAttr, InodeReply
from dfs.core.namespace.ops import CommitData, Piece
from dfs.errors import FsError
from dfs.limits import FILE_BYTES_MAX, INLINE_BYTES_MAX, MIB

if TYPE_CHECKING:
    from dfs.client.flusher import Flusher
    from dfs.client.open_files import OpenFile
    from dfs.client.session import MetaSession
    from dfs.client.uploader import Uploader
    from dfs.environment import Environment
    from dfs.types import Credentials

STEP_BYTES: Final = 1 * MIB
"""An append up to this is one append, for others too; a kernel sends no more at once."""


class Appender:
    """Appends to files of one client. The caller keeps appends to one file in order."""

    def __init__(
        self,
        environment: Environment,
        session: MetaSession,
        uploader: Uploader,
        flusher: Flusher,
    ) -> None:
        self._environment = environment
        self._session = session
        self._uploader = uploader
        self._flusher = flusher

    async def append(self, file: OpenFile, data: bytes | memoryview, who: Credentials) -> None:
        """Raises FsError: EFBIG, ESTALE, ENOSPC; what else keeps data from being written."""
        view = memoryview(data)
        for start in range(0, len(view), STEP_BYTES):
            step = view[start : start + STEP_BYTES]
            while not (
                await self._flusher.append_here(file, step, who)
                or await self._append_there(file, step, who)
            ):
                pass

    async def _append_there(self, file: OpenFile, data: memoryview, who: Credentials) -> bool:
        """Commit it behind the end that the server knows. False: others were faster."""
        await self._flusher.flush(file)
        reply = await self._session.ask(GetAttr(ino=file.ino), InodeReply)
        if reply.inode is None:
            raise FsError(errno.ESTALE)
        file.note(reply.inode)
        end, version = file.size, reply.inode.data_version
        if end + len(data) > FILE_BYTES_MAX:
            raise FsError(errno.EFBIG)
        since = self._session.delete_number
        pieces = [await self._piece(end + at, part) for at, part in self._parts(data)]
        op = CommitData(
            credentials=who,
            now_ns=self._environment.now_ns(),
            ino=file.ino,
            pieces=tuple(pieces),
            uploaded_since=since if any(piece.block_id for piece in pieces) else None,
            expected_version=version,
        )
        try:
            result = await self._session.ops.commit(op)
        except FsError as error:
            if error.errno == errno.EAGAIN:
                # A block is being deleted: learn of the deletion, and upload it again.
                await trio.sleep(UPLOAD_AGAIN_S)
                await self._session.refresh_map()
            elif error.errno != errno.EBUSY:
                raise
            return False
        assert result.inode is not None
        file.note_commit(result.inode, pieces)
        return True

    def _parts(self, data: memoryview) -> list[tuple[int, bytes]]:
        size = self._session.settings.block_bytes
        return [(at, bytes(data[at : at + size])) for at in range(0, len(data), size)]

    async def _piece(self, offset: int, plain: bytes) -> Piece:
        if offset + len(plain) <= INLINE_BYTES_MAX:
            return Piece(offset, len(plain), inline=plain)
        block_id = await self._uploader.store(plain)
        if block_id is None:
            return Piece(offset, len(plain))
        return Piece(offset, len(plain), block_id, 0, len(plain))
