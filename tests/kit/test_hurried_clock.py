"""The hurried clock hurries waits, and nothing else."""

import time

import anyio
import pytest

from compute_bridge.testing.hurried_clock import HurriedClock

pytestmark = pytest.mark.anyio


class Wall:
    """The wall's clock, which goes on by whatever a slow machine takes."""

    def __init__(self):
        self.ms = 0

    async def go_on(self, by_ms):
        while True:
            await anyio.sleep(0.0005)
            self.ms += by_ms


@pytest.fixture
def wall(monkeypatch):
    wall = Wall()
    monkeypatch.setattr("compute_bridge.testing.hurried_clock.time.monotonic_ns", lambda: wall.ms * 1_000_000)
    return wall


async def slept(clock, wall, ms, *, by_ms=1):
    """Sleep while the wall goes on, and return how long that took by the wall."""
    began_ms = wall.ms
    async with anyio.create_task_group() as group:
        group.start_soon(wall.go_on, by_ms)
        await clock.sleep_ms(ms)
        group.cancel_scope.cancel()
    return wall.ms - began_ms


async def test_a_wait_takes_a_hundredth(wall):
    clock = HurriedClock()

    assert 10 <= await slept(clock, wall, 1000) < 500
    assert 1000 <= clock.monotonic_ms() < 1500


async def test_work_is_not_hurried(wall):
    clock = HurriedClock()
    born_ms = clock.utc_ms()
    wall.ms += 3000

    assert clock.monotonic_ms() == 3000
    assert clock.utc_ms() - born_ms == 3000


async def test_no_time_passes_a_waiter_that_has_not_woken_yet(wall):
    clock = HurriedClock()
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep_ms, 60_000)
        await anyio.wait_all_tasks_blocked()
        wall.ms += 3000
        assert clock.monotonic_ms() == 60_000


async def test_a_slow_machine_leaves_out_no_tick(wall):
    clock = HurriedClock()
    ticks = []

    async def tick():
        while True:
            await clock.sleep_ms(1000)
            ticks.append(clock.monotonic_ms())

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await slept(clock, wall, 5500, by_ms=100)
        group.cancel_scope.cancel()

    assert len(ticks) >= 4


async def test_a_waiter_that_is_cancelled_holds_nothing_up(wall):
    clock = HurriedClock()
    with anyio.move_on_after(0):
        await clock.sleep_ms(1000)

    assert 200 <= await slept(clock, wall, 20_000) < 10_000


async def test_a_jump_moves_the_wall_time_alone(wall):
    clock = HurriedClock(speed=1)
    born_ms = clock.utc_ms()
    clock.jump_utc(-3_600_000)

    assert clock.utc_ms() == born_ms - 3_600_000
    assert clock.monotonic_ms() == 0


async def test_at_the_speed_of_the_wall_a_wait_takes_what_it_says(wall):
    assert await slept(HurriedClock(speed=1), wall, 50) >= 50


def test_the_clock_is_born_at_the_time_of_the_wall():
    before_ms = time.time_ns() // 1_000_000

    assert HurriedClock().utc_ms() >= before_ms
