"""Bits that flip in what a chunk server has stored, on one disk only.

With `min_copies` of 2 every block has another, good copy. Readers must never see wrong bytes (I2),
and a repair must bring every block back to all its copies.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.options import FaultOptions

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class RotOptions(FaultOptions):
    """The table `faults.rot`."""


async def let_bits_rot(cluster: Cluster, options: RotOptions) -> None:
    """Flip a bit now and then until cancelled."""
    chooser = random.Random(f"{cluster.world.seed}/rot")
    platter = cluster.chunks[0].platter
    while True:
        await cluster.wait_for_fault(chooser, options.every_s)
        names = [name for name in platter.file_names() if name.endswith(".segment")]
        if not names:
            continue
        name = chooser.choice(names)
        size = platter.size(name)
        if size:
            platter.flip(name, chooser.randrange(size))
