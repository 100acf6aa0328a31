"""A writer does random steps in a directory of its own, and knows exactly what comes of them.

Nobody else changes its directory, so every answer is right or wrong, never "maybe": a create that
was applied twice answers EEXIST and is found out at once (I8). Only the step that was under way
when the client died may have happened or not; the next client looks, and it must be one of the two.

| a step returned | then this must survive every crash |
|---|---|
| any change of the namespace | that change, and what was written before a rename or link (I5) |
| write | nothing yet |
| fsync, flush (close) | every byte of the file (I3) |

A client that is not synchronous promises changes and closed files only once something is synced
(fsync, sync); until then what survives is a prefix of the changes (I5).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import trio

from dfs.errors import DfsError, Fenced, FsError
from dfs.limits import CALL_TIMEOUT_S, KEEP_ALIVE_S
from dfs.types import ROOT, InodeId
from tests.simulation.checkers.coherence import check_coherence
from tests.simulation.checkers.prefix import find_prefix
from tests.simulation.checkers.verified_reads import check_read
from tests.simulation.options import Count, Share, WorkloadOptions
from tests.simulation.workloads.choose import StepChooser
from tests.simulation.workloads.observe import (
    ROOT_USER,
    adopt,
    exists,
    read_tree,
)
from tests.simulation.workloads.steps import (
    Chmod,
    Create,
    Link,
    Mkdir,
    RemoveXattr,
    Rename,
    Rmdir,
    SetXattr,
    Symlink,
    Truncate,
    Unlink,
)
from tests.simulation.workloads.tree import RENAME_EXCHANGE, Node, Tree
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.core.namespace.records import Inode
    from tests.simulation.workloads.steps import Path, Step
    from tests.simulation.workloads.workload import Site

OPEN_FILES_MAX = 6
SYNCED_STEP_SHARE = 0.2
"""Changes of names after which an open file is synced, with whatever was done before (I3)."""


class WriterOptions(WorkloadOptions):
    """The table `workloads.writer`."""

    shared_share: Share = 0.15
    """Share of writes whose bytes are one of a few that everybody writes."""
    replace_weight: Count = 2
    """How often a file is written and renamed over another, beside 45 actions of other kinds."""
    closed_share: Share = 0.0
    """Of those files, how many are closed before the rename: nobody but the rename flushes them."""


def make_writers(site: Site, options: WriterOptions) -> list[Writer]:
    """One client's, each for a directory of its own."""
    letters = "abcdefgh"[: options.per_client]
    return [Writer(site, f"w{site.client_number}{letter}", options) for letter in letters]


