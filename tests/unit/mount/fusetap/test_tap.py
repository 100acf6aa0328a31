"""Goal: without a session the extension answers, and harms nothing."""

from __future__ import annotations

import errno

import pytest

from dfs.mount.fusetap import _tap


@pytest.fixture(autouse=True)
def _armed() -> None:
    _tap.arm(0, 60_000, 2_000_000)


def test_there_is_nothing_to_poll() -> None:
    assert _tap.poll() == _tap.SLEEP
    assert len({_tap.SLEEP, _tap.READY, _tap.YIELD}) == 3


def test_there_is_no_request_and_nobody_to_notify() -> None:
    assert _tap.last_request() == b""
    for payload in (b"", b"payload"):
        with pytest.raises(OSError) as caught:
            _tap.notify(8, payload)
        assert caught.value.errno == errno.EBADF


def test_nothing_is_agreed_or_counted() -> None:
    status = _tap.status()
    assert not status["is_attached"]
    assert not status["is_polling"]
    assert {value for name, value in status.items() if name.endswith("_count")} == {0}
    assert (status["flags_agreed"], status["in_flight"], status["error"]) == (0, 0, 0)


@pytest.mark.parametrize("arguments", [(), (0, 1), ("x", 1, 2), (0, 1, 2, 3)])
def test_wrong_arguments_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        _tap.arm(*arguments)  # type: ignore[call-arg, arg-type]
