"""Goal: a call outlives a short loss, and no longer one. Method: a client that fails as told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from dfs.core.messages import Done, GetStatus
from dfs.errors import CorruptBlock, Disconnected, Overloaded
from dfs.fsck.patience import PATIENCE_S, PAUSE_S, call_patiently


class Failing:
    """Fails with these errors, one per call, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.timeouts: list[float] = []

    async def call(self, request: object, *, timeout_s: float) -> tuple[Done, bytes]:
        assert isinstance(request, GetStatus)
        await trio.lowlevel.checkpoint()
        self.timeouts.append(timeout_s)
        if self.errors:
            raise self.errors.pop(0)
        return Done(), b"payload"


async def _call(failing: Failing, **options: Any) -> Any:
    client: Any = failing
    return await call_patiently(client, GetStatus(), **options)


async def test_a_short_loss_is_not_noticed(autojump_clock: trio.testing.MockClock) -> None:
    failing = Failing(Disconnected("gone"), Overloaded("busy"))
    assert await _call(failing, timeout_s=3.0) == (Done(), b"payload")
    assert failing.timeouts == [3.0] * 3
    assert trio.current_time() == pytest.approx(2 * PAUSE_S)


async def test_patience_ends(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Disconnected, match="gone"):
        await _call(Failing(*[Disconnected("gone")] * 1000))
    assert PATIENCE_S <= trio.current_time() <= PATIENCE_S + 2 * PAUSE_S


async def test_other_errors_are_answers(autojump_clock: trio.testing.MockClock) -> None:
    failing = Failing(CorruptBlock("bad"))
    with pytest.raises(CorruptBlock):
        await _call(failing)
    assert len(failing.timeouts) == 1
