"""The clock of the machine."""

import time

import anyio

from compute_bridge.ports.clock import Clock


class SystemClock(Clock):
    """The real clock; the only place that reads it."""

    def utc_ms(self) -> int:
        """Return the machine's idea of UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds since some moment before this process."""
        return time.monotonic_ns() // 1_000_000

    async def sleep_ms(self, ms: int) -> None:
        """Sleep on the event loop."""
        await anyio.sleep(max(ms, 0) / 1000)
