"""The market's monotone clock."""

from attrs import field, frozen

from compute_bridge.model.checks import octets, whole
from compute_bridge.model.units import Tick, UtcMs


@frozen
class AlmanacTick:
    """One tick: its number, the cadence, advisory UTC, 32 random bytes, and the tick before's hash.

    The record's hash is the freshness challenge for quotes; ``utc_ms`` decides nothing.
    """

    tick: Tick = field(validator=whole(1))
    cadence_ms: int = field(validator=whole(10, 3_600_000))
    utc_ms: UtcMs = field(validator=whole())
    random: bytes = field(validator=octets(32), repr=False)
    previous: bytes = field(validator=octets(32))
