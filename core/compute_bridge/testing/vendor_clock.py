"""The time of whoever is not the bridge."""

from compute_bridge.ports.clock import Clock


class VendorClock(Clock):
    """The vendor's own time: it runs as ``clock`` does, and no jump of that one's wall time reaches it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ms = clock.utc_ms() - clock.monotonic_ms()

    def utc_ms(self) -> int:
        """Return the wall time as it was when this clock was made, and what has passed since."""
        return self._offset_ms + self._clock.monotonic_ms()

    def monotonic_ms(self) -> int:
        """Return the other clock's count."""
        return self._clock.monotonic_ms()

    async def sleep_ms(self, ms: int) -> None:
        """Wait by the other clock's count."""
        await self._clock.sleep_ms(ms)
