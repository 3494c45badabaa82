"""A backend that fails, floods or babbles about interruptions keeps the bridge neither busy nor silent."""

from contextlib import asynccontextmanager

import anyio
import pytest

from compute_bridge.host.notices import LEAST_MS, LONGEST_MS, MOST, NoticeReader
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.errors import UnavailableError
from compute_bridge.ports.notices import Interruption, SupportsNotices
from compute_bridge.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio

SPOT = BackendName("spot")
ONE = Interruption(InstanceId("i-1"), UtcMs(0))


class Source(SupportsNotices):
    def __init__(self, answer):
        self.answer = answer
        self.asked = 0

    async def next_notices(self):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def reading(source):
    """Run a reader; what it hands on is in the list."""
    taken, clock = [], VirtualClock()

    async def take(backend, one):
        taken.append((backend, one))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(NoticeReader(SPOT, source, clock, take).run)
        await clock.advance(0)
        yield taken, clock
        tasks.cancel_scope.cancel()


async def test_a_backend_that_answers_at_once_is_asked_once_a_second():
    source = Source((ONE,))
    async with reading(source) as (taken, clock):
        await clock.advance(10 * LEAST_MS)

    assert (11, [(SPOT, ONE)] * 11) == (source.asked, taken)


async def test_a_backend_that_fails_is_asked_less_and_less_and_told_of_once(caplog):
    source = Source(UnavailableError("backend spot: away"))
    async with reading(source) as (taken, clock):
        for _ in range(600):
            await clock.advance(1000)
        source.answer = (ONE,)
        failed = source.asked
        await clock.advance(LONGEST_MS)

    assert failed <= 16
    assert (SPOT, ONE) in taken
    assert 1 == caplog.text.count("no interruption notices just now")


@pytest.mark.parametrize("answer", [None, "text", [ONE], ZeroDivisionError("a plugin's own fault")])
async def test_a_wrong_answer_is_a_fault_of_the_backend_and_stops_nothing(answer, caplog):
    source = Source(answer)
    async with reading(source) as (taken, clock):
        source.answer = (ONE,)
        await clock.advance(10 * LEAST_MS)

    assert "backend spot: no interruption notices just now" in caplog.text
    assert (SPOT, ONE) == taken[0]


async def test_what_is_sound_is_handed_on_and_the_rest_is_left():
    class Sly(Interruption):
        pass

    broken = Interruption(InstanceId("i-2"), UtcMs(0))
    object.__setattr__(broken, "instance", 7)
    async with reading(Source((None, Sly(InstanceId("i-3"), UtcMs(0)), broken, ONE))) as (taken, _):
        pass

    assert [(SPOT, ONE)] == taken


async def test_a_flood_is_cut_off(caplog):
    async with reading(Source((ONE,) * (MOST + 5))) as (taken, _):
        pass

    assert MOST == len(taken)
    assert "too many" in caplog.text
