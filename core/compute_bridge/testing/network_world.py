"""What stands behind a network under test, and what its suite asks of it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TypeVar

import anyio
from anyio.lowlevel import checkpoint

from compute_bridge.ports.network import Network

T = TypeVar("T")


class NetworkWorld(ABC):
    """One network, empty at first, with as many clients as a test opens. One world serves one test."""

    patience_s: float = 20.0
    """Real seconds after which what should have happened is taken to have failed."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Network]:
        """Open a client as the plugin's own opener does; records outlive it."""

    async def cut(self) -> None:
        """Break the connection of every client once, as an outage does; where there is none, nothing happens."""
        await checkpoint()


@asynccontextmanager
async def within(world: NetworkWorld) -> AsyncIterator[None]:
    """Fail a test that takes longer than its world allows."""
    with anyio.fail_after(world.patience_s):
        yield


async def take(generator: AsyncIterator[T], count: int) -> list[T]:
    """Return the next ``count`` values."""
    return [await anext(generator) for _ in range(count)]


async def read_all(network: Network, stream: str) -> list[tuple[int, bytes, bytes]]:
    """Return the whole stream, page by page, as (sequence, id, record)."""
    found: list[tuple[int, bytes, bytes]] = []
    while page := await network.fetch(stream, after=len(found)):
        found.extend((entry.sequence, entry.record_id, entry.record) for entry in page)
    return found


async def follow_some(network: Network, stream: str, count: int, *, after: int = 0) -> list[int]:
    """Follow the stream from ``after`` for ``count`` entries and return their sequences."""
    async with aclosing(network.follow(stream, after=after)) as entries:
        return [entry.sequence for entry in await take(entries, count)]
