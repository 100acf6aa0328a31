"""Filesystems that the benchmark starts itself, by name: dfs, and those it is compared with.

One file each; `rival.py` says what they all can. Nothing of them is left after a run except the
packages that were installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.bench.rivals.cephfs import CephFs
from tools.bench.rivals.dfs import Dfs
from tools.bench.rivals.glusterfs import GlusterFs
from tools.bench.rivals.juicefs import JuiceFs
from tools.bench.rivals.moosefs import MooseFs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.bench.rivals.rival import Rival

RIVALS: dict[str, Callable[[], Rival]] = {
    rival.name: rival for rival in (Dfs, MooseFs, GlusterFs, JuiceFs, CephFs)
}
