"""Fixtures of the cluster tests: `cluster` (one per module) and `fresh_cluster` (one per test)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

import pytest

from dfs.background import LOG_VARIABLE, RUNTIME_VARIABLE
from tests.cluster.running import Cluster, can_mount, running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Cluster"]


@pytest.fixture(scope="session")
def _needs_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clusters of these tests and others of this machine do not see each other."""
    if problem := can_mount():
        pytest.skip(problem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUNTIME_VARIABLE, str(tmp_path_factory.mktemp("run")))
        patch.setenv(LOG_VARIABLE, str(tmp_path_factory.mktemp("log")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _terminated_is_interrupted() -> Iterator[None]:
    """A test run that is told to end takes its clusters down first."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def cluster(_needs_mounts: None) -> Iterator[Cluster]:
    """A cluster for all tests of a module: 3 chunk servers, 2 copies."""
    with running_cluster() as running:
        yield running


@pytest.fixture
def fresh_cluster(_needs_mounts: None) -> Iterator[Cluster]:
    """A cluster for one test."""
    with running_cluster() as running:
        yield running
