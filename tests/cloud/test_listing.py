"""One listing a tick, whoever waits for it."""

import logging

import anyio
import pytest

from compute_bridge.cloud.listing import Listing
from compute_bridge.ports.errors import ThrottledError, UnavailableError
from compute_bridge.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio


class Account:
    """Lists how often it was asked; silent while ``error`` is set, slow while ``takes_ms``."""

    def __init__(self, clock):
        self.clock = clock
        self.asked = 0
        self.error = None
        self.takes_ms = 0

    async def list(self):
        self.asked += 1
        asked = self.asked
        await self.clock.sleep_ms(self.takes_ms)
        if self.error is not None:
            raise self.error
        return asked


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def account(clock):
    return Account(clock)


@pytest.fixture
def listing(account, clock):
    return Listing(account.list, clock, every_ms=5000, place="backend toy")


async def test_those_who_wait_share_one_listing_a_tick(clock, listing, account):
    seen = {}

    async def wait(name):
        seen[name] = await listing.until(lambda asked: asked if asked >= 3 else None)

    async with anyio.create_task_group() as tasks:
        for name in range(100):
            tasks.start_soon(wait, name)
        for _ in range(3):
            await clock.advance(5000)

    assert seen == dict.fromkeys(range(100), 3)
    assert account.asked == listing.reads == 3


async def test_no_listing_comes_before_its_tick(clock, listing, account):
    await listing.fresh()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listing.until, lambda asked: asked >= 2 or None)
        await clock.advance(4999)
        early = account.asked
        await clock.advance(1)

    assert (early, account.asked) == (1, 2)


async def test_a_fresh_listing_begins_after_the_question(clock, listing, account):
    account.takes_ms = 100
    told = []

    async def ask():
        told.append(await listing.fresh())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await clock.advance(50)
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await clock.advance(200)

    assert told == [1, 2, 2]


async def test_a_recent_listing_is_asked_for_once_a_tick(clock, listing, account):
    first = await listing.recent()
    await clock.advance(4999)
    second = await listing.recent()
    await clock.advance(1)
    third = await listing.recent()

    assert [first, second, third] == [1, 1, 2]


async def test_a_recent_listing_may_have_to_be_more_recent(clock, listing, account):
    await listing.recent()
    await clock.advance(1000)

    assert await listing.recent(within_ms=1000) == 2


async def test_a_failed_listing_is_not_taken_for_a_recent_one(clock, listing, account):
    await listing.fresh()
    await clock.advance(4000)
    account.error = UnavailableError("silence")
    with pytest.raises(UnavailableError):
        await listing.fresh()
    await clock.advance(100)

    with pytest.raises(UnavailableError):
        await listing.recent()
    assert account.asked == 2


async def test_the_tick_passes_on_when_its_holder_is_cancelled(clock, listing, account):
    await listing.fresh()
    seen = []

    async def wait(scope):
        with scope:
            seen.append(await listing.until(lambda asked: asked))

    async with anyio.create_task_group() as tasks:
        holder = anyio.CancelScope()
        tasks.start_soon(wait, holder)
        await clock.advance(1000)
        tasks.start_soon(wait, anyio.CancelScope())
        await clock.advance(1000)
        holder.cancel()
        await clock.advance(2999)
        early = list(seen)
        await clock.advance(1)

    assert early == []
    assert seen == [2]


async def test_a_listing_that_is_cancelled_halfway_is_read_again(clock, listing, account):
    account.takes_ms = 100
    told = []

    async def ask(scope):
        with scope:
            told.append(await listing.fresh())

    async with anyio.create_task_group() as tasks:
        reader = anyio.CancelScope()
        tasks.start_soon(ask, reader)
        await clock.advance(50)
        tasks.start_soon(ask, anyio.CancelScope())
        await clock.advance(10)
        reader.cancel()
        await clock.advance(100)

    assert told == [2]


async def test_a_failure_is_shared_and_nobody_asks_again_before_the_tick(clock, listing, account):
    account.error = ThrottledError("wait", retry_after_s=7.0)
    account.error.__cause__ = OSError("the wire")
    raised = []

    async def wait():
        try:
            await listing.until(lambda asked: asked)
        except ThrottledError as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(wait)
        await clock.advance(0)

    assert account.asked == 1
    assert [(error.retry_after_s, str(error), error.__cause__) for error in raised] == [
        (7.0, "wait", account.error.__cause__)
    ] * 50
    assert len({id(error) for error in raised}) == 50


async def test_the_patient_wait_out_silence_and_say_so_once(clock, listing, account, caplog):
    account.error = UnavailableError("backend toy: no answer")
    seen = []

    async def wait():
        seen.append(await listing.until(lambda asked: asked, patient=True))

    with caplog.at_level(logging.INFO):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            for _ in range(3):
                await clock.advance(5000)
            asked = account.asked
            account.error = None
            await clock.advance(5000)

    # The first listing is at once, for nobody has listed before.
    assert asked <= 4
    assert seen == [asked + 1] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "cannot see instances, waiting: backend toy: no answer",
        "backend toy: answers again",
    ]


async def test_what_a_look_raises_leaves(listing):
    def look(asked):
        raise UnavailableError(f"seen {asked}")

    with pytest.raises(UnavailableError, match="seen 1"):
        await listing.until(look, patient=True)