class Writer(Stepper):
    """A writer and its model. Outlives the clients that it works through."""

    def __init__(self, site: Site, name: str, options: WriterOptions) -> None:
        super().__init__(site, name, options.pause_s)
        self.quiet = trio.Lock()
        """Held during a step: whoever holds it finds the directory as the model says."""
        self.tree: Tree | None = None
        self._earlier: list[Tree] = []
        """The trees before it, as far as a crash may leave one of them."""
        self._is_synchronous = site.scenario.is_synchronous
        # A client hears late that its session was lost, with all that was not durable.
        self.is_observable = self._is_synchronous or not site.scenario.may_lose_sessions
        self._is_told = False
        """Others must find what the model says: its client lives, or has left nothing undone."""
        self._after: Tree | None = None
        """The tree if the step under way has happened."""
        self._may_lose_sessions = site.scenario.may_lose_sessions
        self._session_id = 0
        self._chooser = StepChooser(self._random, options.shared_share, options.replace_weight)
        self._closed_share = options.closed_share
        self._handles: dict[int, FileHandle] = {}
        self._held: dict[int, FileHandle] = {}
        """Those that were open when the session was not lost yet."""
        self._orphans: dict[int, Node] = {}
        """Files without a name that are still open, by inode number."""

    async def run(self, client: Client) -> None:
        """Work until told to stop; then everything is closed, and so it is durable."""
        self._session_id = client.session_id
        self._handles.clear()
        try:
            await self._try(client, self._recover)
            self._is_told = True
            await self._work(client)
        except BaseException:
            self._is_told = self._is_synchronous
            raise

    async def _work(self, client: Client) -> None:
        while not self.is_stopping:
            await self._think()
            await self._try(client, self._act)
            self._count_step()
        while self._handles:
            await self._try(client, self._close_one)
        await self._try(client, self._sync_all)

    async def _try(self, client: Client, action: Callable[[Client], Awaitable[None]]) -> None:
        """Do it; if the session was lost meanwhile, begin again with what is there (I7)."""
        async with self.quiet:
            if client.session_id == self._session_id:
                try:
                    await action(client)
                except (DfsError, Violation) as error:
                    if self._is_late_news(client, error):
                        return
                    if not await self._has_lost_session(client):
                        raise
                    self._note(f"the session was lost: {error}")
                else:
                    if client.session_id == self._session_id:
                        self._held = dict(self._handles)
                    return
            else:
                await self._ask_for_losses(client)
            if not self._may_lose_sessions:
                raise Violation(f"{self.name}: session {self._session_id} was lost")
            await self._resume(client)

    def _is_late_news(self, client: Client, error: Exception) -> bool:
        """A step was not done, because nobody had been told yet what the session before lost."""
        is_late = isinstance(error, Fenced) and client.session_id == self._session_id
        if is_late and self._may_lose_sessions:
            self._note(f"not done: {error}")
            self._after = None
            return True
        return False

    async def _has_lost_session(self, client: Client) -> bool:
        """A read that names no session may find a file gone before the client hears why."""
        if self._may_lose_sessions and client.session_id == self._session_id:
            await trio.sleep(KEEP_ALIVE_S + CALL_TIMEOUT_S)
        return bool(client.session_id != self._session_id)

    async def _resume(self, client: Client) -> None:
        """A lost session is a crash that the client survives: what it owed is gone (I5, I7)."""
        while client.session_id != self._session_id:
            for handle in self._handles.values():
                await client.release(handle)
            self._handles.clear()
            await client.statfs()
            self._session_id = client.session_id
            try:
                await self._recover(client)
            except (DfsError, Violation):
                if client.session_id == self._session_id:
                    raise

    async def _ask_for_losses(self, client: Client) -> None:
        """The session was lost and nobody has been told: fsync must say of which files data is
        lost, and by every handle that other changes are. Else nothing is (I3, I7)."""
        for ino, handle in self._handles.items():
            node = self._files().get(ino)
            try:
                await client.fsync(handle)
            except DfsError as error:
                self._note(f"lost data of {ino}: {error}")
            else:
                if node is not None:
                    node.sync()
                if self._held.get(ino) is handle:
                    self._earlier.clear()

    # ------------------------------------------------------------ after a crash

    async def _recover(self, client: Client) -> None:
        """Find the directory as the last client left it, and go on from there."""
        assert not self._handles
        self._orphans.clear()
        if self.tree is None:
            await self._begin(client)
            return
        found = await read_tree(client, self.tree.root.ino)
        after = [self._after] if self._after is not None else []
        tree, problem = find_prefix([*self._earlier, self.tree, *after], found)
        if tree is None:
            raise Violation(f"{self.name} after a crash: {problem}")
        if tree in self._earlier:
            self._note(f"{len(self._earlier) - self._earlier.index(tree)} steps are gone")
        self.tree = tree
        self._earlier.clear()
        self._after = None
        adopt(self.tree, found)
        self._note(f"recovers {len(found)} paths")

    async def _begin(self, client: Client) -> None:
        name = self.name.encode()
        found = await exists(client, ROOT, name)
        if found is None:
            found = await client.mkdir(ROOT, name, 0o755, ROOT_USER)
        self.tree = Tree(found.ino)

    # ------------------------------------------------------------ steps

    async def _act(self, client: Client) -> None:
        assert self.tree is not None
        action = self._chooser.action()
        files = self._files()
        if action == "step" or not files:
            await self._do(client, self._chooser.step(self.tree))
            if self._handles and self._random.random() < SYNCED_STEP_SHARE:
                ino = self._random.choice(list(self._handles))
                await self._sync(client, ino, self._files()[ino])
            return
        ino = self._random.choice(list(files))
        if action == "write":
            await self._write(client, ino, files[ino])
        elif action == "read":
            await self._read(client, ino, files[ino])
        elif action == "fragment":
            await self._fragment(client, ino, files[ino])
        elif action == "replace":
            await self._replace(client)
        elif ino in self._handles:
            await self._close(client, ino)

    def _files(self) -> dict[int, Node]:
        """Every file that can be written or read now, by inode number."""
        assert self.tree is not None
        named = {node.ino: node for _, node in self.tree.walk() if node.is_file}
        return {**named, **self._orphans}

    async def _do(self, client: Client, step: Step) -> None:
        """One change of the namespace, which must be answered as the model says."""
        assert self.tree is not None
        after = self.tree.copy()
        expected = after.apply(step)
        self._after = after if expected == 0 else None
        self._note(f"{step} …")
        inode: Inode | None = None
        found = 0
        try:
            inode = await _perform(client, self.tree, step, self._handles)
        except FsError as error:
            found = error.errno
        if found != expected:
            raise Violation(f"{self.name}: {step}: {_name(found)}, expected {_name(expected)}")
        self._note(f"{step}: {_name(found)}")
        if expected == 0:
            self._check_committed(step)
            self._settle(after, step, inode)
        self._after = None

    def _settle(self, after: Tree, step: Step, inode: Inode | None) -> None:
        """The step has happened: the tree after it is the tree."""
        assert self.tree is not None
        before = {node.ino: node for _, node in self.tree.walk() if node.is_file}
        if not self._is_synchronous:
            self._earlier.append(self.tree)
        self.tree = after
        if isinstance(step, Create | Mkdir | Symlink):
            assert inode is not None
            node = after.find(step.path)
            assert node is not None
            node.ino = inode.ino
            assert stat.S_IFMT(inode.mode) == stat.S_IFMT(node.mode)
        named = {node.ino for _, node in after.walk()}
        for ino, node in before.items():
            if ino not in named and ino in self._handles:
                self._orphans[ino] = node

    # ------------------------------------------------------------ bytes

    async def _open(self, client: Client, ino: int) -> FileHandle:
        if ino not in self._handles:
            while len(self._handles) >= OPEN_FILES_MAX:
                await self._close_one(client)
            self._handles[ino] = await client.open(InodeId(ino), os.O_RDWR, ROOT_USER)
        return self._handles[ino]

    async def _write(self, client: Client, ino: int, node: Node) -> None:
        handle = await self._open(client, ino)
        for offset, data in self._chooser.writes(len(node.content)):
            node.write(offset, data)
            self._note(f"writes {ino} at {offset}: {len(data)} B")
            await self._put(client, handle, node, offset, data)
        if self._random.random() < 0.5:
            await self._sync(client, ino, node)

    async def _fragment(self, client: Client, ino: int, node: Node) -> None:
        """Tear a file into so many extents that removing them takes several steps."""
        handle = await self._open(client, ino)
        fragments = self._chooser.fragments()
        node.write_all(fragments)
        self._note(f"writes {ino} in {len(fragments)} fragments")
        for offset, data in fragments:
            await self._put(client, handle, node, offset, data)

    async def _put(
        self, client: Client, handle: FileHandle, node: Node, offset: int, data: bytes
    ) -> None:
        """Write what the model has already: if the client dies meanwhile it may be there."""
        try:
            written = await client.write(handle, offset, data)
        except Fenced:
            if client.session_id == self._session_id:
                node.unwrite()  # late news: see `_try`
            raise
        assert written == len(data), f"{written} of {len(data)} bytes written"

    async def _sync(self, client: Client, ino: int, node: Node) -> None:
        handle = self._handles[ino]
        how = self._random.choice(("fsync", "flush", "sync"))
        if how == "fsync":
            await client.fsync(handle)
        elif how == "flush":
            await client.flush(handle)
        else:
            await client.sync()
        if how == "flush" and not self._is_synchronous:
            node.is_told = True
            self._note(f"flush of {ino}: others see {len(node.content)} B")
            return
        self._earlier.clear()
        self._check_clean(handle, how)
        node.sync()
        self._note(f"{how} of {ino}: {len(node.content)} B are safe")

    async def _sync_all(self, client: Client) -> None:
        await client.sync()
        self._earlier.clear()

    def _check_committed(self, step: Step) -> None:
        """What was written to a file is committed before its rename or link (I5)."""
        assert self.tree is not None
        paths = [step.source] if isinstance(step, Link) else []
        if isinstance(step, Rename):
            paths = [step.path, step.new_path] if step.flags & RENAME_EXCHANGE else [step.path]
        for node in map(self.tree.find, paths):
            if node is not None and node.ino in self._handles:
                self._check_clean(self._handles[node.ino], str(step))

    def _check_clean(self, handle: FileHandle, how: str) -> None:
        """Nobody else writes the file: when it is durable nothing of it is dirty (I3, I5). A crash
        would show it only in the next few milliseconds."""
        file = getattr(handle, "file", None)  # a handle of the kernel does not tell
        if file is not None and file.dirty.byte_count:
            raise Violation(f"{self.name}: {how} of {file.ino} left dirty bytes (I3)")

    async def _read(self, client: Client, ino: int, node: Node) -> None:
        handle = await self._open(client, ino)
        offset, length = self._chooser.range_of(len(node.content))
        found = bytes(await client.read(handle, offset, length))
        expected = node.content[offset : offset + length]
        self._note(f"reads {ino} at {offset}: {len(found)} B")
        problem = check_read(expected, found)
        if problem:
            raise Violation(f"{self.name}: inode {ino}, {problem}")
        inode = await client.getattr(InodeId(ino))
        if (inode.size, inode.mode) != (len(node.content), node.mode):
            found = f"size {inode.size} and mode {inode.mode:o}"
            raise Violation(
                f"{self.name}: inode {ino} has {found}, not {len(node.content)}, {node.mode:o}"
            )

    async def _close_one(self, client: Client) -> None:
        await self._close(client, next(iter(self._handles)))

    async def _close(self, client: Client, ino: int) -> None:
        handle = self._handles[ino]
        await client.flush(handle)
        node = self._files().get(ino)
        if self._is_synchronous:
            self._check_clean(handle, "close")
            if node is not None:
                node.sync()
        elif node is not None:
            node.is_told = True
        del self._handles[ino]
        self._orphans.pop(ino, None)
        await client.release(handle)
        self._note(f"closed {ino}")

    async def _replace(self, client: Client) -> None:
        """Write a new file and rename it over another, with no sync in between (I5)."""
        assert self.tree is not None
        create, rename = self._chooser.replacement(self.tree)
        await self._do(client, create)
        node = self.tree.find(create.path)
        if node is None or not node.is_file or node.ino not in self._handles:
            return
        for offset, data in self._chooser.writes(0):
            node.write(offset, data)
            await self._put(client, self._handles[node.ino], node, offset, data)
        if self._closed_share and self._random.random() < self._closed_share:
            await self._close_unflushed(client, node.ino)
        await self._do(client, rename)

    async def _close_unflushed(self, client: Client, ino: int) -> None:
        """Whoever closes so has asked nobody whether what was written is lost already: a rename can
        tell only what is lost from its beginning on."""
        if client.session_id == self._session_id:
            await client.release(self._handles.pop(ino))

    # ------------------------------------------------------------ seen by others

    async def check_seen_by(self, client: Client) -> None:
        """Another client must find the same (I4). The writer rests meanwhile."""
        async with self.quiet:
            if self.tree is None or self._after is not None or not self._is_told:
                return
            found = await read_tree(client, self.tree.root.ino)
            problem = check_coherence(self.tree, found)
            if problem and self._is_told:  # its client did not die meanwhile
                raise Violation(f"{self.name} as others see it: {problem}")
        self._note(f"others see its {len(found)} paths")


