"""What a lease cost, what it paid and what is left: from its journal alone, so no later cost or rate changes it."""

from typing import Any

from attrs import asdict, frozen

from compute_bridge.host.lease_state import Ended, ProvisionIntended
from compute_bridge.host.story import read_offer
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.units import BasisPoints, MicrosPerHour, charge, fee
from compute_bridge.ports.backend import Offer


@frozen
class FrozenCost:
    """The cost basis of the offer that served, as it stood when the machine was ordered; ``units`` in nanos.

    ``hourly_micros`` is for the grant's whole requirements.
    """

    backend: str
    offer: str
    currency: str
    hourly_micros: int
    units: dict[str, int]
    address: int
    observed_at: int
    source: str


@frozen
class LeaseMoney:
    """The money of one lease, in micros of ``currency``. What is not known yet, or cannot be compared, is ``None``.

    ``charge`` is for ``billable_ms`` at the cleared ``rate``; ``market_fee`` is taken off it; ``cost`` is that of
    the offer for the same time; ``margin`` is what is left of the charge after both.
    """

    currency: str
    rate: int
    billable_ms: int | None = None
    charge: int | None = None
    market_fee: int | None = None
    cost: int | None = None
    margin: int | None = None
    basis: FrozenCost | None = None


def money_of(
    grant: ComputeGrant, intended: ProvisionIntended | None, ended: Ended | None, *, provider_fee: BasisPoints | None
) -> LeaseMoney:
    """Return the money of a lease; ``intended`` is the attempt that made its machine, if any did."""
    offer = read_offer(intended) if intended is not None else None
    basis = _basis(grant, offer) if offer is not None else None
    if ended is None:
        return LeaseMoney(grant.currency, grant.rate, basis=basis)
    owed = charge(grant.rate, ended.billable_ms)
    market_fee = fee(owed, provider_fee) if provider_fee is not None else None
    cost = None
    if basis is not None and basis.currency == grant.currency:
        cost = charge(MicrosPerHour(basis.hourly_micros), ended.billable_ms)
    margin = None if cost is None or market_fee is None else owed - market_fee - cost
    return LeaseMoney(grant.currency, grant.rate, ended.billable_ms, owed, market_fee, cost, margin, basis)


def _basis(grant: ComputeGrant, offer: Offer) -> FrozenCost:
    cost = offer.cost
    units: dict[str, Any] = asdict(cost.units)
    hourly = cost.hourly(grant.requirements)
    return FrozenCost(
        offer.backend, offer.id, cost.currency, hourly, units, cost.address, cost.observed_at, cost.source
    )
