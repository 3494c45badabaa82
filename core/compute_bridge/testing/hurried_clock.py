"""A clock for worlds whose time is nobody's: a wait of a second takes a hundredth."""

import time

import anyio

from compute_bridge.ports.clock import Clock


class HurriedClock(Clock):
    """Real time, ``speed`` times faster; ``speed=1`` is the clock on the wall.

    For backends that poll: their intervals stay what they are in production, and tests stay short.
    """

    def __init__(self, *, speed: int = 100) -> None:
        self._speed = speed
        self._born_ms = time.time_ns() // 1_000_000
        self._born_ns = time.monotonic_ns()

    def utc_ms(self) -> int:
        """Return the wall time at which this clock was made, what has passed since by its own count, and every jump."""
        return self._born_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """Return how long ago this clock was made, by its own count."""
        return (time.monotonic_ns() - self._born_ns) * self._speed // 1_000_000

    def jump_utc(self, ms: int) -> None:
        """Move the wall time alone, either way, as a wrong clock does."""
        self._born_ms += ms

    async def sleep_ms(self, ms: int) -> None:
        """Return after ``ms`` milliseconds of its own count."""
        await anyio.sleep(max(ms, 0) / 1000 / self._speed)
