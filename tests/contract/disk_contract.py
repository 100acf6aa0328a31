"""What every Disk does, in executable form. What survives a power cut, only simulated disks can
show: `PowerCutContract`."""

from __future__ import annotations

import errno
import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dfs.chunk.disk import Disk


class DiskContract(ABC):
    """Inherit it and say how an empty disk is made, and opened a second time."""

    @abstractmethod
    def opened(self) -> Disk:
        """The same place again; the first time it is empty."""

    def test_what_was_written_is_read(self) -> None:
        disk = self.opened()
        disk.write_at("a", 0, [b"one", bytearray(b"two"), memoryview(b"three")])
        assert disk.read_at("a", 0, 100) == b"onetwothree"
        assert disk.read_at("a", 3, 3) == b"two"
        assert disk.read_at("a", 0, 0) == b""
        assert disk.read_at("a", 11, 5) == b""
        assert disk.read_at("a", 500, 5) == b""
        assert disk.size("a") == 11
        disk.close()

    def test_writes_overwrite_and_extend(self) -> None:
        disk = self.opened()
        disk.write_at("a", 0, [b"0123456789"])
        disk.write_at("a", 8, [b"ABCD"])
        disk.write_at("a", 2, [b"xy"])
        assert disk.read_at("a", 0, 99) == b"01xy4567ABCD"
        disk.write_at("a", 14, [b"end"])
        assert disk.read_at("a", 0, 99) == b"01xy4567ABCD\0\0end"
        disk.close()

    def test_many_and_large_buffers(self) -> None:
        disk = self.opened()
        chooser = random.Random(1)
        small = [chooser.randbytes(chooser.randrange(9)) for _ in range(3000)]
        large = [chooser.randbytes(1 << 20) for _ in range(3)]
        disk.write_at("a", 5, [*small, *large, b""])
        whole = b"".join(small) + b"".join(large)
        assert disk.read_at("a", 5, len(whole) + 1) == whole
        disk.sync("a")
        assert disk.read_at("a", 5 + len(whole) - 10, 99) == whole[-10:]
        disk.close()

    def test_writing_nothing_makes_the_file(self) -> None:
        disk = self.opened()
        disk.write_at("a", 0, [])
        assert disk.size("a") == 0
        assert disk.list() == ["a"]
        disk.close()

    def test_absent_files(self) -> None:
        disk = self.opened()
        for call in (
            lambda: disk.read_at("a", 0, 1),
            lambda: disk.sync("a"),
            lambda: disk.truncate("a", 0),
            lambda: disk.size("a"),
            lambda: disk.remove("a"),
            lambda: disk.rename("a", "b"),
            lambda: disk.list("nowhere"),
        ):
            with pytest.raises(FileNotFoundError):
                call()
        assert disk.list() == []
        disk.close()

    def test_truncate(self) -> None:
        disk = self.opened()
        disk.write_at("a", 0, [b"0123456789"])
        disk.truncate("a", 4)
        assert disk.size("a") == 4
        disk.truncate("a", 6)
        assert disk.read_at("a", 0, 99) == b"0123\0\0"
        disk.write_at("a", 4, [b"x"])
        assert disk.read_at("a", 0, 99) == b"0123x\0"
        disk.close()

    def test_directories_and_lists(self) -> None:
        disk = self.opened()
        disk.make_directory("d")
        disk.make_directory("d")
        disk.write_at("d/2", 0, [b"x"])
        disk.write_at("d/10", 0, [b"x"])
        disk.write_at("top", 0, [b"x"])
        disk.sync_directory("d")
        disk.sync_directory()
        assert disk.list("d") == ["10", "2"]
        assert disk.list() == ["d", "top"]
        disk.close()

    def test_rename_replaces(self) -> None:
        disk = self.opened()
        disk.write_at("old", 0, [b"old content"])
        assert disk.read_at("old", 0, 3) == b"old"
        disk.write_at("new", 0, [b"new"])
        disk.rename("new", "old")
        assert disk.read_at("old", 0, 99) == b"new"
        assert disk.list() == ["old"]
        disk.write_at("old", 3, [b"er"])
        disk.sync("old")
        assert disk.read_at("old", 0, 99) == b"newer"
        disk.close()

    def test_remove(self) -> None:
        disk = self.opened()
        disk.write_at("a", 0, [b"x"])
        assert disk.read_at("a", 0, 1) == b"x"
        disk.remove("a")
        assert disk.list() == []
        with pytest.raises(FileNotFoundError):
            disk.read_at("a", 0, 1)
        disk.write_at("a", 0, [b"second"])
        assert disk.read_at("a", 0, 99) == b"second"
        disk.close()

    def test_more_files_than_are_kept_open(self) -> None:
        disk = self.opened()
        names = [f"f{number}" for number in range(200)]
        for name in names:
            disk.write_at(name, 0, [name.encode()])
        for name in names:
            disk.sync(name)
        for _ in range(2):
            for name in names:
                assert disk.read_at(name, 0, 99) == name.encode()
        assert disk.list() == sorted(names)
        disk.close()

    def test_space(self) -> None:
        disk = self.opened()
        space = disk.space()
        assert 0 < space.free_bytes <= space.capacity_bytes
        disk.close()

    def test_a_lock_is_exclusive_until_closed(self) -> None:
        first, second = self.opened(), self.opened()
        first.lock("lock")
        with pytest.raises(BlockingIOError):
            second.lock("lock")
        first.close()
        second.lock("lock")
        assert "lock" in second.list()
        second.close()

    def test_content_outlives_the_opener(self) -> None:
        first = self.opened()
        first.write_at("a", 0, [b"kept"])
        first.sync("a")
        first.sync_directory()
        first.close()
        first.close()
        second = self.opened()
        assert second.read_at("a", 0, 99) == b"kept"
        second.close()


