"""One request → one reply. No socket in sight: a link is only a number here.

What must keep the order of arrival (taking ops, registering and dropping holds) happens before the
first await of its handler.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import trio

from dfs.core.messages import (
    NO_SESSION,
    AnswerRecalls,
    ApplyOps,
    ApplyReply,
    CloseSession,
    DirectoryEntry,
    DirectoryReply,
    Done,
    ExportRecords,
    ExtentsReply,
    GetAttr,
    GetRecords,
    GetStatus,
    GetXattr,
    InodeRangeReply,
    InodeReply,
    KeepAlive,
    KeepAliveReply,
    ListXattrs,
    Lookup,
    MetaReply,
    MetaRequest,
    Open,
    OpenReply,
    OpenSession,
    ReadDirectory,
    ReadExtents,
    RecordsReply,
    Release,
    RepairRecords,
    ReportReply,
    ReportServer,
    SessionReply,
    StatFs,
    StatFsReply,
    StatusReply,
    TakeInodeRange,
    XattrNamesReply,
    XattrReply,
)
from dfs.core.namespace.directories import read_directory, seek
from dfs.core.namespace.extents import extents_touching
from dfs.core.namespace.inodes import get_inode
from dfs.core.namespace.keys import COUNTERS_KEY, GARBAGE, dentry_range, inode_key, table_range
from dfs.core.namespace.records import Counters, Dentry, Inode
from dfs.core.namespace.shape import INO_MAX
from dfs.core.namespace.view import ScanRange
from dfs.core.namespace.xattrs import get_xattr, list_xattrs
from dfs.errors import FsError, WrongCluster
from dfs.limits import (
    ENGINE_KEY_BYTES_MAX,
    EXTENTS_PER_REPLY_MAX,
    FILE_BYTES_MAX,
    MIB,
    NAME_BYTES_MAX,
    PACKET_HEADER_BYTES_MAX,
    READDIR_ENTRIES_MAX,
    SCAN_RECORDS_MAX,
)
from dfs.meta.reading import Reader
from dfs.meta.repairs import repair
from dfs.version import version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from dfs.core.namespace.records import Extent
    from dfs.core.namespace.view import View
    from dfs.core.sessions import Holds
    from dfs.engine.api import Engine
    from dfs.environment import Environment
    from dfs.meta.cluster import Cluster
    from dfs.meta.committer import Committer
    from dfs.meta.deletions import Deletions
    from dfs.meta.exports import Exports
    from dfs.meta.reaper import Reaper
    from dfs.meta.recalls import Recalls
    from dfs.meta.record_store import RecordStore
    from dfs.meta.sessions import LinkLike, Session, Sessions
    from dfs.types import InodeId, SessionId, VolumeSettings

GARBAGE_COUNTED_MAX: Final = 100_000
"""A status does not count further than this."""
GET_RECORDS_BYTES_MAX: Final = PACKET_HEADER_BYTES_MAX - MIB


class Handlers:
    """Answers every request of the metadata service."""

    def __init__(
        self,
        environment: Environment,
        engine: Engine,
        *,
        settings: VolumeSettings,
        session_ttl_s: float,
        store: RecordStore,
        committer: Committer,
        sessions: Sessions,
        holds: Holds,
        reaper: Reaper,
        cluster: Cluster,
        deletions: Deletions,
        exports: Exports,
        recalls: Recalls,
    ) -> None:
        self._run_blocking = environment.run_blocking
        self._fault_point = environment.fault_point
        self._engine = engine
        self._settings = settings
        self._session_ttl_s = session_ttl_s
        self._store = store
        self._committer = committer
        self._sessions = sessions
        self._holds = holds
        self._reaper = reaper
        self._cluster = cluster
        self._deletions = deletions
        self._exports = exports
        self._recalls = recalls
        self._started_s = trio.current_time()
        self._by_type: dict[type, Callable[[Any, LinkLike], Awaitable[MetaReply]]] = {
            OpenSession: self._open_session,
            KeepAlive: self._keep_alive,
            AnswerRecalls: self._answer_recalls,
            CloseSession: self._close_session,
            TakeInodeRange: self._take_inode_range,
            ApplyOps: self._apply_ops,
            Lookup: self._lookup,
            GetAttr: self._get_attr,
            Open: self._open,
            Release: self._release,
            ReadExtents: self._read_extents,
            ReadDirectory: self._read_directory,
            GetXattr: self._get_xattr,
            ListXattrs: self._list_xattrs,
            StatFs: self._stat_fs,
            ReportServer: self._report_server,
            GetStatus: self._get_status,
            ExportRecords: self._export_records,
            GetRecords: self._get_records,
            RepairRecords: self._repair_records,
        }

    async def handle(self, request: MetaRequest, payload: object, link: LinkLike) -> MetaReply:
        """The reply. Raises the DfsErrors that the message's docstring names."""
        return await self._by_type[type(request)](request, link)

    # ------------------------------------------------------------ sessions

    async def _open_session(self, request: OpenSession, link: LinkLike) -> SessionReply:
        if request.cluster_id not in ("", self._settings.cluster_id):
            raise WrongCluster(
                f"this is cluster {self._settings.cluster_id}, not {request.cluster_id}"
            )
        for ino in request.held:
            _check_ino(ino)
        session, record = await self._sessions.open(request, link)
        return SessionReply(
            session_id=session.session_id,
            last_op=session.stream.numbers.told,
            first_ino=record.first_ino,
            end_ino=record.end_ino,
            settings=self._settings,
            cluster_map=self._cluster.cluster_map,
            session_ttl_s=self._session_ttl_s,
            delete_number=self._deletions.number,
        )

    async def _keep_alive(self, request: KeepAlive, link: LinkLike) -> KeepAliveReply:
        session = self._sessions.of(request.session_id, link)
        self._sessions.release(session, request.releases)
        self._hold(session, request.holds)
        self._recalls.leases.give_back(session.session_id, request.given_back)
        patience_s = min(request.wait_s, self._session_ttl_s / 4)
        recalls = await self._recalls.wait(session.session_id, patience_s)
        newest = self._cluster.cluster_map
        return KeepAliveReply(
            cluster_map=newest if newest.map_epoch != request.map_epoch else None,
            delete_number=self._deletions.number,
            recalls=recalls,
        )

    async def _answer_recalls(self, request: AnswerRecalls, link: LinkLike) -> Done:
        session = self._sessions.of(request.session_id, link)
        self._hold(session, request.holds)
        self._recalls.answer(session.session_id, request.numbers)
        return Done()

    def _hold(self, session: Session, inos: Iterable[InodeId]) -> None:
        """The session has these open, and leased until now: so they are what they were."""
        for ino in inos:
            _check_ino(ino)
            self._holds.add(session.session_id, ino)

    async def _close_session(self, request: CloseSession, link: LinkLike) -> Done:
        await self._sessions.close(request.session_id, link)
        return Done()

    async def _take_inode_range(self, request: TakeInodeRange, link: LinkLike) -> InodeRangeReply:
        session = self._sessions.of(request.session_id, link)
        record = await self._sessions.take_range(session)
        return InodeRangeReply(first_ino=record.first_ino, end_ino=record.end_ino)

    # ------------------------------------------------------------ changes

    async def _apply_ops(self, request: ApplyOps, link: LinkLike) -> ApplyReply:
        session = self._sessions.of(request.session_id, link)
        self._hold(session, request.holds)
        self._recalls.leases.give_back(session.session_id, request.given_back)
        answers = session.stream.submit(request.ops, request.answered_below)
        outcomes = tuple([await answer() for answer in answers])
        await self._fault_point("ops are durable, the answer is not sent")
        # Only with the outcomes: a client that is told to send all this again still holds them.
        if session.link_number == link.number:
            self._sessions.release(session, request.releases)
        exclusive = await self._committer.read(
            lambda view: _inodes(view, session.stream.exclusive_since(request.ops))
        )
        upgraded = self._recalls.upgrade(session.session_id, request.wanted)
        return ApplyReply(outcomes=outcomes, exclusive=exclusive, upgraded=upgraded)

    async def _release(self, request: Release, link: LinkLike) -> Done:
        self._sessions.release(self._sessions.of(request.session_id, link), request.inos)
        return Done()

    # ------------------------------------------------------------ reads

    def _reader(self, link: LinkLike, lessee: SessionId = NO_SESSION) -> Reader:
        return Reader(self._sessions, self._recalls, link, lessee)

    async def _lookup(self, request: Lookup, link: LinkLike) -> InodeReply:
        reader = self._reader(link, request.session_id)
        _check_ino(request.parent)

        def look(view: View) -> InodeReply:
            inode = seek(view, request.parent, request.name)
            seen = [get_inode(view, request.parent), *((inode,) if inode is not None else ())]
            (is_entry_leased, *is_leased), exclusive = reader.lease_entries(seen)
            if inode is None and not is_entry_leased:
                raise FsError(errno.ENOENT)
            return InodeReply(
                inode=inode,
                is_leased=any(is_leased),
                is_entry_leased=is_entry_leased,
                is_exclusive=bool(exclusive),
            )

        return await reader.read(self._committer, look)

    async def _get_attr(self, request: GetAttr, link: LinkLike) -> InodeReply:
        reader = self._reader(link, request.session_id)
        _check_ino(request.ino)

        def look(view: View) -> InodeReply:
            inode = get_inode(view, request.ino)
            [is_leased] = reader.lease([inode])
            return InodeReply(inode=inode, is_leased=is_leased)

        return await reader.read(self._committer, look)

    async def _open(self, request: Open, link: LinkLike) -> OpenReply:
        """Holding comes first: an unlink that arrives later finds the inode held."""
        session = self._sessions.of(request.session_id, link)
        reader = self._reader(link)
        _check_ino(request.ino)
        if self._reaper.is_doomed(request.ino):
            await self._committer.read(lambda view: _require_name(view, request.ino))
        is_first = self._holds.add(session.session_id, request.ino)

        def look(view: View) -> tuple[Inode, list[Extent]]:
            reader.see(request.ino)
            return _file(view, request)

        try:
            inode, extents = await reader.read(self._committer, look)
        except FsError:
            if is_first:
                self._sessions.release(session, (request.ino,))
            raise
        is_complete = len(extents) <= EXTENTS_PER_REPLY_MAX
        kept = tuple(extents[:EXTENTS_PER_REPLY_MAX])
        return OpenReply(inode=inode, extents=kept, is_complete=is_complete)

    async def _read_extents(self, request: ReadExtents, link: LinkLike) -> ExtentsReply:
        reader = self._reader(link)
        _check_ino(request.ino)
        if not 0 <= request.start <= request.end <= FILE_BYTES_MAX:
            raise FsError(errno.EINVAL, f"the range {request.start} … {request.end}")

        def look(view: View) -> tuple[Inode, list[Extent]]:
            reader.see(request.ino)
            return _extents(view, request)

        inode, extents = await reader.read(self._committer, look)
        end = request.end
        if len(extents) > EXTENTS_PER_REPLY_MAX:
            end = extents[EXTENTS_PER_REPLY_MAX].offset
        kept = tuple(extents[:EXTENTS_PER_REPLY_MAX])
        return ExtentsReply(inode=inode, extents=kept, end=end)

    async def _read_directory(self, request: ReadDirectory, link: LinkLike) -> DirectoryReply:
        reader = self._reader(link, request.session_id)
        _check_ino(request.ino)
        if len(request.after) > NAME_BYTES_MAX or request.limit < 1:
            raise FsError(errno.EINVAL)

        def look(view: View) -> DirectoryReply:
            directory = get_inode(view, request.ino)
            entries, is_last = _entries(view, request)
            seen = [directory, *(entry.inode for entry in entries)]
            leased, exclusive = reader.lease_entries(seen)
            return DirectoryReply(
                entries=entries, is_last=is_last, is_leased=all(leased), exclusive=exclusive
            )

        return await reader.read(self._committer, look)

    async def _get_xattr(self, request: GetXattr, link: LinkLike) -> XattrReply:
        reader = self._reader(link)
        _check_ino(request.ino)

        def look(view: View) -> bytes:
            reader.see(request.ino)
            return get_xattr(view, request.ino, request.name)

        return XattrReply(value=await reader.read(self._committer, look))

    async def _list_xattrs(self, request: ListXattrs, link: LinkLike) -> XattrNamesReply:
        reader = self._reader(link)
        _check_ino(request.ino)

        def look(view: View) -> tuple[bytes, ...]:
            reader.see(request.ino)
            return tuple(list_xattrs(view, request.ino))

        return XattrNamesReply(names=await reader.read(self._committer, look))

    async def _stat_fs(self, request: StatFs, link: LinkLike) -> StatFsReply:
        counters = await self._committer.read(_counters)
        return StatFsReply(
            inode_count=counters.inode_count,
            stored_bytes=counters.stored_bytes,
            space=self._cluster.space(),
        )

    # ------------------------------------------------------------ operators

    async def _report_server(self, request: ReportServer, link: LinkLike) -> ReportReply:
        self._cluster.report(request)
        return ReportReply(
            cluster_id=self._settings.cluster_id, cluster_map=self._cluster.cluster_map
        )

    async def _get_status(self, request: GetStatus, link: LinkLike) -> StatusReply:
        counters = await self._committer.read(_counters)
        garbage_count = await self._run_blocking(_count_garbage, self._engine)
        return StatusReply(
            settings=self._settings,
            cluster_map=self._cluster.cluster_map,
            servers=self._cluster.status(),
            sessions=self._sessions.status(),
            inode_count=counters.inode_count,
            stored_bytes=counters.stored_bytes,
            orphan_count=self._reaper.orphan_count,
            garbage_count=garbage_count,
            version=version(),
            uptime_s=trio.current_time() - self._started_s,
        )

    async def _export_records(self, request: ExportRecords, link: LinkLike) -> RecordsReply:
        export_id = request.export_id
        held = self._holds.all_held() if export_id == 0 else ()
        if export_id == 0:
            export_id = await self._exports.begin()
        rows = await self._exports.next_page(export_id)
        return RecordsReply(export_id=export_id, rows=tuple(rows), held=held)

    async def _get_records(self, request: GetRecords, link: LinkLike) -> RecordsReply:
        _check_keys(request.keys)
        values = await self._run_blocking(self._engine.get, request.keys)
        found = zip(request.keys, values, strict=True)
        rows = tuple((key, value) for key, value in found if value is not None)
        if sum(len(value) for _, value in rows) > GET_RECORDS_BYTES_MAX:
            raise FsError(errno.E2BIG, "too much for one reply: ask for fewer")
        return RecordsReply(export_id=0, rows=rows)

    async def _repair_records(self, request: RepairRecords, link: LinkLike) -> Done:
        _check_keys([*request.puts, *request.checks])
        await repair(request, self._store, self._committer, self._recalls)
        return Done()


