"""What the fault fuzz has found: each a sequence that once broke an invariant, by the name of what must hold."""

from compute_bridge.model.control import ControlAction
from crashkit.fuzz_world import FuzzWorld
from crashkit.invariants import check
from crashkit.play import Play

HOUR_MS = 3_600_000


def test_an_extension_under_a_clock_that_is_hours_fast_ends_no_machine(play: Play) -> None:
    async def story(world: FuzzWorld) -> None:
        await world.ask(300_000, comes=True, makes_key=False)
        await world.pass_time(60_000)
        world.bridge_clock.skew_ms = HOUR_MS
        await world.control(0, ControlAction.EXTEND, extend_ms=60_000)
        await world.pass_time(600_000)

    truth = play(story)

    assert () == check(truth)
    assert [("deadline", 360_000)] == [(log.reason, log.billable_ms) for log in truth.logs]


def test_a_machine_that_was_made_long_after_its_intent_is_not_cut_short_by_its_own_timer(play: Play) -> None:
    async def story(world: FuzzWorld) -> None:
        world.clouds[0].account.ailment = "timeout"
        world.clouds[0].account.stir()
        await world.ask(900_000, comes=True, makes_key=False)
        await world.pass_time(1_000_000)
        world.clouds[0].mend()
        await world.pass_time(1_200_000)

    truth = play(story)

    assert () == check(truth)
    assert [("deadline", 900_000)] == [(log.reason, log.billable_ms) for log in truth.logs]


def test_a_machine_that_died_while_its_backend_was_silent_ends_by_its_own_cause(play: Play) -> None:
    async def story(world: FuzzWorld) -> None:
        await world.ask(600_000, comes=True, makes_key=False)
        await world.pass_time(60_000)
        account = world.clouds[0].account
        account.ailment = "timeout"
        account.end("m-1", "crashed")
        await world.pass_time(900_000)
        world.clouds[0].mend()
        await world.pass_time(60_000)

    truth = play(story)

    assert () == check(truth)
    assert ["lost"] == [log.reason for log in truth.logs]


def test_a_lease_ended_at_its_deadline_on_a_full_disk_ended_by_that_also_for_the_next_start(play: Play) -> None:
    async def story(world: FuzzWorld) -> None:
        await world.ask(300_000, comes=True, makes_key=False)
        await world.pass_time(60_000)
        await world.fill_disk()
        await world.pass_time(600_000)
        await world.kill_bridge()
        await world.empty_disk()

    truth = play(story)

    assert () == check(truth)
    assert [("deadline", 300_000)] == [(log.reason, log.billable_ms) for log in truth.logs]
