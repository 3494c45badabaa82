"""The market's tasks: in time, on call, and patient with a network that fails."""

from contextlib import asynccontextmanager

import anyio
import pytest
from attrs import define

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import RequestVerdict
from compute_bridge.ports.errors import NetworkError, RecordTooLargeError
from compute_bridge_market.serve import Server

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(world):
    """Serve the world's market meanwhile."""
    async with anyio.create_task_group() as tasks:
        ready = anyio.Event()
        server = Server(world.market, world.clock)

        async def run():
            await server.run(ready=ready.set)

        tasks.start_soon(run)
        await world.clock.advance(0)
        with anyio.fail_after(60):
            await ready.wait()
        yield
        tasks.cancel_scope.cancel()


async def pass_time(world, ms):
    """Let time pass in steps, each of which the threads of the book may finish."""
    for _ in range(0, ms, 100):
        await world.clock.advance(100)
        await quiet(world)


async def quiet(world):
    """Return when the market has nothing left to do; its book works in a thread, which no clock waits for."""
    for _ in range(20):
        await world.book.run(lambda _db: None)
        await anyio.wait_all_tasks_blocked()


async def ticks(world):
    return len(await world.all(channels.ALMANAC, AlmanacTick))


async def test_a_tick_stands_before_the_market_is_ready(world):
    async with served(world):
        assert await ticks(world) == 2


async def test_the_market_ticks_once_a_cadence(world):
    async with served(world):
        await pass_time(world, 5000)

        assert await ticks(world) == 7


async def test_what_comes_in_is_taken_without_waiting_for_a_tick(world):
    async with served(world):
        alice = world.requester("alice")
        request, _ = alice.request()
        await world.network.append(channels.INTAKE, b"x", alice.sealed(request))
        await quiet(world)
        verdict = await world.find(channels.REQUEST_VERDICTS, request.hash, RequestVerdict)

        assert verdict.reason == Reason.ADMITTED


async def test_a_request_is_granted_without_anybody_asking_again(world):
    await world.provider("p").sell()
    async with served(world):
        alice = world.requester("alice")
        request, _ = alice.request()
        await world.network.append(channels.INTAKE, b"x", alice.sealed(request))
        await quiet(world)
        await pass_time(world, 2000)

        assert await world.grant(request.hash) is not None


@define
class Weather:
    """Whether the network carries anything; while ``error`` is set, nothing."""

    error: Exception | None = None

    def check(self):
        if self.error is not None:
            raise self.error


class StormyNetwork(MemoryNetwork):
    def __init__(self, weather):
        super().__init__()
        self._weather = weather

    async def append(self, *args, **kwargs):
        self._weather.check()
        return await super().append(*args, **kwargs)

    async def fetch(self, *args, **kwargs):
        self._weather.check()
        return await super().fetch(*args, **kwargs)


class TestInAStorm:
    @pytest.fixture
    def weather(self):
        return Weather()

    @pytest.fixture
    def network(self, weather):
        return StormyNetwork(weather)

    async def test_a_network_that_fails_is_asked_again_until_it_carries(self, world, weather):
        async with served(world):
            weather.error = NetworkError("down")
            await pass_time(world, 10_000)
            weather.error = None
            before = await ticks(world)
            await pass_time(world, 20_000)

            assert await ticks(world) > before

    async def test_a_record_that_no_network_will_carry_ends_the_market(self, world, weather):
        with pytest.raises(ExceptionGroup) as failure:
            await self.serve_too_much(world, weather)

        assert failure.group_contains(RecordTooLargeError)

    async def serve_too_much(self, world, weather):
        async with served(world):
            weather.error = RecordTooLargeError("too large")
            await pass_time(world, 5000)
