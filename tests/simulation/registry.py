"""Every workload and every fault that a scenario can name. To add one: write its module, and a line
here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.faults.clocks import ClockOptions, jump_clocks
from tests.simulation.faults.disk_errors import DiskErrorOptions, let_disk_fail
from tests.simulation.faults.links import LinkOptions, spoil_links
from tests.simulation.faults.network import NetworkFaultOptions, break_links
from tests.simulation.faults.pauses import PauseOptions, pause_processes
from tests.simulation.faults.points import PointOptions, arm_points
from tests.simulation.faults.processes import ProcessFaultOptions, kill_processes
from tests.simulation.faults.rot import RotOptions, let_bits_rot
from tests.simulation.faults.single_server import SingleServerOptions, kill_single_server
from tests.simulation.faults.slow_disks import SlowDiskOptions, slow_disks
from tests.simulation.faults.small_limits import SmallLimitsOptions, shrink_limits
from tests.simulation.faults.unknown_outcomes import UnknownOutcomeOptions, lose_outcomes
from tests.simulation.workloads.appender import AppenderOptions, make_appenders
from tests.simulation.workloads.contender import ContenderOptions, make_contenders
from tests.simulation.workloads.crowd import CrowdOptions, make_crowd_keepers
from tests.simulation.workloads.linker import LinkerOptions, make_linkers
from tests.simulation.workloads.orphan_keeper import OrphanKeeperOptions, make_orphan_keepers
from tests.simulation.workloads.recreator import RecreatorOptions, make_recreators
from tests.simulation.workloads.reopener import ReopenerOptions, make_reopeners
from tests.simulation.workloads.ring import RingOptions, make_ring_turners
from tests.simulation.workloads.signaller import SignallerOptions, make_signallers
from tests.simulation.workloads.slot_writer import SlotWriterOptions, make_slot_writers
from tests.simulation.workloads.writer import WriterOptions, make_writers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.simulation.cluster import Cluster
    from tests.simulation.options import Options
    from tests.simulation.workloads.workload import Site, Workload


class WorkloadKind(NamedTuple):
    """`make` gives the objects that work through one client."""

    options: type[Options]
    make: Callable[[Site, Any], Sequence[Workload]]


class FaultKind(NamedTuple):
    """`strike` strikes until it is cancelled, and leaves a cluster that can be mended."""

    options: type[Options]
    strike: Callable[[Cluster, Any], Awaitable[None]]


Kind = WorkloadKind | FaultKind

WORKLOADS = {
    "writer": WorkloadKind(WriterOptions, make_writers),
    "slot_writer": WorkloadKind(SlotWriterOptions, make_slot_writers),
    "appender": WorkloadKind(AppenderOptions, make_appenders),
    "crowd": WorkloadKind(CrowdOptions, make_crowd_keepers),
    "recreator": WorkloadKind(RecreatorOptions, make_recreators),
    "orphan_keeper": WorkloadKind(OrphanKeeperOptions, make_orphan_keepers),
    "linker": WorkloadKind(LinkerOptions, make_linkers),
    "reopener": WorkloadKind(ReopenerOptions, make_reopeners),
    "signaller": WorkloadKind(SignallerOptions, make_signallers),
    "ring": WorkloadKind(RingOptions, make_ring_turners),
    "contender": WorkloadKind(ContenderOptions, make_contenders),
}

FAULTS = {
    "processes": FaultKind(ProcessFaultOptions, kill_processes),
    "network": FaultKind(NetworkFaultOptions, break_links),
    "rot": FaultKind(RotOptions, let_bits_rot),
    "disk_errors": FaultKind(DiskErrorOptions, let_disk_fail),
    "pauses": FaultKind(PauseOptions, pause_processes),
    "clocks": FaultKind(ClockOptions, jump_clocks),
    "links": FaultKind(LinkOptions, spoil_links),
    "slow_disks": FaultKind(SlowDiskOptions, slow_disks),
    "points": FaultKind(PointOptions, arm_points),
    "single_server": FaultKind(SingleServerOptions, kill_single_server),
    "small_limits": FaultKind(SmallLimitsOptions, shrink_limits),
    "unknown_outcomes": FaultKind(UnknownOutcomeOptions, lose_outcomes),
}
