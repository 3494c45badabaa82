"""What a lease used, and the provider's signed account of one grant."""

from enum import StrEnum

from attrs import field, frozen

from compute_bridge.model.checks import octets, whole
from compute_bridge.model.ids import GrantId, ProviderId
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, UtcMs


class UsageSource(StrEnum):
    """Who counted a figure; ``unavailable`` marks a zero that nobody measured."""

    CGROUP_V1 = "cgroup-v1"
    CGROUP_V2 = "cgroup-v2"
    PROCESS_TREE = "process-tree"
    ALLOCATION = "allocation"
    BACKEND = "backend"
    UNAVAILABLE = "unavailable"


@frozen
class Figure:
    """One measured whole number and who counted it."""

    value: int = field(validator=whole())
    source: UsageSource


UNMEASURED = Figure(0, UsageSource.UNAVAILABLE)


@frozen
class UsageMetrics:
    """Evidence of use since the start: CPU core-ms, RAM MiB-ms, disk GiB-ms, GPU-ms, bytes, wall ms."""

    core_ms: Figure = UNMEASURED
    ram_mib_ms: Figure = UNMEASURED
    net_in_bytes: Figure = UNMEASURED
    net_out_bytes: Figure = UNMEASURED
    disk_gib_ms: Figure = UNMEASURED
    gpu_ms: Figure = UNMEASURED
    wall_ms: Figure = UNMEASURED


class Outcome(StrEnum):
    """How one grant ended for its provider."""

    SERVED = "served"
    REFUSED = "refused"
    FAILED = "failed"
    NO_SHOW = "no-show"


@frozen
class ComputeLog:
    """The provider's account of one grant; exactly one for each grant.

    ``started_at`` and ``ended_at`` are the backend's record where it keeps one; both are 0 unless the
    outcome is ``served``. ``billable_ms`` never exceeds the granted duration plus its extensions.
    """

    grant_id: GrantId = field(validator=octets(32))
    provider_id: ProviderId = field(validator=octets(32))
    epoch: int = field(validator=whole(1))
    sequence: int = field(validator=whole())
    outcome: Outcome
    reason: Reason
    started_at: UtcMs = field(validator=whole())
    ended_at: UtcMs = field(validator=whole())
    billable_ms: Milliseconds = field(validator=whole())
    usage: UsageMetrics
    receipt_hash: bytes = field(validator=octets(0, 32))
    development_attestation: bool

    def __attrs_post_init__(self) -> None:
        if self.ended_at < self.started_at:
            raise ValueError("ended_at is before started_at")
        if self.outcome is not Outcome.SERVED and self.billable_ms:
            raise ValueError(f"a {self.outcome} grant has nothing billable")
