"""I4: after a namespace change returned, or a file was synced or closed, everyone else sees it.

The writer rests while another client looks. Names, attributes and the bytes of files that it has
synced or closed must be exactly the writer's; bytes that it has written since may be there or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.workloads.observe import differences

if TYPE_CHECKING:
    from tests.simulation.workloads.observe import Found
    from tests.simulation.workloads.steps import Path
    from tests.simulation.workloads.tree import Tree


def check_coherence(tree: Tree, found: dict[Path, Found]) -> str:
    """How what another client found differs from what the writer knows (I4); empty if it fits."""
    return "; ".join(differences(tree, found, after_crash=False)[:5])
