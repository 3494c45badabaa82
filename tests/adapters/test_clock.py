"""The system clock tells the machine's time and sleeps by it."""

import time

import anyio
import pytest

from compute_bridge.adapters.clock import SystemClock

pytestmark = pytest.mark.anyio


async def test_utc_is_the_machines():
    before = time.time_ns() // 1_000_000

    assert before <= SystemClock().utc_ms() <= time.time_ns() // 1_000_000


async def test_a_sleep_takes_its_time_by_the_same_clock():
    clock = SystemClock()
    began = clock.monotonic_ms()
    await clock.sleep_ms(20)

    assert clock.monotonic_ms() - began >= 19


async def test_no_time_is_a_checkpoint_that_can_be_cancelled():
    with anyio.CancelScope() as scope:
        scope.cancel()
        await SystemClock().sleep_ms(-5)

    assert scope.cancelled_caught
