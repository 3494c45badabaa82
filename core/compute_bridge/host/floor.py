"""The cost floor: nothing is sold for less than what it costs us, the market's fee taken off."""

from attrs import frozen

from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import CapacityBand, Resources
from compute_bridge.model.units import BasisPoints, MicrosPerHour
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.errors import ComputeBridgeError

_WHOLE = 10_000
_MICRO = 1000
# Thousandths of a vCPU and 1024ths of a GiB of RAM, brought to one denominator.
_PER_VCPU, _PER_GIB = 1024, 1000
_SCALE = _PER_VCPU * 1000


class CostFloorError(ComputeBridgeError):
    """A grant or a rate does not cover its cost; refuse it, unless the operator's setting allows it."""

    reason = Reason.COST_FLOOR


def covers(rate: MicrosPerHour, cost: MicrosPerHour, provider_fee: BasisPoints) -> bool:
    """Return whether ``rate`` covers ``cost`` after the market's fee on the provider."""
    return rate * (_WHOLE - provider_fee) >= cost * _WHOLE


def check_grant_floor(grant: ComputeGrant, offer: Offer, *, provider_fee: BasisPoints) -> None:
    """Return if the cleared rate of ``grant`` covers what ``offer`` costs us for it, the fee taken off.

    :raises CostFloorError: if it does not, or if grant and offer are in different currencies.
    """
    cost = offer.cost.hourly(grant.requirements)
    where = f"backend {offer.backend}: offer {offer.id}"
    if grant.currency != offer.cost.currency:
        raise CostFloorError(f"{where} costs {offer.cost.currency}, the grant pays {grant.currency}; convert its cost")
    if not covers(grant.rate, cost, provider_fee):
        raise CostFloorError(
            f"{where} costs {cost} micros/h, the grant clears {grant.rate} less {provider_fee} basis points;"
            " ask a higher rate, or set [rate] below_cost"
        )


@frozen
class Shortfall:
    """Where in a band a rate falls furthest short of an offer's cost, and by how many micros an hour.

    ``at`` is the worst corner of the band; ``egress`` says that it is the allowance of egress that costs more
    than its rate, whatever the corner.
    """

    at: Resources
    micros: int
    egress: bool


def shortfall(rate: UnitNanos, band: CapacityBand, offer: Offer, provider_fee: BasisPoints) -> Shortfall | None:
    """Return by how much ``rate`` fails to cover ``offer`` in ``band``, or ``None`` where it always covers.

    What is left over is linear in each resource, so it is least in a corner of what the offer can serve of the
    band: each resource at its floor where a unit earns, at its ceiling where a unit loses. So ``None`` is a
    proof for all requirements of the band that the offer serves, also after both sides are rounded up to whole
    micros. The offer must be at least as large as the band's floor.
    """
    left = _Margin.of(rate, offer.cost.total, provider_fee)
    corner = left.worst_corner(band.floor, _lesser(band.ceiling, offer.resources))
    # A fee that shrinks the rate lets the cost's own rounding show: up to a micro, which must be there too.
    spare = left.at(corner) - (_MICRO * _WHOLE * _SCALE if provider_fee else 0)
    if spare >= 0 and left.egress >= 0:
        return None
    return Shortfall(corner, -(spare // (_MICRO * _WHOLE * _SCALE)) if spare < 0 else 0, left.egress < 0)


@frozen
class _Margin:
    """What one unit leaves over, in ten-thousandths of a nano."""

    machine: int
    vcpu: int
    ram_gib: int
    disk_gib: int
    gpu: int
    egress: int

    @classmethod
    def of(cls, rate: UnitNanos, cost: UnitNanos, provider_fee: BasisPoints) -> "_Margin":
        def left(asked: int, costs: int) -> int:
            return asked * (_WHOLE - provider_fee) - costs * _WHOLE

        return cls(
            left(rate.machine, cost.machine),
            left(rate.vcpu, cost.vcpu),
            left(rate.ram_gib, cost.ram_gib),
            left(rate.disk_gib, cost.disk_gib),
            left(rate.gpu, cost.gpu),
            left(rate.egress_gib, cost.egress_gib),
        )

    def worst_corner(self, floor: Resources, ceiling: Resources) -> Resources:
        def worse(margin: int, low: int, high: int) -> int:
            return low if margin >= 0 else high

        return Resources(
            worse(self.vcpu, floor.cpu_millis, ceiling.cpu_millis),
            worse(self.ram_gib, floor.mem_mib, ceiling.mem_mib),
            worse(self.disk_gib, floor.disk_gib, ceiling.disk_gib),
            worse(self.gpu, floor.gpus, ceiling.gpus),
        )

    def at(self, size: Resources) -> int:
        """Return what an hour of ``size`` leaves over, in 1,024,000ths of the unit of this margin."""
        return (
            _SCALE * (self.machine + size.disk_gib * self.disk_gib + size.gpus * self.gpu)
            + _PER_VCPU * size.cpu_millis * self.vcpu
            + _PER_GIB * size.mem_mib * self.ram_gib
        )


def _lesser(one: Resources, other: Resources) -> Resources:
    return Resources(
        min(one.cpu_millis, other.cpu_millis),
        min(one.mem_mib, other.mem_mib),
        min(one.disk_gib, other.disk_gib),
        min(one.gpus, other.gpus),
    )
