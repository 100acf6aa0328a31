"""Goal: a server in the foreground says that it is ready, and ends in order on a signal."""

from __future__ import annotations

import logging
import os
import signal

import pytest
import trio

from dfs.cli import serving
from dfs.cli.serving import own_host_towards, serve_until_signal
from dfs.errors import UserError


@pytest.fixture(autouse=True)
def _no_log_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "log_to_stderr", lambda: None)


def test_a_server_is_ready_and_ends_on_sigterm() -> None:
    reading, writing = os.pipe()
    seen: list[str] = []

    async def server(*, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("unix:/x")
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await trio.sleep_forever()
        finally:
            seen.append("closed")

    serve_until_signal(server, writing)
    assert os.read(reading, 100) == b"{}\n"
    os.close(reading)
    assert seen == ["closed"]


def test_a_server_that_cannot_start_tells_the_parent() -> None:
    reading, writing = os.pipe()

    async def server(*, task_status: trio.TaskStatus[str]) -> None:
        raise UserError("address taken")

    with pytest.raises((UserError, ExceptionGroup)):
        serve_until_signal(server, writing)
    assert b"address taken" in os.read(reading, 100)
    os.close(reading)


def test_the_own_address_towards_another() -> None:
    assert own_host_towards("127.0.0.1:7400") == "127.0.0.1"
    assert own_host_towards("unix:/run/m.sock") == "127.0.0.1"
    with pytest.raises(UserError, match="--listen"):
        own_host_towards("no-such-host.invalid:7400")
    assert logging.getLogger("dfs.cli.serving") is serving.log
