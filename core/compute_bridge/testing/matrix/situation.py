"""What every test of the fault matrix stands on: a cloud, and that nothing is left in it."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import pytest

from compute_bridge.ports.backend import Backend, Offer
from compute_bridge.testing.physics.world import CloudWorld
from compute_bridge.testing.promises.situation import Situation, patience, tasks_of_a_test

_SLOW_MS = 120_000
_OVER_MS = 10_000
_TICKS_MS = 20_000


class CloudSituation(Situation):
    """The fixtures of the fault matrix; a subclass gives ``world``, a :class:`CloudWorld`."""

    @pytest.fixture(autouse=True)
    async def nothing_is_left(self, world: CloudWorld) -> AsyncGenerator[None]:
        """Count at the fake, when a test has ended, what it left: machines, and whatever was made for one."""
        yield
        await world.come_back()
        await world.accept_credentials()
        await world.let_pass(max(_OVER_MS, world.physics.ending_ms))

        left = [f"machine {one.id}, {one.state}" for one in world.physics.existing()]
        left += [f"{one.kind} {one.id}" for one in world.physics.leftovers()]
        assert not left, f"this is left at the cloud: {', '.join(left)}"


async def offers_of(world: CloudWorld, backend: Backend) -> list[Offer]:
    """Return what is offered and runs the world's image."""
    async with patience(world, "list its offers"):
        return [offer for offer in await backend.offers() if offer.runs(world.image())]


def slow_ms(backend: Backend) -> int:
    """Return how long a slow call takes: two minutes, and longer than whoever has abandoned it waits for a listing."""
    return _SLOW_MS + backend.consistency_window_ms


async def abandons(
    world: CloudWorld, backend: Backend, op: str, call: Callable[[], Awaitable[object]], doing: str
) -> bool:
    """Return whether ``call``, cancelled while the cloud's call ``op`` is under way and slow, ended before that did."""
    slow = world.physics.hold_next_call(op)
    ended: list[bool] = []

    async def run() -> None:
        try:
            await call()
        finally:
            ended.append(True)

    async with patience(world, doing), tasks_of_a_test() as tasks:
        tasks.start_soon(run)
        await slow.reached.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await world.let_pass(slow_ms(backend))
            was_abandoned = bool(ended)
            slow.release()
    return was_abandoned


def silent_ms(backend: Backend) -> int:
    """Return how long a silence lasts that nobody may take for an end: some ticks beyond the consistency window."""
    return _TICKS_MS + backend.consistency_window_ms


def place_of(offer: Offer) -> str:
    """Return the narrowest place of an offer."""
    return offer.zone or offer.region
