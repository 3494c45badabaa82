"""A clock that stands still until a test moves it."""

import heapq
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

from compute_bridge.ports.clock import Clock

# Most chains of tasks come to rest within these turns; anyio's own check sleeps when it finds one awake.
_TURNS = 16


class VirtualClock(Clock):
    """Time as a test tells it. Sleepers wake in the order of their ends, then of their beginnings."""

    def __init__(self, *, utc_ms: int = 1_700_000_000_000) -> None:
        self._now = 0
        self._utc_offset = utc_ms
        self._order = count()
        self._sleepers: list[tuple[int, int, anyio.Event]] = []

    def utc_ms(self) -> int:
        """Return the advisory time: the start, what was advanced, and every jump."""
        return self._utc_offset + self._now

    def monotonic_ms(self) -> int:
        """Return how far the test has advanced."""
        return self._now

    async def sleep_ms(self, ms: int) -> None:
        """Wait until the test has advanced by ``ms``."""
        if ms <= 0:
            await checkpoint()
            return
        sleeper = (self._now + ms, next(self._order), anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    @property
    def sleeping(self) -> int:
        """How many tasks sleep now."""
        return len(self._sleepers)

    def jump_utc(self, ms: int) -> None:
        """Move the wall time alone, either way, as a wrong clock does; nobody wakes."""
        self._utc_offset += ms

    async def advance(self, ms: int) -> None:
        """Move time on. Each sleeper whose end comes runs until it waits again before the next one wakes.

        Only one task may advance a clock at a time. A task that waits for a thread counts as waiting.
        """
        target = self._now + ms
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            self._now, _, event = heapq.heappop(self._sleepers)
            event.set()
            await _settle()
        self._now = target


async def _settle() -> None:
    for _ in range(_TURNS):
        await checkpoint()
    await anyio.wait_all_tasks_blocked()
