"""One hurried clock for every process of a schedule: a restart sees no jump."""

import json
import time
from pathlib import Path

import anyio
from attrs import asdict, frozen

from compute_bridge.ports.clock import Clock

SPEED = 100
"""How much faster than on the wall time goes in a schedule."""


@frozen
class Birth:
    """When a schedule's time began: CLOCK_MONOTONIC in nanoseconds, and the UTC that it stood for."""

    born_ns: int
    utc_ms: int
    speed: int = SPEED

    @classmethod
    def now(cls, utc_ms: int, speed: int = SPEED) -> "Birth":
        """Return a time that begins now, at ``utc_ms``."""
        return cls(time.monotonic_ns(), utc_ms, speed)

    @classmethod
    def read(cls, path: Path) -> "Birth":
        """Return what :meth:`write` wrote."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Write it for the other processes."""
        path.write_text(json.dumps(asdict(self)))


class SharedClock(Clock):
    """Real time, faster, counted from one birth that processes share."""

    def __init__(self, birth: Birth) -> None:
        self._birth = birth

    def utc_ms(self) -> int:
        """Return the UTC of the birth and what has passed since."""
        return self._birth.utc_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """Return how long ago the birth was, by the hurried count."""
        return (time.monotonic_ns() - self._birth.born_ns) * self._birth.speed // 1_000_000

    async def sleep_ms(self, ms: int) -> None:
        """Return after ``ms`` hurried milliseconds."""
        await anyio.sleep(max(ms, 0) / 1000 / self._birth.speed)
