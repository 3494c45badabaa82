"""The physics of a cloud: every lever, every refusal, and what is true of machines and of what was made for them."""

import threading

import anyio
import pytest

from compute_bridge.testing.clock import VirtualClock
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Code, Deadline, Refusal, State, Then, Why

ZONES = {"north": ("north-a", "north-b"), "south": ("south-a",)}
DOCUMENT = b"""#cloud-config
{"runcmd": [["systemctl", "enable", "--now", "end.timer"]],
 "write_files": [
  {"path": "/etc/systemd/system/end.service", "content": "ExecStart=systemctl poweroff"},
  {"path": "/etc/systemd/system/end.timer", "content": "[Timer]\\nOnCalendar=%s UTC\\n"}]}
"""
# The virtual clock's beginning, and a minute later.
BEGIN = 1_700_000_000_000
MINUTE_ON = b"2023-11-14 22:14:20"

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock():
    return VirtualClock(utc_ms=BEGIN)


@pytest.fixture
def make(clock):
    def make(**settings):
        return Physics(clock, zones=ZONES, **{"boot_ms": 1000, "ending_ms": 500, "remember_ms": 10_000, **settings})

    return make


@pytest.fixture
def physics(make):
    return make()


def launch(physics, **wanted):
    return physics.launch(**{"region": "north", "zone": "north-a", "shape": "small", **wanted})


def machine(physics, **wanted):
    return launch(physics, **wanted).machine


def refused(code, call, *args, **kwargs):
    with pytest.raises(Refusal) as caught:
        call(*args, **kwargs)
    assert caught.value.code is code
    return caught.value


def state(physics, of):
    return next(one.state for one in physics.made() if one.id == of.id)


# --- the life of a machine ----------------------------------------------------------------------


async def test_a_machine_boots_runs_ends_and_is_remembered_for_a_while(clock, physics):
    made = machine(physics)
    seen = [state(physics, made)]
    await clock.advance(1000)
    seen.append(state(physics, made))
    physics.end(made.id)
    seen.append(state(physics, made))
    await clock.advance(500)
    seen.append(physics.get(made.id).state)
    await clock.advance(10_000)

    assert seen == [State.PENDING, State.RUNNING, State.ENDING, State.GONE]
    assert physics.listed() == ()
    refused(Code.NOT_FOUND, physics.get, made.id)
    assert state(physics, made) is State.GONE


async def test_the_moments_are_kept(clock, physics):
    made = machine(physics)
    await clock.advance(5000)
    physics.end(made.id, code="because")
    await clock.advance(5000)
    [seen] = physics.made()

    assert (seen.created_ms, seen.running_ms) == (BEGIN, BEGIN + 1000)
    assert (seen.ended_ms, seen.gone_ms) == (BEGIN + 5000, BEGIN + 5500)
    assert (seen.end.why, seen.end.code) == (Why.API, "because")


async def test_what_ended_before_it_booted_never_ran(clock, physics):
    made = machine(physics)
    physics.end(made.id)
    await clock.advance(5000)

    assert physics.get(made.id).running_ms == 0


async def test_a_second_end_changes_nothing(clock, physics):
    made = machine(physics)
    await clock.advance(2000)
    physics.kill(made.id)
    await clock.advance(100)
    physics.end(made.id)
    await clock.advance(5000)

    assert physics.get(made.id).end.why is Why.CRASHED
    assert physics.get(made.id).ended_ms == BEGIN + 2000


async def test_a_jump_of_the_bridges_clock_does_not_reach_it(clock, physics):
    made = machine(physics, deadline=Deadline(BEGIN + 60_000))
    clock.jump_utc(10**9)

    assert physics.now_ms() == BEGIN
    assert state(physics, made) is State.PENDING


async def test_a_listing_misses_what_is_new(clock, make):
    physics = make(propagation_ms=3000)
    made = machine(physics)
    await clock.advance(2999)
    missed = physics.listed()
    refused(Code.NOT_FOUND, physics.get, made.id)
    there = physics.existing()
    await clock.advance(1)

    assert missed == ()
    assert [one.id for one in there] == [one.id for one in physics.listed()] == [made.id]


