"""What an application holds between open and close of a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dfs.client.directory import DirectoryHandle
from dfs.client.failures import LossesSeen, copy_of
from dfs.core.readahead import ReadAhead

if TYPE_CHECKING:
    from dfs.client.open_files import OpenFile
    from dfs.core.namespace.records import Inode
    from dfs.types import Credentials

_SYNC_FLAGS = os.O_SYNC | os.O_DSYNC


class FileHandle:
    """One open of one file (open(2))."""

    def __init__(
        self, file: OpenFile, flags: int, credentials: Credentials, lost_ops: int = 0
    ) -> None:
        self.file = file
        self.flags = flags
        self.credentials = credentials
        self.is_open = True
        self.read_ahead = ReadAhead()
        self.losses = LossesSeen(lost_ops)
        self._lost_seen = file.lost_count

    @property
    def inode(self) -> Inode:
        """Its attributes as this client knows them now."""
        return self.file.attributes

    @property
    def is_writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def is_appending(self) -> bool:
        return bool(self.flags & os.O_APPEND)

    @property
    def is_synchronous(self) -> bool:
        """Every write is durable when it returns (O_SYNC, O_DSYNC)."""
        return bool(self.flags & _SYNC_FLAGS)

    def see_lost(self) -> None:
        """The application is being told now that dirty data was lost."""
        self._lost_seen = self.file.lost_count
        self.file.take_untold_loss()

    def raise_lost(self) -> None:
        """Raise, once per handle and loss, that dirty data of the file was lost (fsync(2))."""
        if self._lost_seen != self.file.lost_count:
            self.see_lost()
            assert self.file.lost is not None
            raise copy_of(self.file.lost)


__all__ = ["DirectoryHandle", "FileHandle"]