async def _perform(
    client: Client, tree: Tree, step: Step, handles: dict[int, FileHandle]
) -> Inode | None:
    """Ask the client for it. Raises FsError."""
    parent, name = _place(tree, step.path)
    if isinstance(step, Create):
        mode = stat.S_IFREG | step.mode
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        handle, inode = await client.create(parent, name, mode, ROOT_USER, flags=flags)
        handles[inode.ino] = handle
        return inode
    if isinstance(step, Mkdir):
        return await client.mkdir(parent, name, step.mode, ROOT_USER)
    if isinstance(step, Symlink):
        return await client.symlink(parent, name, step.target, ROOT_USER)
    if isinstance(step, Link):
        return await client.link(_ino(tree, step.source), parent, name, ROOT_USER)
    if isinstance(step, Unlink):
        await client.unlink(parent, name, ROOT_USER)
    elif isinstance(step, Rmdir):
        await client.rmdir(parent, name, ROOT_USER)
    elif isinstance(step, Rename):
        new_parent, new_name = _place(tree, step.new_path)
        await client.rename(parent, name, new_parent, new_name, step.flags, ROOT_USER)
    else:
        await _perform_on_inode(client, _ino(tree, step.path), step)
    return None


async def _perform_on_inode(client: Client, ino: InodeId, step: Step) -> None:
    if isinstance(step, Chmod):
        await client.setattr(ino, ROOT_USER, mode=step.mode)
    elif isinstance(step, Truncate):
        await client.setattr(ino, ROOT_USER, size=step.size)
    elif isinstance(step, SetXattr):
        await client.setxattr(ino, step.name, step.value, 0, ROOT_USER)
    else:
        assert isinstance(step, RemoveXattr)
        await client.removexattr(ino, step.name, ROOT_USER)


def _place(tree: Tree, path: Path) -> tuple[InodeId, bytes]:
    parent, name, _ = tree.place(path)
    return InodeId(parent.ino), name


def _ino(tree: Tree, path: Path) -> InodeId:
    node = tree.find(path)
    assert node is not None
    return InodeId(node.ino)


def _name(number: int) -> str:
    return "ok" if number == 0 else errno.errorcode.get(number, str(number))