async def test_a_listing_may_be_of_one_place(physics):
    here, beside = machine(physics), machine(physics, zone="north-b")
    there = machine(physics, region="south", zone="south-a")

    assert {one.id for one in physics.listed(region="north")} == {here.id, beside.id}
    assert {one.id for one in physics.listed(zone="south-a")} == {there.id}


async def test_tags_and_documents_can_be_replaced(physics):
    made = machine(physics, tags={"a": "1"}, document={"b": 2})
    physics.retag(made.id, {"c": "3"})
    physics.amend(made.id, {"d": 4})

    assert (physics.get(made.id).tags, physics.get(made.id).document) == ({"c": "3"}, {"d": 4})


async def test_an_id_that_nobody_ever_had_is_not_found(physics):
    for call in (physics.end, physics.get, physics.kill, physics.shut_down, physics.preempt):
        refused(Code.NOT_FOUND, call, "m-404")


# --- tokens and names ---------------------------------------------------------------------------


async def test_a_token_makes_one_machine(physics):
    first, second = launch(physics, token="t", digest="d"), launch(physics, token="t", digest="d")

    assert (first.is_new, second.is_new) == (True, False)
    assert first.machine == second.machine
    assert len(physics.existing()) == 1


async def test_a_token_with_other_parameters_is_a_mismatch(physics):
    made = machine(physics, token="t", digest="d")

    refusal = refused(Code.TOKEN_MISMATCH, launch, physics, token="t", digest="other")
    assert refusal.machine.id == made.id


async def test_a_token_whose_machine_has_ended_is_used_up(clock, physics):
    made = machine(physics, token="t", digest="d")
    physics.end(made.id)
    refused(Code.TOKEN_USED_UP, launch, physics, token="t", digest="d")
    await clock.advance(10**6)

    refusal = refused(Code.TOKEN_USED_UP, launch, physics, token="t", digest="d")
    assert refusal.machine.id == made.id
    assert physics.existing() == ()


async def test_without_tokens_every_launch_makes_one(physics):
    assert machine(physics).id != machine(physics).id


async def test_a_name_is_had_once_in_its_scope_until_its_machine_is_gone(clock, physics):
    made = machine(physics, name="cb", name_scope="north-a")
    refusal = refused(Code.NAME_TAKEN, launch, physics, name="cb", name_scope="north-a")
    other = machine(physics, name="cb", name_scope="north-b")
    physics.end(made.id)
    refused(Code.NAME_TAKEN, launch, physics, name="cb", name_scope="north-a")
    await clock.advance(500)
    again = machine(physics, name="cb", name_scope="north-a")

    assert refusal.machine.id == made.id
    assert len({made.id, other.id, again.id}) == 3
    assert physics.named("north-a", "cb").id == again.id
    refused(Code.NOT_FOUND, physics.named, "south-a", "cb")


async def test_names_without_a_scope_are_free(physics):
    assert machine(physics, name="cb").id != machine(physics, name="cb").id


# --- room ---------------------------------------------------------------------------------------


async def test_exhaustion_is_anywhere_or_in_one_place(physics):
    physics.exhaust("north-a")
    refusal = refused(Code.CAPACITY, launch, physics)
    beside = machine(physics, zone="north-b")
    physics.exhaust()
    refused(Code.CAPACITY, launch, physics, zone="north-b")
    physics.replenish()

    assert refusal.place == "north-a"
    assert physics.has_room("north-a")
    again = machine(physics)
    assert [one.id for one in physics.existing()] == [beside.id, again.id]


async def test_a_region_can_be_exhausted(physics):
    physics.exhaust("north")

    refused(Code.CAPACITY, launch, physics, zone="north-b")
    assert machine(physics, region="south", zone="south-a")


async def test_a_quota_counts_the_vcpus_of_a_region(make):
    physics = make(vcpu_quota=10)
    first = machine(physics, vcpus=8)
    refusal = refused(Code.QUOTA, launch, physics, vcpus=4)
    machine(physics, vcpus=4, region="south", zone="south-a")

    assert refusal.place == "north"
    assert (physics.quota("north").used, physics.quota("north").limit) == (8, 10)
    assert physics.quota().used == 12
    assert physics.existing()[0].id == first.id


