"""Goal: a session arms the tap, and does without it, with a reason, wherever it cannot be had."""

from __future__ import annotations

import errno

import pyfuse3
import pytest
import trio

from dfs.mount.fusetap.session import INIT_FLAGS, POLL_NS, TURN_NS, FuseSession
from dfs.mount.fusetap.wire import InitFlag
from tests.unit.mount.fusetap.fake_tap import FakeTap

OPERATIONS = pyfuse3.Operations()


@pytest.fixture(autouse=True)
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Mount points that pyfuse3 was asked to mount."""
    asked: list[str] = []
    monkeypatch.setattr(pyfuse3, "init", lambda _operations, place, _options: asked.append(place))
    return asked


@pytest.mark.parametrize(("cpus", "poll_ns"), [({0, 1}, POLL_NS), ({3}, 0)])
def test_a_session_with_the_tap(
    monkeypatch: pytest.MonkeyPatch, mounted: list[str], cpus: set[int], poll_ns: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: cpus)
    tap = FakeTap()
    session = FuseSession(tap, "")
    session.mount(OPERATIONS, "/mnt", set())
    assert mounted == ["/mnt"]
    assert tap.armed == [(INIT_FLAGS, poll_ns, TURN_NS)]
    assert (session.tap, session.why_plain) == (tap, "")
    tap.state["flags_agreed"] = InitFlag.PARALLEL_DIROPS | 1 << 5
    assert InitFlag.PARALLEL_DIROPS in session.agreed
    assert InitFlag.HANDLE_KILLPRIV_V2 not in session.agreed


@pytest.mark.parametrize(
    ("error", "words"),
    [(errno.ENOSYS, "older than libfuse 3.13"), (errno.EBADF, "refused"), (0, "statically")],
)
def test_a_libfuse_that_takes_no_tap(mounted: list[str], error: int, words: str) -> None:
    tap = FakeTap()
    tap.state["is_attached"] = False
    tap.state["error"] = error
    session = FuseSession(tap, "")
    session.mount(OPERATIONS, "/mnt", set())
    assert mounted == ["/mnt"]
    assert words in session.why_plain
    assert session.tap is None
    assert session.agreed == InitFlag(0)
    assert not session.advance_dentry_epoch()


def test_no_tap_at_all(mounted: list[str]) -> None:
    session = FuseSession(None, "not built")
    session.mount(OPERATIONS, "/mnt", set())
    assert mounted == ["/mnt"]
    assert (session.tap, session.why_plain) == (None, "not built")


@pytest.mark.parametrize("is_tapped", [True, False])
async def test_serving_hands_pyfuse3_its_waiting_and_takes_it_back(
    monkeypatch: pytest.MonkeyPatch, *, is_tapped: bool
) -> None:
    seen: list[object] = []

    async def main(min_tasks: int, max_tasks: int) -> None:
        seen.append(vars(pyfuse3)["trio"])
        assert (min_tasks, max_tasks) == (1, 7)

    monkeypatch.setattr(pyfuse3, "main", main)
    await FuseSession(*((FakeTap(), "") if is_tapped else (None, "not built"))).serve(7)
    assert (seen[0] is trio) != is_tapped
    assert vars(pyfuse3)["trio"] is trio