class FullDiskContract(ABC):
    """For disks that can be made small."""

    @abstractmethod
    def opened_small(self) -> Disk:
        """An empty disk of less than 64 MiB."""

    def test_a_full_disk_says_so(self) -> None:
        disk = self.opened_small()
        free = disk.space().free_bytes
        assert 0 < free < 64 << 20
        with pytest.raises(OSError) as caught:
            disk.write_at("a", 0, [bytes(free + (1 << 20))])
        assert caught.value.errno == errno.ENOSPC
        assert disk.size("a") <= free
        disk.truncate("a", 0)
        disk.write_at("a", 0, [b"fits"])
        disk.sync("a")
        assert disk.read_at("a", 0, 99) == b"fits"
        disk.remove("a")
        disk.close()


class PowerCutContract(ABC):
    """For disks that can lose power."""

    @abstractmethod
    def opened(self) -> Disk:
        """The same place again; the first time it is empty."""

    @abstractmethod
    def cut_power(self) -> None:
        """What was not synced may be gone; `opened` gives the disk as the next process finds it."""

    def test_what_was_synced_survives(self) -> None:
        disk = self.opened()
        disk.make_directory("d")
        disk.write_at("d/a", 0, [b"synced"])
        disk.sync("d/a")
        disk.sync_directory("d")
        disk.sync_directory()
        disk.write_at("d/a", 6, [b" and not"])
        self.cut_power()
        content = self.opened().read_at("d/a", 0, 99)
        assert content.startswith(b"synced")
        kept = content[6:].rstrip(b"\0")
        assert b" and not".startswith(kept)

    def test_a_synced_rename_survives(self) -> None:
        disk = self.opened()
        disk.write_at("new", 0, [b"new"])
        disk.write_at("old", 0, [b"old"])
        disk.sync("new")
        disk.sync("old")
        disk.sync_directory()
        disk.rename("new", "old")
        disk.sync_directory()
        self.cut_power()
        disk = self.opened()
        assert disk.list() == ["old"]
        assert disk.read_at("old", 0, 99) == b"new"

    def test_a_rename_is_atomic(self) -> None:
        for _ in range(10):
            disk = self.opened()
            disk.write_at("new", 0, [b"new"])
            disk.write_at("old", 0, [b"old"])
            disk.sync("new")
            disk.sync("old")
            disk.sync_directory()
            disk.rename("new", "old")
            self.cut_power()
            disk = self.opened()
            assert disk.read_at("old", 0, 99) in (b"old", b"new")
            assert "new" in disk.list() or disk.read_at("old", 0, 99) == b"new"

    def test_a_synced_removal_survives(self) -> None:
        disk = self.opened()
        disk.write_at("a", 0, [b"x"])
        disk.sync("a")
        disk.sync_directory()
        disk.remove("a")
        disk.sync_directory()
        self.cut_power()
        assert self.opened().list() == []