def _check_keys(keys: Sequence[bytes]) -> None:
    """Refuses keys that no engine takes."""
    is_short = all(0 < len(key) <= ENGINE_KEY_BYTES_MAX for key in keys)
    if not is_short or not 0 < len(keys) <= SCAN_RECORDS_MAX:
        raise FsError(errno.EINVAL, f"{len(keys)} keys in one request, or one is too long")


def _check_ino(ino: int) -> None:
    """Refuses what cannot be an inode number; inside, that would be our bug."""
    if not 0 < ino <= INO_MAX:
        raise FsError(errno.ESTALE, f"inode {ino} cannot be")


def _require_name(view: View, ino: InodeId) -> None:
    """Raises FsError(ESTALE) for an orphan."""
    if get_inode(view, ino).nlink == 0:
        raise FsError(errno.ESTALE, f"inode {ino} is gone")


def _inodes(view: View, inos: Iterable[InodeId]) -> tuple[Inode, ...]:
    inodes = (view.get(inode_key(ino), Inode) for ino in inos)
    return tuple(inode for inode in inodes if inode is not None)


def _file(view: View, request: Open) -> tuple[Inode, list[Extent]]:
    inode = get_inode(view, request.ino)
    if not inode.is_file or not inode.stored_bytes:
        return inode, []
    limit = EXTENTS_PER_REPLY_MAX + 1
    return inode, extents_touching(view, request.ino, 0, FILE_BYTES_MAX, limit)


