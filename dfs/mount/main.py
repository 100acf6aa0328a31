"""One mount from start to end: client, kernel session, signals, clean unmount.

    phase       means                                     leaves when
    starting    client opened, root found                 mounted → serving; failure or signal → end
    serving     requests are answered                     unmounted by others → flushing;
                                                          SIGTERM, SIGINT → detaching
    detaching   off the tree; open files still served     last user gone, or 2 s → flushing
    flushing    the client makes everything durable (I3)  done → end

Whoever waits for the end of this process (`dfs umount`) learns from the trace file that it leaves
in the runtime directory whether everything became durable: it is removed only then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import resource
import signal
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyfuse3
import trio

from dfs.client.client import open_client
from dfs.config import ClientConfig
from dfs.errors import FsError, UserError, leaves_of
from dfs.mount.fuse import FuseOperations
from dfs.mount.fusetap.session import FuseSession
from dfs.mount.introspection import MountIdentity
from dfs.mount.options import MountOptions, fuse_options, parse_options
from dfs.mount.trace import Trace, leave_trace, remove_trace
from dfs.mountpoint import (
    FILESYSTEM_TYPE,
    MountEntry,
    check_mountpoint,
    find_mount,
    is_stale,
    printable,
    take_off,
    users_of,
)
from dfs.types import ROOT, InodeId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from dfs.client.client import Client
    from dfs.config import MountConfig
    from dfs.environment import Environment

log = logging.getLogger(__name__)

REQUESTS_AT_ONCE_MAX = 96
"""Handlers at work at once; each keeps a buffer of a little over 1 MiB."""
DEVICE = "/dev/fuse"
LINGER_S = 2.0
"""After a detach, how long open files are still served."""
SYNC_PATIENCE_S = 10.0
READ_AHEAD_KIB = 1024


async def run_mount(
    config: MountConfig, environment: Environment, *, tell_ready: Callable[[], None]
) -> None:
    """Mount, serve until unmounted, and return when everything is durable.

    Calls `tell_ready` when the mount answers. Raises UserError, DfsError or OSError, perhaps in a
    group.
    """
    await MountProcess(config, environment, tell_ready).run()


class MountProcess:
    """The life of one mount; `phase` is the state of the table above."""

    def __init__(
        self, config: MountConfig, environment: Environment, tell_ready: Callable[[], None]
    ) -> None:
        self.phase = "starting"
        self._config = config
        self._options = parse_options(config.options)
        self._environment = environment
        self._tell_ready = tell_ready
        self._trace = Trace(pid=os.getpid(), mountpoint=printable(config.mountpoint))
        self._entry: MountEntry | None = None
        self._starting = trio.CancelScope()

    async def run(self) -> None:
        await trio.to_thread.run_sync(_make_room, self._config, self._options)
        _raise_file_limit()
        try:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as arrivals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._obey, arrivals, nursery)
                    await self._live()
                    nursery.cancel_scope.cancel()
        except BaseException as error:
            if self.phase != "starting":
                leave_trace(msgspec.structs.replace(self._trace, error=_words(error)))
            raise
        remove_trace(self._trace.pid)

    async def _live(self) -> None:
        config = self._config
        with self._starting:
            name = f"{socket.gethostname()}:{os.getpid()}:{self._trace.mountpoint}"
            settings = ClientConfig(name=name, is_synchronous=self._options.is_synchronous)
            async with open_client(self._environment, config.addresses, config=settings) as client:
                root = await find_directory(client, config.subdirectory)
                session = FuseSession()
                identity = MountIdentity.of(client, config)
                await self._mount_and_serve(FuseOperations(client, identity, root, session))
                self.phase = "flushing"
                # Leaving the block would only log what cannot be made durable.
                await client.sync()
        if self._starting.cancelled_caught:
            raise UserError(f"{config.mountpoint}: interrupted before it was mounted")

    async def _mount_and_serve(self, operations: FuseOperations) -> None:
        mountpoint = self._config.mountpoint
        options = fuse_options(self._options, self._config.source or "dfs")
        try:
            operations.session.mount(operations, mountpoint, options)
        except RuntimeError as error:
            raise UserError(f"{mountpoint}: cannot be mounted ({error}); {_why_not()}") from None
        self._entry = find_mount(mountpoint)
        self.phase = "serving"
        try:
            await self._serve(operations)
        finally:
            with trio.CancelScope(shield=True):
                await operations.caches.stop()
            operations.session.close(unmount=self._is_attached)
        log.info("unmounted; making everything durable")

    @property
    def _is_attached(self) -> bool:
        return self._entry is not None and find_mount(self._config.mountpoint) == self._entry

    async def _serve(self, operations: FuseOperations) -> None:
        """Answer requests until the kernel or a signal ends it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce, operations)
            nursery.start_soon(operations.moved.run)
            with _end_of_connection():
                await operations.session.serve(REQUESTS_AT_ONCE_MAX)
            nursery.cancel_scope.cancel()

    async def _announce(self, operations: FuseOperations) -> None:
        await operations.ready.wait()
        await operations.caches.start()
        if self._entry is not None:
            await trio.to_thread.run_sync(_raise_read_ahead, self._entry.device)
        leave_trace(self._trace)
        self._tell_ready()
        if operations.session.why_plain:
            log.warning("requests take longer than they need: %s", operations.session.why_plain)
        log.info("mounted on %s", self._config.mountpoint)

    async def _obey(self, arrivals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """First signal: a clean unmount. Second: stop serving at once. What was written is flushed
        in any case."""
        async for number in arrivals:
            log.info("%s while %s", signal.Signals(number).name, self.phase)
            if self.phase == "starting":
                self._starting.cancel()
            elif self.phase == "serving":
                self.phase = "detaching"
                nursery.start_soon(self._detach)
            elif self.phase == "detaching":
                pyfuse3.terminate()

    async def _detach(self) -> None:
        """Bring home what is mapped to memory, take the mount off the tree, and serve for a while
        whoever still uses it."""
        mountpoint = self._config.mountpoint
        with trio.move_on_after(SYNC_PATIENCE_S):
            await trio.to_thread.run_sync(_sync_pages, mountpoint, abandon_on_cancel=True)
        users = await trio.to_thread.run_sync(users_of, mountpoint)
        if self._is_attached:
            try:
                await trio.to_thread.run_sync(partial(take_off, mountpoint, is_lazy=True))
            except OSError as error:
                log.error("%s: cannot be unmounted: %s", mountpoint, error)
        await trio.sleep(LINGER_S)
        log.warning("still in use by %s; their next access fails", ", ".join(users) or "somebody")
        pyfuse3.terminate()


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split()) or type(error).__name__


