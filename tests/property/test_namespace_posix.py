"""Goal: the core means what Linux means. Method: random commands of several users run through
`apply` over records and through a real local directory; answers, and after every command everything
that a program can see, must be the same, and the records must keep every invariant (I6 among them).
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfs.core.namespace.directories import read_directory
from dfs.core.namespace.records import Xattr
from dfs.errors import FsError
from dfs.types import ROOT, Credentials, InodeId
from tests.property import namespace_commands as commands
from tests.property.local_directory import (
    LocalDirectory,
    Seen,
    Times,
    acting_as,
    has_fine_times,
    look,
    look_at_open,
)
from tests.property.namespace_model import At, Command, Model, Pick, Skip
from tests.unit.core.namespace.volume import ALICE, BOB, ROOT_USER, START_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfs.core.namespace.records import Inode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as several users: needs root")

EXAMPLES = int(os.environ.get("DFS_PROPERTY_EXAMPLES", "150"))
"""More of them, or other ones than every time: DFS_PROPERTY_EXAMPLES=5000."""
IS_EXPLORING = "DFS_PROPERTY_EXAMPLES" in os.environ
PLACES = {"ext4": Path(tempfile.gettempdir()), "tmpfs": Path("/dev/shm")}

CAROL = Credentials(uid=1002, gid=2000)
USERS = (ROOT_USER, ALICE, BOB, CAROL)
IDS = (0, 1000, 1001, 2000, 3000)
FILE_MODES = (0o644, 0o600, 0o666, 0o777, 0o4755, 0o2755, 0o6777, 0o2666, 0o000, 0o7777, 0o2010)
DIRECTORY_MODES = (0o755, 0o777, 0o1777, 0o2777, 0o3777, 0o700, 0o770, 0o711, 0o7777, 0o555)
NODE_TYPES = (stat.S_IFREG, stat.S_IFREG, stat.S_IFREG, 0, stat.S_IFIFO, stat.S_IFSOCK)
DEVICE_TYPES = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, stat.S_IFLNK)
NOW = -1
XATTRS = (
    b"user.a",
    b"user.b",
    b"user.",
    b"user." + b"n" * 250,
    b"user." + b"n" * 251,
    b"trusted.a",
    b"trusted.",
    b"security.a",
    b"security.capability",
    b"system.unknown",
    b"unknown.a",
    b"plain",
)

names = st.sampled_from((b"a", b"b", b"c"))
last_names = st.one_of(names, names, names, st.sampled_from((b"n" * 255, b"n" * 256, b"\xff\x01")))
users = st.sampled_from(USERS)
slots = st.integers(0, 1)
sizes = st.sampled_from((0, 1, 7, 100, 4000, 4095, 4096, 4097, 5000, 9000, 20000))
times = st.sampled_from((None, NOW, 0, 1, 1_000_000_001, 4_000_000_000_123_456_789))


numbers = st.integers(0, 40)
some_slot = st.sampled_from((None, None, None, 0, 1))


def existing(wants: int = 0) -> st.SearchStrategy[Pick]:
    return st.builds(Pick, numbers, st.none(), some_slot, st.just(wants))


raw_paths = st.builds(At, st.none(), st.lists(names, min_size=1, max_size=3).map(tuple))
fresh = st.one_of(st.builds(Pick, numbers, last_names, some_slot), existing(), raw_paths)
anything = st.one_of(existing(), existing(), existing(), fresh)
a_file = st.one_of(existing(stat.S_IFREG), existing(stat.S_IFREG), existing())
a_directory = existing(stat.S_IFDIR)


def _node_modes(types: tuple[int, ...]) -> st.SearchStrategy[int]:
    return st.builds(int.__or__, st.sampled_from(types), st.sampled_from(FILE_MODES))


def _writes() -> st.SearchStrategy[Command]:
    lengths = st.sampled_from((1, 3, 64, 500, 4096, 9000))
    fills = st.integers(0, 5)
    return st.builds(commands.Write, users, slots, sizes, lengths, fills, st.booleans())


file_modes, directory_modes = st.sampled_from(FILE_MODES), st.sampled_from(DIRECTORY_MODES)
some_ids = st.sampled_from((None, *IDS))
xattr_names = st.sampled_from(XATTRS)
xattr_values = st.sampled_from((b"", b"v", b"other", commands.A_CAPABILITY))
xattr_flags = st.sampled_from((0, 0, 0, 1, 2, 3, 4))
root = st.just(ROOT_USER)
any_command: st.SearchStrategy[Command] = st.one_of(
    st.builds(commands.MakeNode, users, fresh, _node_modes(NODE_TYPES), st.just(0)),
    st.builds(commands.MakeNode, users, fresh, _node_modes(DEVICE_TYPES), st.just(0x103)),
    st.builds(commands.OpenOrCreate, users, fresh, file_modes),
    st.builds(commands.MakeDirectory, users, fresh, directory_modes),
    st.builds(commands.MakeSymlink, users, fresh, st.sampled_from((b"", b"t", b"/t" * 9))),
    st.builds(commands.MakeLink, users, a_file, fresh),
    st.builds(commands.RemoveName, users, anything, st.booleans()),
    st.builds(commands.RemoveName, users, a_directory, st.just(True)),
    st.builds(commands.Move, users, anything, fresh, st.sampled_from((0, 0, 0, 1, 2, 3, 8))),
    st.builds(commands.Move, users, existing(), existing(), st.sampled_from((0, 0, 1, 2))),
    st.builds(commands.Move, users, a_directory, a_directory, st.sampled_from((0, 0, 2))),
    st.builds(commands.ChangeMode, users, anything, st.one_of(file_modes, directory_modes)),
    st.builds(commands.ChangeOwner, users, anything, some_ids, some_ids),
    st.builds(commands.SetTimes, users, anything, times, times),
    st.builds(commands.Truncate, users, a_file, sizes),
    st.builds(commands.PutXattr, users, anything, xattr_names, xattr_values, xattr_flags),
    st.builds(commands.DropXattr, users, anything, xattr_names),
    st.builds(commands.ReadXattrs, users, anything, xattr_names),
    st.builds(commands.HoldDirectory, root, a_directory, slots),
    st.builds(commands.HoldFile, st.one_of(root, users), a_file, slots),
    st.builds(commands.LetFileGo, root, slots),
    _writes(),
    _writes(),
    st.builds(commands.ResizeOpen, users, slots, sizes),
    st.builds(commands.CollectGarbage, root),
)
PRELUDE: tuple[Command, ...] = (
    commands.MakeDirectory(ROOT_USER, At(None, (b"a",)), 0o1777),
    commands.MakeDirectory(ALICE, At(None, (b"a", b"b")), 0o777),
    commands.MakeNode(BOB, At(None, (b"a", b"c")), stat.S_IFREG | 0o666, 0),
    commands.MakeDirectory(ROOT_USER, At(None, (b"b",)), 0o777),
    commands.ChangeOwner(ROOT_USER, At(None, (b"b",)), 1000, 2000),
    commands.ChangeMode(ROOT_USER, At(None, (b"b",)), 0o2777),
    commands.MakeNode(ALICE, At(None, (b"b", b"a")), stat.S_IFREG | 0o6777, 0),
    commands.MakeSymlink(BOB, At(None, (b"b", b"c")), b"/t"),
    commands.HoldFile(ROOT_USER, At(None, (b"b", b"a")), 0),
    commands.HoldDirectory(ROOT_USER, At(None, (b"a", b"b")), 0),
)
"""What every sequence starts with: a sticky and a setgid directory, and something open."""


# Left alone, Hypothesis makes lists of about six: too few to build a tree and tear it down.
sequences = st.sampled_from((4, 16, 48, 96)).flatmap(
    lambda count: st.lists(any_command, min_size=count // 2, max_size=count)
)


class Comparison:
    """The two sides, and the times they showed before the last command."""

    def __init__(self, model: Model, local: LocalDirectory, *, shows_changes: bool) -> None:
        self.model = model
        self.local = local
        self.shows_changes = shows_changes
        self.transcript: list[str] = []
        self.times: dict[InodeId, tuple[Times, Times]] = {}
        self.compare_all()

    def run(self, command: Command) -> None:
        command = command.resolved(self.model)
        try:
            expected = _outcome(lambda: command.model(self.model))
        except Skip:
            return
        with acting_as(command.who):
            actual = _outcome(lambda: command.local(self.local))
        self.transcript.append(f"{command}: {actual}")
        assert expected == actual, self._told(f"dfs says {expected}")
        self.model.reclaim()
        self.compare_all()

    def _told(self, what: object) -> str:
        return f"{what}, after:\n" + "\n".join(self.transcript[-20:])

    def compare_all(self) -> None:
        """Everything that can be seen is the same, from the top down and through open files."""
        numbers: dict[InodeId, int] = {}
        volume = self.model.volume
        for names, inode in (((), volume.inode(ROOT)), *self.model.below(ROOT)):
            path = b"/".join((self.local.path, *names))
            seen, real_times, number = look(path)
            assert numbers.setdefault(inode.ino, number) == number, self._told(path)
            self._compare(inode, seen, real_times, path)
        assert len(set(numbers.values())) == len(numbers)
        for slot, ino in self.model.files.items():
            seen, real_times = look_at_open(self.local.files[slot])
            self._compare(volume.inode(ino), seen, real_times, b"open file")

    def _compare(self, inode: Inode, seen: Seen, real_times: Times, path: bytes) -> None:
        assert self._seen(inode) == seen, self._told(path)
        own_times = Times(inode.atime_ns, inode.mtime_ns, inode.ctime_ns)
        old_own, old_real = self.times.get(inode.ino, (own_times, real_times))
        self.times[inode.ino] = (own_times, real_times)
        for field, own, real in zip(Times._fields, own_times, real_times, strict=True):
            # Looking changes a local directory's atime, never a file's (O_NOATIME).
            if field == "atime_ns" and not inode.is_file:
                continue
            if own < START_NS:
                assert own == real, self._told((path, field))
            has_changed = own != getattr(old_own, field)
            is_changed_there = real != getattr(old_real, field)
            if is_changed_there or self.shows_changes:
                assert has_changed == is_changed_there, self._told((path, field))

    def _seen(self, inode: Inode) -> Seen:
        volume = self.model.volume
        names: frozenset[bytes] = frozenset()
        if inode.is_directory:
            rows = read_directory(volume, inode.ino, b"", 1000)
            names = frozenset(name for name, _ in rows)
            assert inode.size == len(names)
        content = volume.read(inode.ino, self.model.blocks) if inode.is_file else b""
        return Seen(
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            nlink=inode.nlink,
            size=0 if inode.is_directory else inode.size,
            rdev=inode.rdev,
            target=inode.target,
            content=content,
            xattrs=_xattrs(self.model, inode),
            names=names,
        )


def _xattrs(model: Model, inode: Inode) -> dict[bytes, bytes]:
    prefix = b"\0\0X" + inode.ino.to_bytes(8, "big")
    rows = model.volume.records.items()
    return {k[11:]: r.value for k, r in rows if k.startswith(prefix) and isinstance(r, Xattr)}


def _outcome(call: object) -> object:
    assert callable(call)
    try:
        return call()
    except (FsError, OSError) as error:
        return f"errno {error.errno}: {os.strerror(error.errno or 0)}"


@pytest.fixture
def _umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize("filesystem", PLACES)
def test_answers_and_effects_are_those_of_linux(filesystem: str) -> None:
    place = PLACES[filesystem]
    if _filesystem_of(place) != filesystem:
        pytest.skip(
            f"{place} is on {_filesystem_of(place)}: there is no {filesystem} to compare with"
        )
    top = Path(tempfile.mkdtemp(prefix="dfs-namespace-", dir=place))
    try:
        top.chmod(0o755)
        # tmpfs copies a victim's coarse time stamp to the directory, which may show it twice.
        shows_changes = filesystem != "tmpfs" and has_fine_times(top)
        count = 0

        @settings(
            max_examples=EXAMPLES,
            derandomize=not IS_EXPLORING,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.sampled_from((0o777, *DIRECTORY_MODES)), sequences)
        def compare(mode: int, steps: list[Command]) -> None:
            nonlocal count
            count += 1
            local = LocalDirectory(top / str(count), mode)
            model = Model(mode)
            try:
                comparison = Comparison(model, local, shows_changes=shows_changes)
                for step in (*PRELUDE, *steps):
                    comparison.run(step)
                model.volume.assert_sound(model.held())
            finally:
                local.close()
                shutil.rmtree(top / str(count))

        compare()
    finally:
        shutil.rmtree(top)


def _filesystem_of(place: Path) -> str:
    """The type of the filesystem that holds an existing directory, as the kernel names it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    real = place.resolve()
    holding = [m for m in mounts if real.is_relative_to(m[1])]
    return max(holding, key=lambda m: len(m[1]))[2] if holding else "nothing"