def _extents(view: View, request: ReadExtents) -> tuple[Inode, list[Extent]]:
    inode = get_inode(view, request.ino)
    limit = EXTENTS_PER_REPLY_MAX + 1
    return inode, extents_touching(view, request.ino, request.start, request.end, limit)


def _entries(view: View, request: ReadDirectory) -> tuple[tuple[DirectoryEntry, ...], bool]:
    limit = min(request.limit, READDIR_ENTRIES_MAX)
    found = read_directory(view, request.ino, request.after, limit)
    entries = tuple(DirectoryEntry(name, inode) for name, inode in found)
    last = found[-1][0] if found else request.after
    # Looked up, not concluded from the count: damaged entries are left out of it.
    return entries, not view.scan(ScanRange(*dentry_range(request.ino, last), 1), Dentry)


def _counters(view: View) -> Counters:
    counters = view.get(COUNTERS_KEY, Counters)
    assert counters is not None, "a volume has its counters"
    return counters


def _count_garbage(engine: Engine) -> int:
    start, end = table_range(GARBAGE)
    count = 0
    while count < GARBAGE_COUNTED_MAX:
        rows = engine.scan(start, end, SCAN_RECORDS_MAX)
        count += len(rows)
        if len(rows) < SCAN_RECORDS_MAX:
            break
        start = rows[-1][0] + b"\0"
    return count
