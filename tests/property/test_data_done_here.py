"""Goal: data that a client commits and cuts by itself becomes what the server makes of it, and the
client knows the file's content afterwards (I4, I8). Method: random commits and truncations of one
file, in small pieces, some of blocks; what the client knows of its extents comes and goes."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.client.extent_map import ExtentMap
from dfs.client.local_ops import do_here
from dfs.client.record_cache import RecordCache
from dfs.core.namespace.extents import extents_touching
from dfs.core.namespace.ops import CommitData, Piece, SetAttr
from dfs.limits import FILE_BYTES_MAX
from dfs.types import ROOT, BlockId
from tests.property.test_ops_done_here import op_of
from tests.unit.client.leased import Leased
from tests.unit.core.namespace.volume import Volume

if TYPE_CHECKING:
    from dfs.core.namespace.ops import OpResult

SIZE_MAX = 40
BLOCK = BlockId(bytes(range(32)))


class Data(Leased):
    """One file that is a client's alone, and what the client knows of its extents."""

    def __init__(self, random: Random) -> None:
        super().__init__(Volume(), RecordCache())
        self.random = random
        self.ino = self.volume.create(ROOT, b"f").ino
        self.alone(self.ino)
        self.known = ExtentMap(0)
        self.known.learn(0, FILE_BYTES_MAX, ())
        self.done_count = self.asked_count = 0

    def step(self) -> None:
        kind = self.random.random()
        if kind < 0.1:
            self.look()
        elif kind < 0.25:
            self.cut(self.random.randint(0, SIZE_MAX))
        else:
            self.commit(self.pieces())
        self.check()

    def pieces(self) -> tuple[Piece, ...]:
        bounds = sorted(self.random.sample(range(SIZE_MAX), self.random.choice([2, 2, 4])))
        return tuple(self._piece(*bounds[at : at + 2]) for at in range(0, len(bounds), 2))

    def _piece(self, start: int, end: int) -> Piece:
        kind = self.random.random()
        length = end - start
        if kind < 0.1:
            return Piece(start, length)
        if kind < 0.2:
            return Piece(start, length, BLOCK, 0, SIZE_MAX)
        return Piece(start, length, inline=bytes([self.random.randrange(256)]) * length)

    def look(self) -> None:
        """A reader asks for some of what is not known."""
        version = self.volume.inode(self.ino).data_version
        self.known.move_to(version)
        start, end = self.random.choice([(0, FILE_BYTES_MAX), (0, 20), (20, FILE_BYTES_MAX)])
        self.known.learn(start, end, extents_touching(self.volume, self.ino, start, end, 99))

    def commit(self, pieces: tuple[Piece, ...]) -> None:
        op = op_of(self.volume, CommitData, ino=self.ino, pieces=pieces)
        result = self.do(op)
        assert result.inode is not None
        self.known.commit(pieces, result.inode.data_version)

    def cut(self, size: int) -> None:
        result = self.do(op_of(self.volume, SetAttr, ino=self.ino, size=size))
        assert result.inode is not None
        self.known.move_to(result.inode.data_version)

    def do(self, op: CommitData | SetAttr) -> OpResult:  # type: ignore[override]
        done = do_here(self.records, op, lambda ino: self.known if ino == self.ino else None)
        result = self.volume.apply(op)
        if done is None:
            self.asked_count += 1
            self.records.note_exclusive(self.volume.inode(self.ino))
        else:
            self.done_count += 1
            assert done == (result, [self.ino])
            self.records.settle(done[1])
        return result

    def check(self) -> None:
        """What is known reads as it does at the server."""
        content = bytearray(SIZE_MAX)
        for extent in self.volume.extents(self.ino):
            content[extent.offset : extent.end] = extent.inline or b"B" * extent.length
        for start in range(SIZE_MAX):
            if not self.known.unknown(start, start + 1):
                found = self.known.touching(start, start + 1)
                shown = (found[0].inline or b"B") if found else b"\0"
                assert shown == content[start : start + 1], start


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_data_is_committed_here_as_it_is_at_the_server(seed: int, step_count: int) -> None:
    async def play() -> None:
        data = Data(Random(seed))
        for _ in range(step_count):
            data.step()
        data.volume.assert_sound()

    trio.run(play)


async def test_both_ways_are_taken() -> None:
    data = Data(Random(1))
    for _ in range(300):
        data.step()
    assert min(data.done_count, data.asked_count) > 50, (data.done_count, data.asked_count)
