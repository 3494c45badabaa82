"""The clock of the machine."""

import time

import anyio

from compute_bridge.ports.clock import Clock

# Linux' CLOCK_MONOTONIC stands still while a machine is suspended: a lease would run on for as long.
_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock(Clock):
    """The real clock; the only place that reads it."""

    def utc_ms(self) -> int:
        """Return the machine's idea of UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds since some moment before this process; the time that the machine slept counts."""
        return time.clock_gettime_ns(_MONOTONIC) // 1_000_000

    async def sleep_ms(self, ms: int) -> None:
        """Sleep on the event loop."""
        await anyio.sleep(max(ms, 0) / 1000)
