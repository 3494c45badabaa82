"""The virtual clock moves when told, and wakes sleepers in one order."""

import anyio
import pytest

from compute_bridge.ports.clock import poll
from compute_bridge.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock():
    return VirtualClock(utc_ms=1_000)


async def test_time_stands_still_until_it_is_advanced(clock):
    assert (clock.utc_ms(), clock.monotonic_ms()) == (1_000, 0)
    await clock.advance(250)

    assert (clock.utc_ms(), clock.monotonic_ms()) == (1_250, 250)


async def test_sleepers_wake_by_their_ends_then_their_beginnings(clock):
    woken = []

    async def sleep(name, ms):
        await clock.sleep_ms(ms)
        woken.append((name, clock.monotonic_ms()))

    async with anyio.create_task_group() as group:
        for name, ms in (("late", 30), ("soon", 10), ("middle", 20), ("also soon", 10)):
            group.start_soon(sleep, name, ms)
            await anyio.wait_all_tasks_blocked()
        await clock.advance(29)
        assert woken == [("soon", 10), ("also soon", 10), ("middle", 20)]
        assert clock.sleeping == 1
        await clock.advance(1)

    assert woken[-1] == ("late", 30)


async def test_one_who_sleeps_again_wakes_again_within_one_advance(clock):
    times = []

    async def tick():
        while True:
            await clock.sleep_ms(10)
            times.append(clock.monotonic_ms())

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await clock.advance(35)
        group.cancel_scope.cancel()

    assert times == [10, 20, 30]


async def test_a_jump_of_the_wall_time_wakes_nobody(clock):
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep_ms, 10)
        await anyio.wait_all_tasks_blocked()
        clock.jump_utc(-3_600_000)

        assert clock.utc_ms() == 1_000 - 3_600_000
        assert clock.monotonic_ms() == 0
        assert clock.sleeping == 1
        group.cancel_scope.cancel()


async def test_a_cancelled_sleeper_is_forgotten(clock):
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep_ms, 10)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert clock.sleeping == 0


async def test_polling_asks_at_once_and_then_at_intervals(clock):
    asked = []

    async def probe():
        asked.append(clock.monotonic_ms())
        return "ready" if len(asked) == 3 else None

    async def wait():
        answers.append(await poll(clock, 100, probe))

    answers: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await clock.advance(1_000)

    assert answers == ["ready"]
    assert asked == [0, 100, 200]
