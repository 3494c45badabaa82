"""``market serve``: the market's tasks, in one group that ends together."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import anyio
from attrs import define, field

from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import NetworkError, RecordTooLargeError
from compute_bridge_market.book import BookError
from compute_bridge_market.market import Market

T = TypeVar("T")

logger = logging.getLogger(__name__)

LONGEST_WAIT_MS = 15_000


@define
class Server:
    """Runs a market: a tick each cadence, a turn whenever something comes in.

    A network or a disk that refuses is asked again, later and later: what was not booked has not happened.
    """

    market: Market
    clock: Clock
    _came: anyio.Event = field(factory=anyio.Event, init=False)

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Serve until cancelled; ``ready`` is called once the first tick stands."""
        await self._insist(self.market.recover)
        await self._insist(self.market.tick)
        async with anyio.create_task_group() as tasks:
            for stream in self.market.streams:
                tasks.start_soon(self._listen, stream)
            tasks.start_soon(self._take_turns)
            ready()
            await self._keep_time()

    async def _keep_time(self) -> None:
        cadence = self.market.publisher.module.config.cadence_ms
        due = self.clock.monotonic_ms() + cadence
        while True:
            await self.clock.sleep_ms(due - self.clock.monotonic_ms())
            await self._insist(self.market.tick)
            # A late tick is not made up for: the almanac counts rounds, not seconds.
            due = max(due + cadence, self.clock.monotonic_ms())

    async def _take_turns(self) -> None:
        while True:
            self._came = anyio.Event()
            while await self._insist(self.market.turn):
                pass
            await self._came.wait()

    async def _listen(self, stream: str) -> None:
        while True:
            await self._insist(lambda: self._hear(stream))

    async def _hear(self, stream: str) -> None:
        after = await self.market.book.position(stream)
        async with aclosing(self.market.publisher.network.follow(stream, after=after)) as entries:
            async for _ in entries:
                self._came.set()

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        wait = self.market.publisher.module.config.cadence_ms
        while True:
            try:
                return await work()
            except RecordTooLargeError:
                raise
            except (NetworkError, BookError) as error:
                logger.warning("again in %d ms: %s", wait, error)
            await self.clock.sleep_ms(wait)
            wait = min(2 * wait, LONGEST_WAIT_MS)