def _make_room(config: MountConfig, options: MountOptions) -> None:
    """A mount of ours whose process died is cleared away; anything else must be in order."""
    entry = find_mount(config.mountpoint)
    if entry and entry.filesystem_type == FILESYSTEM_TYPE and is_stale(config.mountpoint):
        log.info("%s: taking off the mount of a process that died", config.mountpoint)
        take_off(config.mountpoint, is_lazy=True)
    check_mountpoint(config.mountpoint, is_nonempty_fine=options.is_nonempty_fine)
    # For others than root, fusermount3 opens the device.
    if not os.path.exists(DEVICE) or (os.geteuid() == 0 and not os.access(DEVICE, os.R_OK)):
        raise UserError(
            f"{DEVICE} cannot be opened: load the kernel module (modprobe fuse), or in a container "
            "allow it (--device /dev/fuse --cap-add SYS_ADMIN)"
        )


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def find_directory(client: Client, path: str) -> InodeId:
    """The directory at `path` of the volume. Raises UserError if there is none."""
    ino = ROOT
    inode = await client.getattr(ino)
    for name in filter(None, os.fsencode(path).split(b"/")):
        try:
            inode = await client.lookup(ino, name)
        except FsError as error:
            raise UserError(f"{path}: {os.strerror(error.errno)} on this volume") from error
        ino = inode.ino
    if not inode.is_directory:
        raise UserError(f"{path}: not a directory of this volume")
    return ino


def _why_not() -> str:
    if os.geteuid() == 0:
        return "the line above says why"
    return "is the package fuse3 installed, and may this user mount there?"


@contextlib.contextmanager
def _end_of_connection() -> Iterator[None]:
    """A request that is withdrawn by the unmount while it is read ends the connection with
    ECONNABORTED (fuse_dev_do_read, fs/fuse/dev.c); libfuse takes only ENODEV for the end."""
    try:
        yield
    except (OSError, BaseExceptionGroup) as error:
        leaves = list(leaves_of(error))
        if not all(getattr(leaf, "errno", None) == errno.ECONNABORTED for leaf in leaves):
            raise


def _raise_read_ahead(device: str) -> None:
    """FUSE's 128 KiB makes sequential reads wait for every round trip. Only root may change it."""
    with contextlib.suppress(OSError):
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KIB))


def _sync_pages(mountpoint: str) -> None:
    """syncfs(2): the kernel hands over pages that programs changed through mmap(2)."""
    with contextlib.suppress(OSError):
        directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ctypes.CDLL(None).syncfs(directory)
        finally:
            os.close(directory)
