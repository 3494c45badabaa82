"""A clock for worlds whose time is nobody's: a wait of a second takes a hundredth."""

import threading
import time
from bisect import bisect_left, insort

import anyio
import anyio.lowlevel

from compute_bridge.ports.clock import Clock

_NS_IN_MS = 1_000_000


class HurriedClock(Clock):
    """Time that passes ``speed`` times faster while somebody waits for it; ``speed=1`` is the clock on the wall.

    For backends that poll: their intervals stay what they are in production, and tests stay short. What takes its time
    is not hurried: with no waiter the clock goes as the wall's does, and with some no faster than to where the first of
    them wakes. So on a slow machine no deadline is over sooner than the work before it, and waiters wake in order.
    """

    def __init__(self, *, speed: int = 100) -> None:
        self._speed = speed
        self._born_ms = time.time_ns() // _NS_IN_MS
        self._lock = threading.Lock()
        self._read_ns = time.monotonic_ns()
        self._now_ns = 0
        self._wakes_ns: list[int] = []

    def utc_ms(self) -> int:
        """Return the wall time at which this clock was made, what has passed since by its own count, and every jump."""
        return self._born_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """Return how long ago this clock was made, by its own count."""
        with self._lock:
            return self._advanced_ns() // _NS_IN_MS

    def jump_utc(self, ms: int) -> None:
        """Move the wall time alone, either way, as a wrong clock does."""
        self._born_ms += ms

    async def sleep_ms(self, ms: int) -> None:
        """Return after ``ms`` milliseconds of its own count."""
        if ms <= 0:
            await anyio.lowlevel.checkpoint()
            return
        with self._lock:
            wake_ns = self._advanced_ns() + ms * _NS_IN_MS
            insort(self._wakes_ns, wake_ns)
        try:
            while left_ns := self._left_ns(wake_ns):  # noqa: ASYNC110 - no event tells that time has passed
                await anyio.sleep(left_ns / self._speed / 1e9)
        finally:
            with self._lock:
                self._advanced_ns()
                del self._wakes_ns[bisect_left(self._wakes_ns, wake_ns)]

    def _left_ns(self, wake_ns: int) -> int:
        with self._lock:
            return max(0, wake_ns - self._advanced_ns())

    def _advanced_ns(self) -> int:
        read_ns = time.monotonic_ns()
        passed_ns, self._read_ns = read_ns - self._read_ns, read_ns
        hurried_ns = self._now_ns + passed_ns * self._speed
        first_ns = self._wakes_ns[0] if self._wakes_ns else 0
        self._now_ns = max(self._now_ns + passed_ns, min(hurried_ns, first_ns))
        return self._now_ns
