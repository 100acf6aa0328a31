"""What holds for every test: warnings are announced, async tests run under trio."""

from __future__ import annotations

import inspect
import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Iterator

# Time limits per example only measure how busy the machine is; the blob repeats a failure anywhere.
hypothesis.settings.register_profile("dfs", deadline=None, print_blob=True)
hypothesis.settings.load_profile("dfs")


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def _no_unannounced_warnings(request: pytest.FixtureRequest) -> Iterator[None]:
    """A log of WARNING or above fails the test, unless it looks at logs itself (caplog) or says
    that it provokes them (`expects_warnings`)."""
    collector = _Collector()
    logger = logging.getLogger("dfs")
    logger.addHandler(collector)
    yield
    logger.removeHandler(collector)
    announced = request.node.get_closest_marker("expects_warnings")
    if collector.lines and not announced and "caplog" not in request.fixturenames:
        pytest.fail("unannounced warnings:\n" + "\n".join(collector.lines), pytrace=False)


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """The clock of an async test that asks for it: virtual time, which jumps when all wait.

    Not for tests with worker threads: time would jump while they work.
    """
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test under trio."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    clock: Any = pyfuncitem.funcargs.get("autojump_clock")
    trio.run(partial(pyfuncitem.obj, **arguments), clock=clock)
    return True


def pytest_configure() -> None:
    """A terminated run (`timeout`, CI) tears down too: no mount or process outlives it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
