"""Money and time as whole numbers, and the only three roundings that exist."""

from typing import NewType

Milliseconds = NewType("Milliseconds", int)
UtcMs = NewType("UtcMs", int)
"""Milliseconds since 1970 UTC; advisory on the wire."""
Tick = NewType("Tick", int)
"""The sequence number of an almanac tick."""
Micros = NewType("Micros", int)
"""Millionths of the currency unit: everything owed."""
MicrosPerHour = NewType("MicrosPerHour", int)
NanosPerHour = NewType("NanosPerHour", int)
"""Billionths of the currency unit for one resource unit and hour: every unit rate."""
Nanos = NewType("Nanos", int)
BasisPoints = NewType("BasisPoints", int)
"""Hundredths of a percent, for fees."""

HOUR_MS = 3_600_000


def charge(rate: MicrosPerHour, billable: Milliseconds) -> Micros:
    """Return what ``billable`` milliseconds cost at the cleared ``rate``, rounded up.

    A millisecond used is never free, and no lease pays a whole micro over the exact price.
    """
    return Micros(-(-rate * billable // HOUR_MS))


def fee(amount: Micros, share: BasisPoints) -> Micros:
    """Return ``share`` of ``amount``, rounded towards zero: a fee is never a micro too much.

    A negative share is a subsidy and rounds towards zero as well.
    """
    cut = abs(share) * amount // 10_000
    return Micros(cut if share >= 0 else -cut)


def rate_up(total: int, per: int) -> MicrosPerHour:
    """Return ``total / per`` rounded up: the one division behind an asked rate or a cost floor.

    Rounding up keeps an asked rate at or above its table, and a floor at or above its cost.
    """
    return MicrosPerHour(-(-total // per))
