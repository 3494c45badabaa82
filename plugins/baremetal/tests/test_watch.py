"""However many wait, a rack host is listed once a tick; and silence is no end."""

from collections.abc import Iterable
from typing import cast

import anyio
import pytest

from compute_bridge.model.ids import Token
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, Instance, InstanceExit
from compute_bridge.ports.errors import CredentialsError, UnavailableError
from compute_bridge.testing.clock import VirtualClock
from compute_bridge_baremetal.record import Listing
from compute_bridge_baremetal.watch import Watch

pytestmark = pytest.mark.anyio

TICK_MS = 2000
TOKENS = [Token(bytes([at]) * 32) for at in range(40)]


class CountedRack:
    """A rack host whose leases a test takes away, and which counts what it is asked."""

    def __init__(self) -> None:
        self.alive = set(TOKENS)
        self.listings = 0
        self.failure: Exception | None = None

    async def listing(self, asked: Iterable[Token]) -> Listing:
        self.listings += 1
        tokens = frozenset(asked)
        await anyio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        ended = InstanceExit(ExitCause.TERMINATED, UtcMs(7))
        # Only that a token is there counts here, not what it is.
        leases = cast("dict[Token, Instance]", dict.fromkeys(self.alive))
        return Listing(tokens, leases, 0, 0, 0, {token: ended for token in tokens - self.alive})


class Waiters:
    """Everybody who waits for a token, and what each was told."""

    def __init__(self, rack: CountedRack) -> None:
        self.clock = VirtualClock()
        self.watch = Watch(rack.listing, self.clock, every_ms=TICK_MS, place="here")
        self.told: dict[Token, InstanceExit] = {}

    async def wait(self, token: Token) -> None:
        self.told[token] = await self.watch.until_exit(token)


@pytest.fixture
def rack() -> CountedRack:
    return CountedRack()


@pytest.fixture
def waiters(rack: CountedRack) -> Waiters:
    return Waiters(rack)


async def test_one_listing_a_tick_feeds_every_waiter(rack: CountedRack, waiters: Waiters):
    async with anyio.create_task_group() as tasks:
        for token in TOKENS:
            tasks.start_soon(waiters.wait, token)
        await waiters.clock.advance(10 * TICK_MS)
        listings = rack.listings
        tasks.cancel_scope.cancel()

    assert listings <= 12


async def test_each_waiter_is_told_of_its_own_end(rack: CountedRack, waiters: Waiters):
    async with anyio.create_task_group() as tasks:
        for token in TOKENS:
            tasks.start_soon(waiters.wait, token)
        await waiters.clock.advance(TICK_MS)
        rack.alive -= set(TOKENS[:3])
        await waiters.clock.advance(2 * TICK_MS)
        told = dict(waiters.told)
        tasks.cancel_scope.cancel()

    assert set(TOKENS[:3]) == set(told)
    assert {exit_.cause for exit_ in told.values()} == {ExitCause.TERMINATED}


async def test_a_newcomer_for_the_dead_is_told_at_once(rack: CountedRack, waiters: Waiters):
    rack.alive.clear()
    await waiters.wait(TOKENS[0])

    assert waiters.told[TOKENS[0]].cause is ExitCause.TERMINATED


@pytest.mark.parametrize("failure", [UnavailableError("down"), CredentialsError("another host key")])
async def test_what_cannot_be_seen_has_not_ended(rack: CountedRack, waiters: Waiters, failure: Exception):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, TOKENS[0])
        await waiters.clock.advance(TICK_MS)
        rack.failure = failure
        rack.alive.clear()
        await waiters.clock.advance(50 * TICK_MS)
        assert waiters.told == {}
        rack.failure = None
        await waiters.clock.advance(TICK_MS)

    assert waiters.told[TOKENS[0]].cause is ExitCause.TERMINATED


async def test_a_silence_is_logged_once(rack: CountedRack, waiters: Waiters, caplog: pytest.LogCaptureFixture):
    rack.failure = UnavailableError("down")
    async with anyio.create_task_group() as tasks:
        for token in TOKENS:
            tasks.start_soon(waiters.wait, token)
        await waiters.clock.advance(20 * TICK_MS)
        tasks.cancel_scope.cancel()

    assert caplog.text.count("cannot see leases, waiting: down") == 1


async def test_a_waiter_that_leaves_takes_no_other_along(rack: CountedRack, waiters: Waiters):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.wait, TOKENS[1])
        async with anyio.create_task_group() as leavers:
            leavers.start_soon(waiters.wait, TOKENS[0])
            await waiters.clock.advance(TICK_MS)
            leavers.cancel_scope.cancel()
        rack.alive.clear()
        await waiters.clock.advance(TICK_MS)

    assert set(waiters.told) == {TOKENS[1]}


async def test_the_dying_have_not_ended_yet():
    answers = [
        Listing(frozenset(TOKENS[:1]), {}, 0, 0, 0, {}, frozenset(TOKENS[:1])),
        Listing(frozenset(TOKENS[:1]), {}, 0, 0, 0, {TOKENS[0]: InstanceExit(ExitCause.EXITED, UtcMs(3))}),
    ]

    async def ask(_asked: Iterable[Token]) -> Listing:
        return answers.pop(0)

    clock = VirtualClock()
    told: list[InstanceExit] = []

    async def wait() -> None:
        told.append(await Watch(ask, clock, every_ms=TICK_MS, place="here").until_exit(TOKENS[0]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await clock.advance(TICK_MS)

    assert [ExitCause.EXITED] == [exit_.cause for exit_ in told]


async def test_what_the_rack_host_forgot_is_lost():
    async def forgetful(asked: Iterable[Token]) -> Listing:
        return Listing(frozenset(asked), {}, 0, 0, 0)

    watch = Watch(forgetful, VirtualClock(), every_ms=TICK_MS, place="rack host m0")
    lost = InstanceExit(ExitCause.LOST, UtcMs(0), "rack host m0 remembers no such lease")

    assert lost == await watch.until_exit(TOKENS[0])
