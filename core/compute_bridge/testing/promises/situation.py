"""What every test of a backend stands on: the world, a backend, an order, and patience."""

import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import pytest
from anyio.abc import TaskGroup
from blockbuster import BlockBuster

from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import HOUR_MS
from compute_bridge.ports.backend import Backend, Instance, InstanceExit, Offer, Order
from compute_bridge.ports.errors import NotYetTerminatedError
from compute_bridge.testing.world import World

Power = TypeVar("Power")

_ASK_AGAIN_MS = 1000


class Situation:
    """The fixtures of the suite. A subclass of the suite gives ``world``; the rest follows from it."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, as the bridge does."""
        return "asyncio"

    @pytest.fixture
    def world(self) -> World:
        """Return a fresh World; every subclass of the suite gives its own."""
        pytest.fail(f"{type(self).__name__} has no fixture 'world': add one that returns a new World", pytrace=False)

    @pytest.fixture(autouse=True)
    def nothing_blocks(self, world: World) -> Generator[None]:
        """Fail a test in which the code under test blocks the event loop."""
        scanned = world.scanned()
        # The suite waits on purpose, and a World may do slow work in a lever.
        own = [sys.modules[type(world).__module__], sys.modules[__package__]]
        detector = BlockBuster(list(scanned), excluded_modules=[module for module in own if module not in scanned])
        detector.activate()
        try:
            yield
        finally:
            detector.deactivate()

    @pytest.fixture
    async def backend(self, world: World) -> AsyncGenerator[Backend]:
        """Open a backend on the world."""
        async with world.open() as backend:
            yield backend

    @pytest.fixture
    async def offer(self, world: World, backend: Backend) -> Offer:
        """Return the first offer of a world that has everything free."""
        async with patience(world, "list its offers"):
            offers = await backend.offers()
        assert offers, "a fresh World offers nothing: let it start with capacity"
        assert offers[0].runs(world.image()), (
            f"offer {offers[0].id} does not run World.image(): return one that it does"
        )
        return offers[0]

    @pytest.fixture
    def order(self, world: World, offer: Offer) -> Order:
        """Return a valid order for that offer."""
        return world.order(offer)

    @pytest.fixture
    async def instance(self, world: World, backend: Backend, order: Order) -> Instance:
        """Return the machine of that order."""
        return await make(world, backend, order)


def power(of: World | Backend, kind: type[Power]) -> Power:
    """Return a world or a backend as one that has the power ``kind``, or skip the test."""
    if not isinstance(of, kind):
        pytest.skip(f"{type(of).__name__} is no {kind.__name__}")
    return of


@asynccontextmanager
async def patience(world: World, doing: str) -> AsyncGenerator[None]:
    """Fail the test where the block takes longer than the world's patience."""
    with anyio.move_on_after(world.patience_s) as scope:
        yield
    if scope.cancelled_caught:
        raise AssertionError(f"the backend did not {doing} within {world.patience_s} s (World.patience_s)")


async def make(world: World, backend: Backend, order: Order) -> Instance:
    """Provision and wait until every process can see it."""
    async with patience(world, "provision"):
        instance = await backend.provision(order)
    await settle(world, backend)
    return instance


async def end(world: World, backend: Backend, instance: InstanceId) -> None:
    """Terminate as :func:`terminate` does, and wait until every process can see it."""
    await terminate(world, backend, instance)
    await settle(world, backend)


async def terminate(world: World, backend: Backend, instance: InstanceId) -> None:
    """Terminate, asking again for as long as the backend says that the machine is still going away."""
    async with patience(world, "terminate"):
        while True:
            try:
                await backend.terminate(instance)
            except NotYetTerminatedError:
                await world.clock.sleep_ms(_ASK_AGAIN_MS)
            else:
                break


async def settle(world: World, backend: Backend) -> None:
    """Wait until ``find`` and ``list_owned`` may no longer be behind."""
    await world.clock.sleep_ms(backend.consistency_window_ms)


async def a_moment(world: World) -> None:
    """Wait for as long as something that must not happen would need to happen, and let the world's clock hurry on."""
    with anyio.move_on_after(world.moment_s):
        await world.clock.sleep_ms(HOUR_MS)


@asynccontextmanager
async def tasks_of_a_test() -> AsyncGenerator[TaskGroup]:
    """Run tasks beside the block; one error alone leaves as itself, so that a report shows it and no group."""
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except ExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


class Watch:
    """One ``watch_until_exit`` in a task of its own."""

    def __init__(self, world: World, backend: Backend, instance: InstanceId) -> None:
        self._world = world
        self._backend = backend
        self._instance = instance
        self._ended = anyio.Event()
        self.seen: InstanceExit | None = None

    async def run(self) -> None:
        """Watch until the end."""
        self.seen = await self._backend.watch_until_exit(self._instance)
        self._ended.set()

    async def exit(self) -> InstanceExit:
        """Return what the watch saw, once it has."""
        async with patience(self._world, f"end the watch of {self._instance}"):
            await self._ended.wait()
        assert self.seen is not None
        return self.seen


@asynccontextmanager
async def watching(
    world: World, backend: Backend, instance: InstanceId, *, times: int = 1
) -> AsyncGenerator[list[Watch]]:
    """Run watches of one machine beside the block, and give them a moment to begin."""
    watches = [Watch(world, backend, instance) for _ in range(times)]
    async with tasks_of_a_test() as tasks:
        for watch in watches:
            tasks.start_soon(watch.run)
        await a_moment(world)
        yield watches
        tasks.cancel_scope.cancel()
