"""Commands that a program can give to a filesystem, each in two versions: for the core and for
Linux.

`model` applies the op to a volume of records and `local` makes the system call. Both raise an error
with an errno; the test compares. `Skip` leaves out what a local directory could not answer for the
core.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dfs.core.namespace import access
from dfs.core.namespace.keys import xattr_key
from dfs.core.namespace.ops import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    XATTR_CREATE,
    XATTR_REPLACE,
    CommitData,
    Create,
    Link,
    Mkdir,
    Piece,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Unlink,
)
from dfs.core.namespace.records import Xattr
from dfs.core.namespace.xattrs import CAPABILITY, get_xattr, list_xattrs
from dfs.errors import FsError
from dfs.limits import INLINE_BYTES_MAX, XATTR_NAME_BYTES_MAX
from dfs.types import BlockId
from tests.property import local_directory as linux
from tests.property.namespace_model import At, Command, Model, Pick, Skip, spot_of

if TYPE_CHECKING:
    from dfs.core.namespace.records import Inode
    from tests.property.local_directory import LocalDirectory

BLOCK_BYTES = 8192
A_CAPABILITY = struct.pack("<IIIII", 0x02000000, 1, 0, 0, 0)
"""A value that the kernel takes for security.capability (capabilities(7))."""
PROTECTED_HARDLINKS = Path("/proc/sys/fs/protected_hardlinks")


@dataclass(frozen=True)
class MakeNode(Command):
    at: At | Pick
    mode: int
    rdev: int

    def model(self, model: Model) -> None:
        # The call looks at the type before it looks at the path.
        if stat.S_ISDIR(self.mode):
            raise FsError(errno.EPERM)
        if stat.S_ISLNK(self.mode):
            raise FsError(errno.EINVAL)
        parent = model.parent(self.at, self.who)
        name, rdev = self.at.names[-1], self.rdev
        model.volume.do(Create, self.who, parent=parent, name=name, mode=self.mode, rdev=rdev)

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        os.mknod(spot.path, self.mode, self.rdev, dir_fd=spot.directory_fd)


@dataclass(frozen=True)
class OpenOrCreate(Command):
    """open(O_CREAT | O_RDWR) and close: the core knows the creation, the access check is the
    client's."""

    at: At | Pick
    mode: int

    def model(self, model: Model) -> None:
        parent = model.parent(self.at, self.who)
        mode = stat.S_IFREG | self.mode
        fields = {"parent": parent, "name": self.at.names[-1], "mode": mode}
        result = model.volume.do(Create, self.who, is_exclusive=False, **fields)
        if not result.is_new:
            assert result.inode is not None
            is_sticky = model.volume.inode(parent).mode & stat.S_ISVTX
            if is_sticky or not result.inode.is_file:
                raise Skip
            access.require(result.inode, self.who, access.READ | access.WRITE)

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        flags = os.O_CREAT | os.O_RDWR | os.O_NONBLOCK
        os.close(os.open(spot.path, flags, self.mode, dir_fd=spot.directory_fd))


@dataclass(frozen=True)
class MakeDirectory(Command):
    at: At | Pick
    mode: int

    def model(self, model: Model) -> None:
        parent = model.parent(self.at, self.who)
        model.volume.do(Mkdir, self.who, parent=parent, name=self.at.names[-1], mode=self.mode)

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        os.mkdir(spot.path, self.mode, dir_fd=spot.directory_fd)


@dataclass(frozen=True)
class MakeSymlink(Command):
    at: At | Pick
    target: bytes

    def model(self, model: Model) -> None:
        if not self.target:
            raise FsError(errno.ENOENT)
        parent = model.parent(self.at, self.who)
        name = self.at.names[-1]
        model.volume.do(Symlink, self.who, parent=parent, name=name, target=self.target)

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        os.symlink(self.target, spot.path, dir_fd=spot.directory_fd)


@dataclass(frozen=True)
class MakeLink(Command):
    source: At | Pick
    at: At | Pick

    def model(self, model: Model) -> None:
        inode = model.target(self.source, self.who)
        if self._is_refused_by_sysctl(inode):
            raise Skip
        parent = model.parent(self.at, self.who)
        model.volume.do(Link, self.who, ino=inode.ino, parent=parent, name=self.at.names[-1])

    def _is_refused_by_sysctl(self, inode: Inode) -> bool:
        """fs.protected_hardlinks (proc(5)): a rule of the kernel's above every filesystem."""
        if PROTECTED_HARDLINKS.read_text().strip() == "0":
            return False
        if access.is_owner_or_privileged(inode, self.who):
            return False
        setgid_program = stat.S_ISGID | stat.S_IXGRP
        is_setid = inode.mode & stat.S_ISUID or inode.mode & setgid_program == setgid_program
        is_open = access.is_allowed(inode, self.who, access.READ | access.WRITE)
        return not (inode.is_file and is_open and not is_setid)

    def local(self, local: LocalDirectory) -> None:
        source, at = spot_of(self.source, local), spot_of(self.at, local)
        fds = {"src_dir_fd": source.directory_fd, "dst_dir_fd": at.directory_fd}
        os.link(source.path, at.path, follow_symlinks=False, **fds)


