"""The seam's own promises: which errors may be retried, and the floor that every engine meets."""

from __future__ import annotations

import pytest

from dfs.engine import api
from dfs.errors import DfsError, OutcomeUnknown
from dfs.limits import (
    ENGINE_BATCH_BYTES_MAX,
    ENGINE_BATCH_RECORDS_MAX,
    ENGINE_KEY_BYTES_MAX,
    ENGINE_VALUE_BYTES_MAX,
)


@pytest.mark.parametrize(
    ("error_type", "is_retryable"),
    [
        (api.Conflict, False),
        (api.Retry, True),
        (api.TooLarge, False),
        (api.Unknown, False),
        (api.EngineDamaged, False),
        (api.EngineBusy, False),
        (api.SnapshotLost, True),
    ],
)
def test_only_what_did_nothing_may_be_retried(
    error_type: type[DfsError], is_retryable: bool
) -> None:
    assert issubclass(error_type, DfsError)
    assert error_type("why").is_retryable == is_retryable


def test_an_unknown_outcome_is_one_above_the_seam_too() -> None:
    assert issubclass(api.Unknown, OutcomeUnknown)


def test_limits_start_at_the_floor() -> None:
    limits = api.EngineLimits()
    assert limits.key_bytes_max >= ENGINE_KEY_BYTES_MAX
    assert limits.value_bytes_max >= ENGINE_VALUE_BYTES_MAX
    assert limits.batch_records_max >= ENGINE_BATCH_RECORDS_MAX
    assert limits.batch_bytes_max >= ENGINE_BATCH_BYTES_MAX
