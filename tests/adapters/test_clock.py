"""The system clock tells the machine's time and sleeps by it."""

import os
import subprocess
import sys
import time

import anyio
import pytest

from compute_bridge.adapters.clock import SystemClock

pytestmark = pytest.mark.anyio


async def test_utc_is_the_machines():
    before = time.time_ns() // 1_000_000

    assert before <= SystemClock().utc_ms() <= time.time_ns() // 1_000_000


_SLEPT_S = 7200
_ASLEEP = """
import time
from compute_bridge.adapters.clock import SystemClock
print(SystemClock().monotonic_ms() - time.monotonic_ns() // 1_000_000)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to a clock of its own")
async def test_the_time_that_the_machine_slept_counts():
    command = ["unshare", "--time", "--boottime", str(_SLEPT_S), sys.executable, "-c", _ASLEEP]
    done = await anyio.to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, text=True))
    assert 0 == done.returncode, done.stderr

    # Two readings of two clocks, each rounded down.
    assert int(done.stdout) >= 1000 * _SLEPT_S - 1


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
