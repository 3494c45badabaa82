"""Waiting for ends: one listing of a rack host a tick, whoever waits."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager

import anyio

from compute_bridge.model.ids import Token
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, InstanceExit
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BackendError
from compute_bridge_baremetal.record import Listing

logger = logging.getLogger(__name__)

Ask = Callable[[Iterable[Token]], Awaitable[Listing]]


class Watch:
    """The waiters of one rack host. Whoever comes first after a tick asks; the others share the answer."""

    def __init__(self, ask: Ask, clock: Clock, *, every_ms: int, place: str) -> None:
        self._ask = ask
        self._place = place
        self._clock = clock
        self._every_ms = every_ms
        self._waiting: Counter[Token] = Counter()
        self._asking = anyio.Lock()
        self._number = 0
        self._latest: Listing | None = None
        self._is_silent = False

    async def until_exit(self, token: Token) -> InstanceExit:
        """Return how the lease ended, once it has; silence is waited out."""
        with self._counted(token):
            seen = 0
            while True:
                seen, listing = await self._newer(seen, token)
                if listing is not None and listing.tells_end(token):
                    return listing.ends.get(token) or _vanished(self._place)
                await self._clock.sleep_ms(self._every_ms)

    @contextmanager
    def _counted(self, token: Token) -> Generator[None]:
        self._waiting[token] += 1
        try:
            yield
        finally:
            self._waiting[token] -= 1
            if not self._waiting[token]:
                del self._waiting[token]

    async def _newer(self, seen: int, token: Token) -> tuple[int, Listing | None]:
        """Return an answer that its caller has not seen, and which speaks of ``token``; None for silence."""
        # A newcomer takes nothing from before it came, but shares what was asked while it queued.
        known = seen or self._number
        async with self._asking:
            speaks_of = self._latest is None or token in self._latest.asked
            if self._number <= known or not speaks_of:
                self._latest = await self._listing()
                self._number += 1
            return self._number, self._latest

    async def _listing(self) -> Listing | None:
        try:
            listing = await self._ask(self._waiting)
        except BackendError as error:
            if not self._is_silent:
                logger.warning("cannot see leases, waiting: %s", error)
            self._is_silent = True
            return None
        if self._is_silent:
            logger.info("%s: answers again", self._place)
        self._is_silent = False
        return listing


def _vanished(place: str) -> InstanceExit:
    return InstanceExit(ExitCause.LOST, UtcMs(0), f"{place} remembers no such lease")
