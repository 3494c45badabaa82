"""A watch ends with the cause that the record tells, also where that is written after the machine began to end."""

import pytest
from attrs import evolve

from compute_bridge.cloud.machine import Machine, MachineState
from compute_bridge.cloud.places import Seen
from compute_bridge.cloud.tags import OwnedTags, tags_of
from compute_bridge.cloud.watch import CAUSE_MS, Watch
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, InstanceExit
from compute_bridge.ports.errors import NoCapacityError
from compute_bridge.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio

WINDOW_MS = 5000
ID = InstanceId("i-1")


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def watch(clock):
    return Watch(ID, clock, WINDOW_MS)


@pytest.fixture
def ending(order, settings):
    tags = OwnedTags.read(tags_of(order, settings), name=order.ownership.name)
    return Machine(ID, MachineState.ENDING, tags)


def seen(*machines):
    return Seen({machine.id: machine for machine in machines})


async def test_what_lives_is_not_over(watch, clock, ending):
    for state in (MachineState.PENDING, MachineState.RUNNING):
        await clock.advance(CAUSE_MS)

        assert watch.over(seen(evolve(ending, state=state))) is None


async def test_a_machine_that_ends_without_a_cause_is_waited_for(watch, clock, ending):
    first = watch.over(seen(ending))
    await clock.advance(1000)
    told = evolve(ending, exit=InstanceExit(ExitCause.PREEMPTED, UtcMs(1)))

    assert (first, watch.over(seen(told))) == (None, told)


async def test_a_cause_is_not_waited_for_without_end(watch, clock, ending):
    watch.over(seen(ending))
    await clock.advance(CAUSE_MS - 1)
    before = watch.over(seen(ending))
    await clock.advance(1)

    assert (before, watch.over(seen(ending))) == (None, ending)


@pytest.mark.parametrize("changes", [
    {"failure": NoCapacityError("full")},
    {"stays": True},
    {"state": MachineState.GONE},
], ids=["it failed", "only parts are left", "it is gone"])  # fmt: skip
async def test_what_will_not_tell_more_is_over(watch, ending, changes):
    last = evolve(ending, **changes)

    assert watch.over(seen(last)) is last


async def test_an_absence_counts_from_the_last_time_that_it_lived(watch, clock, ending):
    live = evolve(ending, state=MachineState.RUNNING)
    looks = []
    for machines in ((), (live,), (), (live,), ()):
        looks.append(watch.over(seen(*machines)))
        await clock.advance(WINDOW_MS - 1)
    await clock.advance(1)

    assert [*looks, watch.over(seen())] == [None] * 5 + [True]


async def test_listings_that_take_turns_hold_up_no_watch(watch, clock, ending):
    looks = []
    for machines in ((), (ending,), ()):
        looks.append(watch.over(seen(*machines)))
        await clock.advance(WINDOW_MS // 2)

    assert looks == [None, None, True]