async def test_a_quota_can_be_used_up_and_restored(physics):
    machine(physics, vcpus=4)
    physics.use_up_quota()
    refused(Code.QUOTA, launch, physics)
    refused(Code.QUOTA, launch, physics, region="south", zone="south-a")
    physics.restore_quota()

    assert launch(physics).is_new


# --- weather ------------------------------------------------------------------------------------


async def test_calls_are_counted_refused_ones_also(physics):
    physics.admit("list", changes=False)
    physics.admit("create", changes=True, place="north")
    physics.go_down()
    refused(Code.DOWN, physics.admit, "list", changes=False)

    assert (physics.count("list"), physics.count("create"), physics.count()) == (2, 1, 3)
    assert (physics.count(changes=True), physics.count("list", changes=True)) == (1, 0)
    assert physics.calls[1].place == "north"


async def test_it_goes_down_and_comes_back(physics):
    physics.go_down()
    refused(Code.DOWN, physics.admit, "list", changes=False)
    physics.come_back()

    physics.admit("list", changes=False)


async def test_one_place_can_be_down(physics):
    physics.go_down("south")
    physics.admit("list", changes=False, place="north")
    physics.admit("list", changes=False)

    assert refused(Code.DOWN, physics.admit, "list", changes=False, place="south").place == "south"


async def test_credentials_are_refused_and_accepted(physics):
    physics.refuse_credentials()
    refused(Code.CREDENTIALS, physics.admit, "list", changes=False)
    physics.accept_credentials()

    physics.admit("list", changes=False)


async def test_throttling_says_how_long(physics):
    physics.throttle(3.5)
    refusal = refused(Code.THROTTLED, physics.admit, "list", changes=False)
    physics.relent()

    assert refusal.retry_after_s == 3.5
    physics.admit("list", changes=False)


# --- what befalls a machine -----------------------------------------------------------------------


async def test_one_answer_is_lost_and_its_machine_is_made(physics):
    physics.lose_next_answer()
    first, second = launch(physics, token="t"), launch(physics, token="t")

    assert (first.is_answer_lost, second.is_answer_lost) == (True, False)
    assert first.machine.id == second.machine.id


async def test_a_refused_launch_uses_no_lever_up(physics):
    physics.lose_next_answer()
    physics.exhaust()
    refused(Code.CAPACITY, launch, physics)
    physics.replenish()

    assert launch(physics).is_answer_lost


async def test_a_launch_fails_after_it_was_accepted(clock, physics):
    physics.fail_next_launch("no-such-luck", in_ms=700)
    made = machine(physics)
    await clock.advance(699)
    early = state(physics, made)
    await clock.advance(1)
    seen = physics.get(made.id)
    await clock.advance(5000)

    assert (early, seen.state, seen.end.why, seen.end.code) == (
        State.PENDING,
        State.GONE,
        Why.FAILED,
        "no-such-luck",
    )
    assert physics.get(made.id).running_ms == 0
    assert launch(physics).is_new


async def test_a_failed_launch_may_stand_until_it_is_deleted(clock, make):
    physics = make(on_failure=Then.FAILED)
    physics.fail_next_launch("no-such-luck")
    made = machine(physics)
    await clock.advance(10**6)
    stands = physics.get(made.id)
    physics.end(made.id)
    await clock.advance(500)

    assert (stands.state, stands.exists, stands.costs) == (State.FAILED, True, False)
    assert state(physics, made) is State.GONE


async def test_a_held_machine_boots_when_it_is_released(clock, physics):
    held = physics.hold_next_create()
    reached = held.reached.is_set()
    made = machine(physics)
    free = machine(physics)
    await clock.advance(5000)
    states = state(physics, made), state(physics, free)
    told = held.reached.is_set()
    held.release()

    assert (reached, told) == (False, True)
    assert states == (State.PENDING, State.RUNNING)
    assert state(physics, made) is State.RUNNING


async def test_a_held_machine_can_be_ended(clock, physics):
    held = physics.hold_next_create()
    made = machine(physics)
    physics.end(made.id)
    await clock.advance(500)
    held.release()
    await clock.advance(5000)

    assert state(physics, made) is State.GONE