@dataclass(frozen=True)
class RemoveName(Command):
    at: At | Pick
    is_directory: bool

    def model(self, model: Model) -> None:
        parent = model.parent(self.at, self.who)
        kind = Rmdir if self.is_directory else Unlink
        model.volume.do(kind, self.who, parent=parent, name=self.at.names[-1])

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        remove = os.rmdir if self.is_directory else os.unlink
        remove(spot.path, dir_fd=spot.directory_fd)


@dataclass(frozen=True)
class Move(Command):
    source: At | Pick
    at: At | Pick
    flags: int

    def model(self, model: Model) -> None:
        if self.flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            # The call looks at its flags before it looks at the paths.
            raise FsError(errno.EINVAL)
        parent = model.parent(self.source, self.who)
        model.volume.do(
            Rename,
            self.who,
            parent=parent,
            name=self.source.names[-1],
            new_parent=model.parent(self.at, self.who),
            new_name=self.at.names[-1],
            flags=self.flags,
        )

    def local(self, local: LocalDirectory) -> None:
        linux.renameat2(spot_of(self.source, local), spot_of(self.at, local), self.flags)


@dataclass(frozen=True)
class ChangeMode(Command):
    at: At | Pick
    mode: int

    def model(self, model: Model) -> None:
        inode = model.target(self.at, self.who)
        if inode.is_symlink:
            raise Skip
        model.volume.do(SetAttr, self.who, ino=inode.ino, mode=self.mode)

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        os.chmod(spot.path, self.mode, dir_fd=spot.directory_fd)


@dataclass(frozen=True)
class ChangeOwner(Command):
    at: At | Pick
    uid: int | None
    gid: int | None

    def model(self, model: Model) -> None:
        inode = model.target(self.at, self.who)
        if self.uid is None and self.gid is None:
            raise Skip
        model.volume.do(SetAttr, self.who, ino=inode.ino, uid=self.uid, gid=self.gid)

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        uid = -1 if self.uid is None else self.uid
        gid = -1 if self.gid is None else self.gid
        os.chown(spot.path, uid, gid, dir_fd=spot.directory_fd, follow_symlinks=False)


@dataclass(frozen=True)
class SetTimes(Command):
    """None omits a time, a negative number means now."""

    at: At | Pick
    atime_ns: int | None
    mtime_ns: int | None

    def model(self, model: Model) -> None:
        if self.atime_ns is None and self.mtime_ns is None:
            raise Skip
        inode = model.target(self.at, self.who)
        explicit = {
            field: time
            for field, time in (("atime_ns", self.atime_ns), ("mtime_ns", self.mtime_ns))
            if time is not None and time >= 0
        }
        model.volume.do(
            SetAttr,
            self.who,
            ino=inode.ino,
            is_atime_now=self.atime_ns is not None and self.atime_ns < 0,
            is_mtime_now=self.mtime_ns is not None and self.mtime_ns < 0,
            **explicit,
        )

    def local(self, local: LocalDirectory) -> None:
        linux.utimensat(spot_of(self.at, local), self.atime_ns, self.mtime_ns)


@dataclass(frozen=True)
class Truncate(Command):
    at: At | Pick
    size: int

    def model(self, model: Model) -> None:
        inode = model.target(self.at, self.who)
        if inode.is_symlink:
            raise Skip
        model.volume.do(SetAttr, self.who, ino=inode.ino, size=self.size)

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        os.truncate(linux.xattr_path(spot), self.size)


def _check_xattr_call(name: bytes, flags: int = 0) -> None:
    """What setxattr(2) and its kind refuse before they even look at the path."""
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise FsError(errno.EINVAL)
    if not 0 < len(name) <= XATTR_NAME_BYTES_MAX:
        raise FsError(errno.ERANGE)


@dataclass(frozen=True)
class PutXattr(Command):
    at: At | Pick
    name: bytes
    value: bytes
    flags: int

    def model(self, model: Model) -> None:
        if self.name == CAPABILITY and self.value != A_CAPABILITY:
            # The kernel checks this value, above every filesystem, and lets anyone set an empty
            # one.
            raise Skip
        _check_xattr_call(self.name, self.flags)
        inode = model.target(self.at, self.who)
        key = xattr_key(inode.ino, self.name)
        if model.volume.get(key, Xattr) == Xattr(self.value):
            # ext4 takes the same value again for no change and leaves ctime; others do not.
            raise Skip
        fields = {"name": self.name, "value": self.value, "flags": self.flags}
        model.volume.do(SetXattr, self.who, ino=inode.ino, **fields)

    def local(self, local: LocalDirectory) -> None:
        path = linux.xattr_path(spot_of(self.at, local))
        os.setxattr(path, self.name, self.value, self.flags, follow_symlinks=False)


