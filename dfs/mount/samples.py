"""What looks at the stacks of a mount's threads add up to: where its time goes.

A look takes the stack of the event loop and those of worker threads. Parts are told by the
innermost frame that is dfs's, trio's or pyfuse3's: what those call in other libraries is theirs.
What is written in C has no frame and counts for its caller, so what pyfuse3 does between handlers
may show as trio's step that runs pyfuse3's coroutine, and is told by that line. Shares are of all
looks; the event loop asleep counts among the parts and not among the functions, an idle worker
nowhere.
"""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import trio

import dfs
from dfs.mount.fusetap.turns import Turns

if TYPE_CHECKING:
    from types import CodeType, FrameType

FUNCTIONS_SHOWN: Final = 20
IDLE: Final = "waiting for requests"
WAITING: Final = "waiting for servers"
POLLING: Final = "polling for requests"
FUSE_LOOP: Final = "FUSE loop"
HASHING: Final = "hashing"
COMPRESSION: Final = "compression"
ELSEWHERE: Final = "elsewhere"
_DFS: Final = os.path.dirname(os.path.abspath(dfs.__file__)) + os.sep
_TRIO: Final = os.path.dirname(os.path.abspath(trio.__file__)) + os.sep
_PYFUSE3_PLACE: Final = f"{os.sep}pyfuse3{os.sep}"
"""Not imported for its path: commands import this file."""
_ROOTS: Final = (
    os.path.dirname(_DFS.rstrip(os.sep)) + os.sep,
    os.path.dirname(_TRIO.rstrip(os.sep)) + os.sep,
    sysconfig.get_path("stdlib") + os.sep,
)
_POLL: Final = Turns.__aenter__.__code__
_BLOCKS: Final = os.path.join(_DFS, "core", "blocks.py")
BLOCK_WORK: Final = {
    "hash_frames": HASHING,
    "block_id_of": HASHING,
    "encode_block": HASHING,
    "decode_frames": HASHING,
    "_decode_frame": HASHING,
    "_smaller": COMPRESSION,
    "_compress_frames": COMPRESSION,
    "_decompress": COMPRESSION,
}
"""Functions of dfs/core/blocks.py → what they have done in C."""
_STEP: Final = "unrolled_run"
"""trio's function that runs tasks: what is outside of it is the same in every look."""
_STEP_CALL: Final = "context.run("
_JOB: Final = "_handle_job"
"""The same in a worker thread."""
_NO_JOB: Final = "_work"


class FunctionShare(msgspec.Struct, frozen=True, kw_only=True):
    """A function, and in which share of all looks it was found."""

    name: str
    place: str
    """File and first line."""
    own: float
    """It ran, or waited in C, itself."""
    total: float
    """It, or what it had called."""


class ProfileReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where a mount's time went. Shares: 1 is all of one thread's."""

    seconds: float
    look_count: int
    cpu_s: float
    """Processor time of the whole process meanwhile."""
    parts: dict[str, float]
    """Of the event loop, the largest first; together 1."""
    worker_parts: dict[str, float]
    """Of worker threads that had work: more than 1 if several had all the time."""
    most_own: list[FunctionShare]
    most_total: list[FunctionShare]


class _Function(NamedTuple):
    name: str
    place: str


_PYFUSE3 = _Function("pyfuse3 and libfuse", "C")


class Samples:
    """Counts looks."""

    def __init__(self) -> None:
        self.look_count = 0
        self._parts: Counter[str] = Counter()
        self._worker_parts: Counter[str] = Counter()
        self._own: Counter[_Function] = Counter()
        self._total: Counter[_Function] = Counter()
        self._functions: dict[CodeType, _Function] = {}

    def note_loop(self, frame: FrameType, *, has_work: bool) -> None:
        """A look at the event loop. `has_work`: requests are being worked on."""
        self.look_count += 1
        part = loop_part(frame, has_work=has_work)
        self._parts[part] += 1
        if part == FUSE_LOOP and frame.f_code.co_name == _STEP:
            self._own[_PYFUSE3] += 1
            self._total[_PYFUSE3] += 1
        elif part not in (IDLE, WAITING, POLLING):
            self._note_functions(frame)

    def note_worker(self, frame: FrameType) -> None:
        """A look at another thread at the same moment."""
        if frame.f_code.co_name == _NO_JOB and frame.f_code.co_filename.startswith(_TRIO):
            return
        self._worker_parts[_block_work(frame) or part_of(frame)] += 1
        self._note_functions(frame)

    def _note_functions(self, frame: FrameType) -> None:
        self._own[self._function(frame.f_code)] += 1
        found: dict[_Function, None] = {}
        inner: FrameType | None = frame
        while inner is not None and (inner is frame or not _is_bottom(inner.f_code)):
            found[self._function(inner.f_code)] = None
            inner = inner.f_back
        self._total.update(found.keys())

    def _function(self, code: CodeType) -> _Function:
        function = self._functions.get(code)
        if function is None:
            place = f"{_short(code.co_filename)}:{code.co_firstlineno}"
            function = self._functions[code] = _Function(code.co_qualname, place)
        return function

    def report(self, *, seconds: float, cpu_s: float) -> ProfileReport:
        """All looks so far, which took so long."""
        return ProfileReport(
            seconds=round(seconds, 3),
            look_count=self.look_count,
            cpu_s=round(cpu_s, 3),
            parts=self._shares(self._parts),
            worker_parts=self._shares(self._worker_parts),
            most_own=self._most(self._own),
            most_total=self._most(self._total),
        )

    def _share(self, count: int) -> float:
        return round(count / max(self.look_count, 1), 4)

    def _shares(self, counts: Counter[str]) -> dict[str, float]:
        return {name: self._share(count) for name, count in counts.most_common()}

    def _most(self, counts: Counter[_Function]) -> list[FunctionShare]:
        return [
            FunctionShare(
                name=function.name,
                place=function.place,
                own=self._share(self._own[function]),
                total=self._share(self._total[function]),
            )
            for function, _ in counts.most_common(FUNCTIONS_SHOWN)
        ]


def loop_part(frame: FrameType, *, has_work: bool) -> str:
    """The part of the program that the event loop was in."""
    code = frame.f_code
    if code is _POLL:
        return POLLING
    if code.co_filename.startswith(_TRIO):
        if code.co_name == "get_events":
            return WAITING if has_work else IDLE
        if code.co_name == _STEP:
            line = linecache.getline(code.co_filename, frame.f_lineno)
            return FUSE_LOOP if _STEP_CALL in line else "trio"
    return part_of(frame)


def part_of(frame: FrameType) -> str:
    """`client` for dfs/client and what it has called in other libraries."""
    inner: FrameType | None = frame
    while inner is not None:
        part = _part_of_file(inner.f_code.co_filename)
        if part is not None:
            return part
        inner = inner.f_back
    return ELSEWHERE


def _part_of_file(path: str) -> str | None:
    if path.startswith(_TRIO):
        return "trio"
    if _PYFUSE3_PLACE in path:
        return FUSE_LOOP
    if not path.startswith(_DFS):
        return None
    part, _, rest = path[len(_DFS) :].partition(os.sep)
    return FUSE_LOOP if rest.startswith("fusetap") else part.removesuffix(".py")


def _block_work(frame: FrameType) -> str | None:
    if frame.f_code.co_filename != _BLOCKS:
        return None
    # Comprehensions have frames of their own.
    return BLOCK_WORK.get(frame.f_code.co_qualname.partition(".")[0])


def _is_bottom(code: CodeType) -> bool:
    return code.co_name in (_STEP, _JOB) and code.co_filename.startswith(_TRIO)


def _short(path: str) -> str:
    """From the directory on in which the package is."""
    roots = [root for root in _ROOTS if path.startswith(root)]
    return path[len(max(roots, key=len)) :] if roots else os.path.basename(path)
