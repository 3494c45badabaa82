"""What a grant may cost and what it did cost: the market's own sums, from its own grant."""

from compute_bridge.model.units import BasisPoints, Micros, MicrosPerHour, Milliseconds, charge, fee


def reservation(rate: MicrosPerHour, duration: Milliseconds, requester_fee: BasisPoints) -> int:
    """Return what an account must have free for ``duration`` at ``rate``: the charge, and its fee on top."""
    amount = charge(rate, duration)
    return amount + fee(amount, requester_fee)


def fees(amount: Micros, requester: BasisPoints, provider: BasisPoints) -> tuple[Micros, Micros]:
    """Return the fees on a charge: what the requester pays on top, what the provider forgoes."""
    return fee(amount, requester), fee(amount, provider)


def ticks_of(duration: Milliseconds, cadence_ms: int) -> int:
    """Return how many ticks of the almanac ``duration`` takes, begun ones counted whole."""
    return -(-duration // cadence_ms)
