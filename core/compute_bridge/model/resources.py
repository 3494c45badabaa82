"""What a machine has, what a workload needs, and what a backend or card can serve."""

from enum import StrEnum
from typing import NewType

from attrs import field, frozen

from compute_bridge.model.checks import ascending, each, few, label, whole
from compute_bridge.model.ids import BandName
from compute_bridge.model.units import HOUR_MS, Milliseconds

Region = NewType("Region", str)
Zone = NewType("Zone", str)

MAX_DURATION_MS = Milliseconds(366 * 24 * HOUR_MS)


class Posture(StrEnum):
    """Whether and how a guest is protected from the one who hosts it."""

    NONE = "none"
    TDX = "tdx"
    AZURE_PARAVISOR = "azure-paravisor"
    SEV_SNP = "sev-snp"


class TdxNeed(StrEnum):
    """What a requester asks of the posture; only ``Posture.TDX`` meets ``required``."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    NONE = "none"


class NetworkPolicy(StrEnum):
    """What a guest may reach beside its SSH port: nothing, or outward connections."""

    ISOLATED = "isolated"
    EGRESS = "egress"


@frozen
class Resources:
    """CPU in thousandths of a vCPU, RAM in MiB, disk in GiB, GPUs as a count."""

    cpu_millis: int = field(validator=whole(1, 10**7))
    mem_mib: int = field(validator=whole(1, 2**30))
    disk_gib: int = field(default=0, validator=whole(0, 2**24))
    gpus: int = field(default=0, validator=whole(0, 1024))

    def fits_in(self, other: "Resources") -> bool:
        """Return whether ``other`` has at least this much of everything."""
        return (
            self.cpu_millis <= other.cpu_millis
            and self.mem_mib <= other.mem_mib
            and self.disk_gib <= other.disk_gib
            and self.gpus <= other.gpus
        )


@frozen
class Requirements:
    """What a workload needs. ``regions`` empty means any; ``egress_gib`` is for the whole duration."""

    resources: Resources
    duration_ms: Milliseconds = field(validator=whole(1, MAX_DURATION_MS))
    tdx: TdxNeed = TdxNeed.NONE
    network: NetworkPolicy = NetworkPolicy.ISOLATED
    regions: tuple[Region, ...] = field(default=(), validator=[each(label, 0, 64), ascending])
    egress_gib: int = field(default=0, validator=whole(0, 2**24))

    def accepts_region(self, region: Region) -> bool:
        """Return whether the workload may run in ``region``."""
        return not self.regions or region in self.regions

    def accepts_posture(self, posture: Posture) -> bool:
        """Return whether ``posture`` meets the TDX need."""
        return self.tdx is not TdxNeed.REQUIRED or posture is Posture.TDX


@frozen
class Capability:
    """One shape of what can be served: a region, a posture, the ceilings and network policies."""

    region: Region = field(validator=label)
    posture: Posture
    ceiling: Resources
    networks: tuple[NetworkPolicy, ...] = field(validator=[few(1, 2), ascending])
    max_duration_ms: Milliseconds = field(default=MAX_DURATION_MS, validator=whole(1, MAX_DURATION_MS))

    def serves(self, needs: Requirements) -> bool:
        """Return whether these requirements lie within this capability."""
        return (
            needs.accepts_region(self.region)
            and needs.accepts_posture(self.posture)
            and needs.network in self.networks
            and needs.duration_ms <= self.max_duration_ms
            and needs.resources.fits_in(self.ceiling)
        )


@frozen
class CapacityBand:
    """A segment that a provider commits to serve, and by committing forgoes what lies outside.

    Requirements lie in the band when every resource and the duration lie between the two corners.
    ``slots`` is how many leases of the band may be open at once.
    """

    name: BandName = field(validator=label)
    floor: Resources
    ceiling: Resources
    slots: int = field(validator=whole(1, 10**6))
    min_duration_ms: Milliseconds = field(default=Milliseconds(1), validator=whole(1, MAX_DURATION_MS))
    max_duration_ms: Milliseconds = field(default=MAX_DURATION_MS, validator=whole(1, MAX_DURATION_MS))

    def __attrs_post_init__(self) -> None:
        if not self.floor.fits_in(self.ceiling):
            raise ValueError(f"band {self.name}: floor exceeds ceiling")
        if self.min_duration_ms > self.max_duration_ms:
            raise ValueError(f"band {self.name}: min_duration_ms exceeds max_duration_ms")

    def covers(self, needs: Requirements) -> bool:
        """Return whether these requirements lie in the band."""
        return (
            self.floor.fits_in(needs.resources)
            and needs.resources.fits_in(self.ceiling)
            and self.min_duration_ms <= needs.duration_ms <= self.max_duration_ms
        )