async def test_a_hold_is_told_to_the_loop_from_a_server_thread(physics):
    held = physics.hold_next_create()
    await anyio.to_thread.run_sync(lambda: launch(physics))
    with anyio.fail_after(60):
        await held.reached.wait()


async def test_a_preemption_is_announced(clock, physics):
    made = machine(physics, spot=True)
    await clock.advance(2000)
    physics.preempt(made.id, notice_ms=1000)
    marked = physics.get(made.id)
    await clock.advance(1000)
    over = physics.get(made.id)

    assert (marked.state, marked.is_marked, marked.notice_ms) == (State.RUNNING, True, BEGIN + 2000)
    assert marked.preempted_ms == over.ended_ms == BEGIN + 3000
    assert (over.end.why, over.is_marked) == (Why.PREEMPTED, False)


async def test_what_is_ended_in_its_notice_was_not_preempted(clock, physics):
    made = machine(physics, spot=True)
    physics.preempt(made.id, notice_ms=1000)
    physics.end(made.id)
    await clock.advance(5000)

    assert physics.get(made.id).end.why is Why.API


async def test_a_crash_may_leave_a_stopped_machine(clock, make):
    physics = make(on_crash=Then.STOPPED)
    made = machine(physics)
    physics.kill(made.id)
    stopped = physics.get(made.id)
    physics.end(made.id, then=Then.DEALLOCATED)
    free = physics.get(made.id)
    physics.end(made.id)
    await clock.advance(500)

    assert (stopped.state, stopped.costs, stopped.is_live) == (State.STOPPED, True, False)
    assert (free.state, free.costs, free.exists) == (State.DEALLOCATED, False, True)
    assert state(physics, made) is State.GONE


async def test_a_deadline_of_the_cloud_is_kept_to_the_millisecond(clock, physics):
    made = machine(physics, deadline=Deadline(BEGIN + 60_000))
    await clock.advance(59_999)
    early = state(physics, made)
    await clock.advance(1)

    assert (early, state(physics, made)) == (State.RUNNING, State.ENDING)
    assert physics.get(made.id).end.why is Why.DEADLINE


async def test_a_deadline_can_be_moved_and_taken_away(clock, physics):
    moved, freed, late = (machine(physics, deadline=Deadline(BEGIN + 60_000)) for _ in range(3))
    physics.set_deadline(moved.id, Deadline(BEGIN + 90_000, Then.DEALLOCATED))
    physics.set_deadline(freed.id, None)
    await clock.advance(60_000)
    physics.set_deadline(late.id, None)
    between = [state(physics, one) for one in (moved, freed, late)]
    await clock.advance(30_000)

    assert between == [State.RUNNING, State.RUNNING, State.ENDING]
    assert [state(physics, one) for one in (moved, freed)] == [State.DEALLOCATED, State.RUNNING]


async def test_a_deadline_that_a_stop_clears_strikes_whom_nothing_stopped_before(clock, make):
    physics = make(on_guest_shutdown=Then.STOPPED)
    cleared, kept = (Deadline(BEGIN + 60_000, is_cleared_by_stop=one) for one in (True, False))
    forgotten, remembered, running, late = (machine(physics, deadline=one) for one in (cleared, kept, cleared, cleared))
    await clock.advance(30_000)
    for stopped in (forgotten, remembered, late):
        physics.shut_down(stopped.id)
    told = [one.deadline_ms - BEGIN for one in physics.made()]
    await clock.advance(60_000)
    physics.set_deadline(late.id, None)

    assert told == [-BEGIN, 60_000, 60_000, -BEGIN]
    assert [State.STOPPED, State.GONE, State.GONE, State.STOPPED] == [one.state for one in physics.made()]
    assert physics.ever(running.id).end.why is Why.DEADLINE


async def test_a_deadline_that_a_stop_clears_stands_until_that_stop(clock, make):
    physics = make(on_guest_shutdown=Then.STOPPED)
    timed = machine(physics, user_data=DOCUMENT % MINUTE_ON, deadline=Deadline(BEGIN + 90_000, is_cleared_by_stop=True))
    await clock.advance(59_999)
    before = physics.get(timed.id).deadline_ms
    await clock.advance(60_000)

    assert before == BEGIN + 90_000
    assert (physics.get(timed.id).state, physics.get(timed.id).deadline_ms) == (State.STOPPED, 0)


