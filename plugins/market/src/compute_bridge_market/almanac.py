"""The almanac: the market's clock, one signed tick after the other."""

import logging
from collections.abc import Callable
from typing import TypeVar

from attrs import define, field

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.units import Tick, UtcMs
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import MarketError, RecordConflictError, TailMovedError
from compute_bridge.ports.network import Entry, Network
from compute_bridge.wire.signing import Signed
from compute_bridge_market.publishing import Publisher

T = TypeVar("T")

logger = logging.getLogger(__name__)

RANDOM_BYTES = 32
_PAGE = 64
_TRIES = 64


@define
class Almanac:
    """The latest tick, and how the next one is made. ``draw`` gives that many random bytes."""

    publisher: Publisher
    clock: Clock
    draw: Callable[[int], bytes]
    latest: Signed[AlmanacTick] | None = field(default=None, init=False)

    @property
    def now(self) -> Tick:
        """The number of the latest tick, 0 before the first."""
        return self.latest.value.tick if self.latest else Tick(0)

    async def catch_up(self) -> None:
        """Read where the almanac stands."""
        self.latest = await last_own(self.publisher, channels.ALMANAC, AlmanacTick)

    async def advance(self) -> Signed[AlmanacTick]:
        """Publish the next tick and return it; where another leader was faster, its tick is the one.

        :raises MarketError: if others hold the ids of too many ticks to come.
        """
        network, before = self.publisher.network, self.now
        for skipped in range(_TRIES):
            tail = await network.tail(channels.ALMANAC)
            await self.catch_up()
            if self.latest is not None and self.now > before:
                return self.latest
            tick = self.publisher.sign(self._next(skipped))
            try:
                await network.append(channels.ALMANAC, channels.number(tick.value.tick), tick.raw, expect_last=tail)
            except (TailMovedError, RecordConflictError) as error:
                logger.warning("almanac: tick %d was not taken: %s", tick.value.tick, error)
                continue
            self.latest = tick
            return tick
        raise MarketError(f"almanac: ticks after {before} are held by others; let only the market write its streams")

    async def find(self, tick: Tick) -> Signed[AlmanacTick] | None:
        """Return a past tick."""
        return await self.publisher.find(channels.ALMANAC, channels.number(tick), AlmanacTick)

    def _next(self, skipped: int) -> AlmanacTick:
        before = self.latest
        return AlmanacTick(
            tick=Tick(self.now + 1 + skipped),
            cadence_ms=self.publisher.module.config.cadence_ms,
            utc_ms=UtcMs(max(0, self.clock.utc_ms())),
            random=self.draw(RANDOM_BYTES),
            previous=before.hash if before else bytes(32),
        )


async def last_own(publisher: Publisher, stream: str, cls: type[T]) -> Signed[T] | None:
    """Return the last record of a stream that is the market's own, passing over what others left there."""
    end = await publisher.network.tail(stream)
    while end > 0:
        start = max(0, end - _PAGE)
        for entry in reversed(await _page(publisher.network, stream, start, end)):
            found = publisher.own(stream, entry, cls)
            if found is not None:
                return found
        end = start
    return None


async def _page(network: Network, stream: str, start: int, end: int) -> list[Entry]:
    """Return the entries after ``start`` up to ``end``; one fetch may bring fewer than it was asked for."""
    page: list[Entry] = []
    while start < end:
        page += await network.fetch(stream, after=start, limit=end - start)
        if not page or page[-1].sequence == start:
            break
        start = page[-1].sequence
    return page
