"""The product's limits are small, so that a run meets what else only large volumes meet: listings
and extents in pages, batches that are full, ops in steps, checkpoints in the middle of a step.

Which of them are small is decided by the seed. Only numbers that say how much is done at once are
here: none that processes must agree on, or that is written to a disk.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import trio

from tests.simulation.options import Options, Share

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

SMALL = {
    "READDIR_ENTRIES_MAX": 2,
    "DIRECTORY_PAGES_KEPT": 2,
    "EXTENTS_PER_REPLY_MAX": 5,
    "EXTENTS_KEPT_MAX": 40,
    "RANGES_KEPT_MAX": 3,
    "INODE_RANGE_COUNT": 8,
    "REMOVED_PER_OP_MAX": 7,
    "XATTRS_PER_OP_MAX": 1,
    "OPS_IN_FLIGHT_MAX": 3,
    "BATCH_OPS_MAX": 2,
    "RELEASES_PER_MESSAGE_MAX": 1,
    "WHOLE_SHELF_RECORDS": 3,
    "SLACK_RECORDS": 1,
    "ENGINE_BATCH_RECORDS_MAX": 30,
    "STEP_BLOCKS": 3,
    "DELETE_BLOCKS": 2,
    "INDEX_CHECKPOINT_RECORDS": 10,
    "WRITE_STEP_BYTES_MAX": 64 * 1024,
    "RECORDS_CACHED_MAX": 4,
    "NAMES_CACHED_MAX": 4,
    "LEASES_PER_SESSION_MAX": 6,
    "RECALLS_PER_REPLY_MAX": 1,
    "GIVEN_BACK_PER_MESSAGE_MAX": 1,
}


class SmallLimitsOptions(Options):
    """The table `faults.small_limits`."""

    small_share: Share = 0.6
    """Of all limits, how many are small in a run."""
    always: tuple[str, ...] = ()
    """These are small in every run."""


async def shrink_limits(cluster: Cluster, options: SmallLimitsOptions) -> None:
    """Until cancelled some limits are small, in every module of the product."""
    chooser = random.Random(f"{cluster.world.seed}/limits")
    chosen = [
        name for name in SMALL if chooser.random() < options.small_share or name in options.always
    ]
    assert set(options.always) <= set(chosen), "there is no such limit"
    before = [(module, name, vars(module)[name]) for name in chosen for module in _users(name)]
    cluster.world.trace.note(f"small limits: {', '.join(chosen)}", who="world")
    for module, name, _ in before:
        setattr(module, name, SMALL[name])
    try:
        await trio.sleep_forever()
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _users(limit: str) -> list[Any]:
    """The modules that use a limit under its name."""
    product = [module for name, module in sys.modules.items() if name.startswith("dfs.")]
    found = [module for module in product if limit in vars(module)]
    assert found, f"the product has no limit {limit}"
    return found
