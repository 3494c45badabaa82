"""One listing of a cloud a tick, whoever waits: what is asked does not grow with the number of leases."""

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BackendError

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Listing(Generic[T]):
    """What ``read`` returns, shared: ``place`` names it in the log."""

    def __init__(self, read: Callable[[], Awaitable[T]], clock: Clock, *, every_ms: int, place: str) -> None:
        self._read = read
        self._clock = clock
        self._every_ms = every_ms
        self._place = place
        self._reading = anyio.Lock()
        self._ticking = anyio.Lock()
        self._begun = 0
        self._number = 0
        self._latest: tuple[T] | None = None
        self._begun_ms = 0
        self._latest_ms = 0
        self._is_silent = False

    @property
    def reads(self) -> int:
        """How many listings were begun."""
        return self._begun

    async def fresh(self) -> T:
        """Return a listing that began after this call; callers that wait together share one.

        :raises BackendError: if it could not be read.
        """
        return await self._after(self._begun)

    async def recent(self) -> T:
        """Return the last listing, or a fresh one where that is more than a tick old.

        :raises BackendError: if a fresh one could not be read.
        """
        if self._latest is not None and self._clock.monotonic_ms() < self._latest_ms + self._every_ms:
            return self._latest[0]
        return await self.fresh()

    async def until(self, look: Callable[[T], R | None], *, patient: bool = False) -> R:
        """Show ``look`` each listing that begins from now on, one a tick, until it returns something.

        What ``look`` raises leaves. Where ``patient``, silence of the cloud is waited out and told once in the log.

        :raises BackendError: if a listing could not be read, unless ``patient``.
        """
        seen = self._begun
        while True:
            try:
                seen, listing = await self._next(seen)
            except BackendError as error:
                if not patient:
                    raise
                self._fall_silent(error)
                continue
            if (answer := look(listing)) is not None:
                return answer

    async def _next(self, seen: int) -> tuple[int, T]:
        async with self._ticking:
            if self._number <= seen:
                # Whoever holds the tick sleeps for all; a waiter that is cancelled leaves the rest of it to the next.
                await self._clock.sleep_ms(self._begun_ms + self._every_ms - self._clock.monotonic_ms())
            listing = await self._after(seen)
            return self._number, listing

    async def _after(self, seen: int) -> T:
        async with self._reading:
            if self._latest is None or self._number <= seen:
                self._begun += 1
                number = self._begun
                begun_ms = self._begun_ms = self._clock.monotonic_ms()
                latest = await self._read()
                self._number, self._latest, self._latest_ms = number, (latest,), begun_ms
                self._speak_again()
            return self._latest[0]

    def _fall_silent(self, error: BackendError) -> None:
        if not self._is_silent:
            logger.warning("cannot see instances, waiting: %s", error)
        self._is_silent = True

    def _speak_again(self) -> None:
        if self._is_silent:
            logger.info("%s: answers again", self._place)
        self._is_silent = False
