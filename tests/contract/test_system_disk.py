"""The real disk keeps the contract, also on a filesystem that is full."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from dfs.chunk.disk import SystemDisk
from tests.contract.disk_contract import DiskContract, FullDiskContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dfs.chunk.disk import Disk


class TestSystemDisk(DiskContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"

    def opened(self) -> Disk:
        return SystemDisk(str(self.root))

    def test_kernels_without_uncached_writes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        written = os.pwritev

        def old_kernel(descriptor: int, buffers: object, offset: int, flags: int = 0) -> int:
            if flags:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return written(descriptor, buffers, offset)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "pwritev", old_kernel)
        disk = self.opened()
        for offset in (0, 2 << 20):
            disk.write_at("a", offset, [b"x" * (2 << 20)])
        assert disk.size("a") == 4 << 20
        disk.close()

    def test_short_writes_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            os, "pwritev", lambda fd, buffers, at, *_: os.pwrite(fd, buffers[0][:7], at)
        )
        disk = self.opened()
        disk.write_at("a", 0, [b"0123456789" * 3, b"abc", b"defghijklmn"])
        assert disk.read_at("a", 0, 99) == b"0123456789" * 3 + b"abcdefghijklmn"
        disk.close()

    def test_closed_files_are_closed(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        disk = self.opened()
        for number in range(100):
            disk.write_at(f"f{number}", 0, [b"x"])
            disk.sync(f"f{number}")
            disk.read_at(f"f{number}", 0, 1)
        disk.rename("f1", "f2")
        disk.remove("f3")
        assert len(os.listdir("/proc/self/fd")) <= before + 64
        disk.close()
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small filesystem needs root")
class TestFullSystemDisk(FullDiskContract):
    @pytest.fixture(autouse=True)
    def _mounted(self, tmp_path: Path) -> Iterator[None]:
        self.root = tmp_path / "small"
        self.root.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(self.root)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)

    def opened_small(self) -> Disk:
        return SystemDisk(str(self.root))
