"""One listing of a cloud a tick, whoever waits: what is asked does not grow with the number of leases."""

import copy
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
        self._latest: T | BackendError | None = None
        self._begun_ms = clock.monotonic_ms() - every_ms
        self._is_silent = False

    @property
    def reads(self) -> int:
        """How many listings were begun."""
        return self._begun

    async def fresh(self) -> T:
        """Return a listing that began after this call; callers that wait together share one, and its failure.

        :raises BackendError: if it could not be read.
        """
        _, latest = await self._after(self._begun)
        return self._told(latest)

    async def recent(self, *, within_ms: int | None = None) -> T:
        """Return the last listing where it began within a tick, or within ``within_ms``, and else a fresh one.

        :raises BackendError: if a fresh one could not be read.
        """
        age_ms = self._clock.monotonic_ms() - self._begun_ms
        if self._latest is None or age_ms >= (self._every_ms if within_ms is None else within_ms):
            return await self.fresh()
        return self._told(self._latest)

    async def until(self, look: Callable[[T], R | None], *, patient: bool = False) -> R:
        """Show ``look`` each listing that begins from now on, one a tick, until it returns something.

        What ``look`` raises leaves. Where ``patient``, silence of the cloud is waited out and told once in the log.

        :raises BackendError: if a listing could not be read, unless ``patient``.
        """
        seen = self._begun
        while True:
            seen, latest = await self._next(seen)
            if patient and isinstance(latest, BackendError):
                self._fall_silent(latest)
            elif (answer := look(self._told(latest))) is not None:
                return answer

    async def _next(self, seen: int) -> tuple[int, T | BackendError]:
        async with self._ticking:
            if self._number <= seen:
                # Whoever holds the tick sleeps for all; a waiter that is cancelled leaves the rest of it to the next.
                await self._clock.sleep_ms(self._begun_ms + self._every_ms - self._clock.monotonic_ms())
            return await self._after(seen)

    async def _after(self, seen: int) -> tuple[int, T | BackendError]:
        async with self._reading:
            if self._latest is None or self._number <= seen:
                self._begun += 1
                number, begun_ms = self._begun, self._clock.monotonic_ms()
                self._latest = await self._outcome()
                self._number, self._begun_ms = number, begun_ms
            return self._number, self._latest

    async def _outcome(self) -> T | BackendError:
        try:
            latest = await self._read()
        except BackendError as error:
            return error
        self._speak_again()
        return latest

    @staticmethod
    def _told(latest: T | BackendError) -> T:
        if isinstance(latest, BackendError):
            # Many may wait for one listing, and an error that several tasks raise gathers the tracebacks of all.
            raise copy.copy(latest) from latest.__cause__
        return latest

    def _fall_silent(self, error: BackendError) -> None:
        if not self._is_silent:
            logger.warning("cannot see instances, waiting: %s", error)
        self._is_silent = True

    def _speak_again(self) -> None:
        if self._is_silent:
            logger.info("%s: answers again", self._place)
        self._is_silent = False
