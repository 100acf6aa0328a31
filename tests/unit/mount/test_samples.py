"""Goal: looks at stacks are told apart as the page of `dfs profile` says.

Method: real frames of real calls, whose callees look at the stack that they are called from.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from dfs.core import blocks
from dfs.core.blocks import encode_block
from dfs.limits import XATTR_VALUE_BYTES_MAX
from dfs.mount import samples as samples_module
from dfs.mount.fusetap.turns import Turns
from dfs.mount.samples import (
    BLOCK_WORK,
    COMPRESSION,
    FUNCTIONS_SHOWN,
    FUSE_LOOP,
    HASHING,
    IDLE,
    POLLING,
    WAITING,
    Samples,
    loop_part,
    part_of,
)
from tests.unit.mount.fusetap.fake_tap import FakeTap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    import pytest


def caller_of(frame: FrameType) -> FrameType:
    """The innermost frame that is not of this file."""
    inner: FrameType | None = frame
    while inner is not None and inner.f_code.co_filename == __file__:
        inner = inner.f_back
    assert inner is not None
    return inner


class Looking(FakeTap):
    """A tap whose poll looks who polls."""

    def __init__(self, look: Callable[[FrameType], None]) -> None:
        super().__init__()
        self._look = look

    def poll(self) -> int:
        self._look(caller_of(sys._getframe()))
        return self.READY


async def test_a_poll_of_the_tap() -> None:
    parts: list[str] = []
    turns = Turns(Looking(lambda frame: parts.append(loop_part(frame, has_work=False))))  # type: ignore[arg-type]
    async with turns:
        pass
    assert parts == [POLLING]


async def test_the_event_loop_asleep_waits_for_requests_or_for_servers() -> None:
    """Another thread looks, as the sampler does; this task sleeps meanwhile."""
    loop_thread = threading.get_ident()

    def look() -> list[str]:
        while True:
            frame = sys._current_frames()[loop_thread]
            if frame.f_code.co_name == "get_events":
                return [loop_part(frame, has_work=has_work) for has_work in (False, True)]

    assert await trio.to_thread.run_sync(look) == [IDLE, WAITING]


async def test_a_coroutine_without_frames_is_pyfuse3s() -> None:
    """pyfuse3's are written in C; here an awaitable stands for them that looks from its step."""
    found: list[tuple[str, Samples]] = []

    class Step:
        def __await__(self) -> Step:
            return self

        def __iter__(self) -> Step:
            return self

        def __next__(self) -> None:
            # The frame of whoever runs tasks, as if nothing were between it and this.
            frame = sys._getframe()
            while frame.f_code.co_name != "unrolled_run":
                assert frame.f_back is not None
                frame = frame.f_back
            samples = Samples()
            samples.note_loop(frame, has_work=True)
            found.append((loop_part(frame, has_work=True), samples))
            raise StopIteration

    await Step()  # type: ignore[misc]
    [(part, samples)] = found
    assert part == FUSE_LOOP
    report = samples.report(seconds=1, cpu_s=1)
    assert [(one.name, one.own) for one in report.most_own] == [("pyfuse3 and libfuse", 1.0)]


def test_other_libraries_count_for_their_caller() -> None:
    assert part_of(sys._getframe()) == "elsewhere"
    parts: list[str] = []

    class Other(FakeTap):
        def poll(self) -> int:
            parts.append(part_of(sys._getframe()))
            return self.READY

    with contextlib.suppress(StopIteration):
        Turns(Other()).__aenter__().send(None)  # type: ignore[arg-type]
    assert parts == [FUSE_LOOP]
    assert samples_module._part_of_file("/lib/pyfuse3/_pyfuse3.py") == FUSE_LOOP
    assert samples_module._part_of_file(blocks.__file__) == "core"
    assert samples_module._part_of_file(trio.__file__) == "trio"
    assert samples_module._part_of_file(threading.__file__) is None


def test_the_work_on_blocks_is_told_by_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BLOCK_WORK:
        assert callable(getattr(blocks, name)), name
    samples = Samples()

    def looking(name: str) -> None:
        real: Any = getattr(blocks, name)

        def look(*arguments: Any) -> Any:
            samples.note_worker(caller_of(sys._getframe()))
            samples.look_count += 1
            return real(*arguments)

        monkeypatch.setattr(blocks, name, look)

    looking("blake3")
    looking("_smaller")
    encode_block(bytes(1000))
    report = samples.report(seconds=1, cpu_s=1)
    assert report.worker_parts == {HASHING: 0.6667, COMPRESSION: 0.3333}
    assert report.parts == {}
    names = {one.name: one for one in report.most_total}
    assert names["encode_block"].total == 1
    assert names["encode_block"].place.startswith("dfs/core/blocks.py:")


def test_the_report_is_bounded() -> None:
    samples = Samples()
    scope: dict[str, Any] = {"look": lambda: samples.note_loop(sys._getframe(1), has_work=True)}
    for number in range(3 * FUNCTIONS_SHOWN):
        exec(f"def {'f' * 200}{number}(): look()", scope)
        scope[f"{'f' * 200}{number}"]()
    report = samples.report(seconds=60, cpu_s=1)
    assert len(report.most_own) == len(report.most_total) == FUNCTIONS_SHOWN
    assert sum(report.parts.values()) == 1
    assert len(msgspec.json.encode(report)) < XATTR_VALUE_BYTES_MAX / 2


def test_places_begin_at_the_package() -> None:
    assert samples_module._short(blocks.__file__) == "dfs/core/blocks.py"
    assert samples_module._short(trio.__file__) == "trio/__init__.py"
    assert samples_module._short(threading.__file__) == "threading.py"
    assert samples_module._short("<string>") == "<string>"
