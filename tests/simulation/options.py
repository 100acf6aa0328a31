"""What every table of a scenario has in common: unknown keys are refused, values are checked."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Options(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One table of a scenario."""


class FaultOptions(Options):
    """Of a fault that strikes at random."""

    every_s: Positive
    """Mean time between two."""


class WorkloadOptions(Options):
    """Of a workload."""

    per_client: Count = 1
    pause_s: Positive = 0.1
    """Mean time that one of them thinks between two steps."""