@dataclass(frozen=True)
class DropXattr(Command):
    at: At | Pick
    name: bytes

    def model(self, model: Model) -> None:
        _check_xattr_call(self.name)
        inode = model.target(self.at, self.who)
        model.volume.do(RemoveXattr, self.who, ino=inode.ino, name=self.name)

    def local(self, local: LocalDirectory) -> None:
        path = linux.xattr_path(spot_of(self.at, local))
        os.removexattr(path, self.name, follow_symlinks=False)


@dataclass(frozen=True)
class ReadXattrs(Command):
    at: At | Pick
    name: bytes

    def model(self, model: Model) -> object:
        inode = model.target(self.at, self.who)
        names = list_xattrs(model.volume, inode.ino, self.who)
        _check_xattr_call(self.name)
        return names, get_xattr(model.volume, inode.ino, self.name, self.who)

    def local(self, local: LocalDirectory) -> object:
        path = linux.xattr_path(spot_of(self.at, local))
        names = sorted(os.fsencode(n) for n in os.listxattr(path, follow_symlinks=False))
        return names, os.getxattr(path, self.name, follow_symlinks=False)


@dataclass(frozen=True)
class HoldDirectory(Command):
    at: At | Pick
    slot: int

    def model(self, model: Model) -> None:
        inode = model.target(self.at, self.who)
        if not inode.is_directory:
            raise Skip
        model.directories[self.slot] = inode.ino

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        flags = os.O_PATH | os.O_DIRECTORY
        fd = os.open(spot.path, flags, dir_fd=spot.directory_fd)
        old = local.directories.pop(self.slot, None)
        local.directories[self.slot] = fd
        if old is not None:
            os.close(old)


@dataclass(frozen=True)
class HoldFile(Command):
    at: At | Pick
    slot: int

    def model(self, model: Model) -> None:
        inode = model.target(self.at, self.who)
        if not inode.is_file:
            raise Skip
        access.require(inode, self.who, access.READ | access.WRITE)
        model.files[self.slot] = inode.ino

    def local(self, local: LocalDirectory) -> None:
        spot = spot_of(self.at, local)
        fd = os.open(spot.path, os.O_RDWR, dir_fd=spot.directory_fd)
        old = local.files.pop(self.slot, None)
        local.files[self.slot] = fd
        if old is not None:
            os.close(old)


@dataclass(frozen=True)
class LetFileGo(Command):
    slot: int

    def model(self, model: Model) -> None:
        if model.files.pop(self.slot, None) is None:
            raise Skip

    def local(self, local: LocalDirectory) -> None:
        os.close(local.files.pop(self.slot))


@dataclass(frozen=True)
class Write(Command):
    """pwrite(2) to an open file; the core gets inline pieces, or blocks, or some of both."""

    slot: int
    offset: int
    length: int
    fill: int
    is_inline: bool

    @property
    def data(self) -> bytes:
        return bytes((self.fill + i // 7) % 256 for i in range(self.length))

    def model(self, model: Model) -> None:
        ino = model.files.get(self.slot)
        if ino is None:
            raise Skip
        pieces = tuple(self._pieces(model))
        model.volume.do(CommitData, self.who, ino=ino, pieces=pieces)

    def _pieces(self, model: Model) -> list[Piece]:
        pieces, data, start = [], self.data, 0
        if self.is_inline and self.offset < INLINE_BYTES_MAX:
            start = min(self.length, INLINE_BYTES_MAX - self.offset)
            pieces.append(Piece(self.offset, start, inline=data[:start]))
        while start < self.length:
            length = min(self.length - start, BLOCK_BYTES // 2)
            # The piece is the middle of its block, as after an overwrite of the block's ends.
            block = b"<" * (self.fill % 3) + data[start : start + length] + b">" * (self.fill % 2)
            block_id = BlockId(hashlib.blake2b(block, digest_size=32).digest())
            model.blocks[block_id] = block
            pieces.append(Piece(self.offset + start, length, block_id, self.fill % 3, len(block)))
            start += length
        return pieces

    def local(self, local: LocalDirectory) -> None:
        assert os.pwrite(local.files[self.slot], self.data, self.offset) == self.length


@dataclass(frozen=True)
class ResizeOpen(Command):
    slot: int
    size: int

    def model(self, model: Model) -> None:
        ino = model.files.get(self.slot)
        if ino is None:
            raise Skip
        model.volume.do(SetAttr, self.who, ino=ino, size=self.size, has_handle=True)

    def local(self, local: LocalDirectory) -> None:
        os.ftruncate(local.files[self.slot], self.size)


@dataclass(frozen=True)
class CollectGarbage(Command):
    """Unused blocks go away for good; no program can tell."""

    def model(self, model: Model) -> None:
        for block_id in model.volume.collect_garbage():
            del model.blocks[block_id]

    def local(self, local: LocalDirectory) -> None:
        pass