async def test_the_guests_own_timer_powers_it_off(clock, make):
    physics = make(on_guest_shutdown=Then.STOPPED)
    stops = machine(physics, user_data=DOCUMENT % MINUTE_ON)
    goes = machine(physics, user_data=DOCUMENT % MINUTE_ON, on_guest_shutdown=Then.GONE)
    await clock.advance(59_999)
    early = [state(physics, stops), state(physics, goes)]
    await clock.advance(1)

    assert early == [State.RUNNING, State.RUNNING]
    assert [state(physics, stops), state(physics, goes)] == [State.STOPPED, State.ENDING]
    assert physics.get(goes.id).end.why is Why.GUEST


async def test_a_timer_that_was_missed_is_caught_up_with_at_the_boot(clock, physics):
    held = physics.hold_next_create()
    made = machine(physics, user_data=DOCUMENT % MINUTE_ON)
    await clock.advance(120_000)
    late = state(physics, made)
    held.release()

    assert (late, state(physics, made)) == (State.PENDING, State.ENDING)
    assert physics.get(made.id).ended_ms == BEGIN + 120_000


@pytest.mark.parametrize(
    "user_data",
    [
        (DOCUMENT % MINUTE_ON).replace(b"#cloud-config", b"#!/bin/sh"),
        (DOCUMENT % MINUTE_ON).replace(b"poweroff", b"status"),
        (DOCUMENT % MINUTE_ON).replace(b"enable", b"disable"),
        (DOCUMENT % MINUTE_ON)[:-3],
        DOCUMENT % b"tomorrow",
        b"",
    ],
)
async def test_a_document_that_arms_no_timer_ends_nothing(clock, physics, user_data):
    made = machine(physics, user_data=user_data)
    await clock.advance(10**8)

    assert state(physics, made) is State.RUNNING


async def test_who_is_root_can_power_off(clock, physics):
    made = machine(physics)
    await clock.advance(1000)
    physics.shut_down(made.id)

    assert physics.get(made.id).end.why is Why.GUEST


# --- what is made beside them -------------------------------------------------------------------


async def test_what_dies_with_its_machine_goes_when_that_is_gone(clock, physics):
    made = machine(physics)
    physics.add("disk", "d-1", machine=made.id)
    physics.add("address", "a-1", machine=made.id, dies_with_machine=False)
    physics.add("group", "g-1")
    physics.end(made.id)
    ending = {one.id for one in physics.resources()}
    await clock.advance(500)

    assert ending == {"d-1", "a-1", "g-1"}
    assert {one.id for one in physics.resources()} == {"a-1", "g-1"}
    assert [one.id for one in physics.leftovers()] == ["a-1"]


async def test_leftovers_are_what_was_made_for_any_machine(physics):
    made = machine(physics)
    physics.add("schedule", "s-1", machine=made.id, dies_with_machine=False)

    assert [one.id for one in physics.leftovers()] == ["s-1"]
    physics.remove("schedule", "s-1")
    assert physics.leftovers() == ()


async def test_what_is_in_use_is_not_removed(clock, physics):
    made = machine(physics)
    physics.add("group", "g-1")
    refused(Code.IN_USE, physics.remove, "group", "g-1", used_by=[made.id])
    physics.end(made.id)
    await clock.advance(500)
    physics.remove("group", "g-1", used_by=[made.id])

    refused(Code.NOT_FOUND, physics.remove, "group", "g-1")
    refused(Code.NOT_FOUND, physics.resource, "group", "g-1")


async def test_two_of_a_kind_have_two_ids(physics):
    physics.add("group", "g-1", tags={"a": "1"})
    physics.add("disk", "g-1")

    refused(Code.NAME_TAKEN, physics.add, "group", "g-1")
    assert physics.resource("group", "g-1").tags == {"a": "1"}
    assert [one.kind for one in physics.resources("disk")] == ["disk"]


async def test_threads_make_one_machine_of_one_token(physics):
    made, begin = [], threading.Barrier(8)

    def race():
        begin.wait(10)
        made.append(launch(physics, token="t", digest="d"))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)

    assert sum(one.is_new for one in made) == 1
    assert len({one.machine.id for one in made}) == 1
