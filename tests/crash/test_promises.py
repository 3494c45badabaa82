"""What an outage must not do to a lease that runs: one story for each promise, in virtual time."""

import pytest

from compute_bridge.model.control import ControlAction
from crashkit.fuzz_world import FuzzWorld
from crashkit.invariants import check
from crashkit.play import Play
from crashkit.truth import Truth

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


async def lease(world: FuzzWorld, duration_ms: int) -> None:
    """Ask for a machine and wait until it runs."""
    await world.ask(duration_ms, comes=True, makes_key=False)
    await world.pass_time(30_000)


def machine_states(world: FuzzWorld) -> list[str]:
    return [one.state for cloud in world.clouds for one in cloud.account.machines.values()]


def lived_ms(truth: Truth) -> list[int]:
    return [one.ended_ms - one.started_ms for one in truth.machines if one.ended_ms is not None]


def billed(truth: Truth) -> list[tuple[str, int]]:
    return [(log.reason, log.billable_ms) for log in truth.logs]


@pytest.mark.parametrize("code", ["timeout", "throttled"])
def test_a_backend_that_does_not_answer_changes_nothing_about_its_leases(play: Play, code: str) -> None:
    async def story(world: FuzzWorld) -> None:
        await lease(world, 20 * MINUTE_MS)
        world.clouds[0].account.ailment = code
        world.clouds[0].account.stir()
        await world.pass_time(10 * MINUTE_MS)
        seen.extend([await world.lease_states(), machine_states(world)])
        world.clouds[0].mend()
        await world.pass_time(12 * MINUTE_MS)

    seen: list[list[str]] = []
    truth = play(story)

    assert [["delivered"], ["ready"]] == seen
    assert () == check(truth)
    assert [("deadline", 20 * MINUTE_MS)] == billed(truth)


def test_an_almanac_that_stands_still_touches_no_running_lease(play: Play) -> None:
    async def story(world: FuzzWorld) -> None:
        await lease(world, 2 * HOUR_MS)
        await world.stop_market()
        await world.pass_time(3 * HOUR_MS)
        states.extend(machine_states(world))

    states: list[str] = []
    truth = play(story)

    assert ["deleted"] == states
    assert () == check(truth)
    assert [("deadline", 2 * HOUR_MS)] == billed(truth)
    assert [0] == [life - 2 * HOUR_MS for life in lived_ms(truth)]


def test_an_almanac_that_leaps_by_thousands_of_ticks_touches_no_running_lease(play: Play) -> None:
    async def story(world: FuzzWorld) -> None:
        # So long that the leap does not reach where the market would give the grant up.
        await lease(world, 10 * HOUR_MS)
        leaps.append(await world.tick(2000))
        await world.pass_time(10 * MINUTE_MS)
        states.extend(machine_states(world))
        await world.control(0, ControlAction.RELEASE)
        await world.pass_time(MINUTE_MS)

    leaps: list[int] = []
    states: list[str] = []
    truth = play(story)

    assert ([2000], ["ready"]) == (leaps, states)
    assert () == check(truth)
    assert ["released"] == [log.reason for log in truth.logs]


@pytest.mark.parametrize("outage", ["market", "line"])
def test_a_lease_ends_at_its_own_end_while_nobody_can_be_told_and_logs_come_in_order(play: Play, outage: str) -> None:
    async def story(world: FuzzWorld) -> None:
        await lease(world, 20 * MINUTE_MS)
        await lease(world, 10 * MINUTE_MS)
        if outage == "market":
            await world.stop_market()
        else:
            world.line.cut()
        await world.pass_time(30 * MINUTE_MS)
        states.extend(machine_states(world))
        world.line.mend()
        await world.start_market()
        await world.pass_time(MINUTE_MS)

    states: list[str] = []
    truth = play(story)

    assert ["deleted", "deleted"] == states
    assert () == check(truth)
    assert [("deadline", 10 * MINUTE_MS), ("deadline", 20 * MINUTE_MS)] == billed(truth)


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_jump_of_the_wall_clock_neither_kills_nor_extends(play: Play, hours: int) -> None:
    async def story(world: FuzzWorld) -> None:
        await lease(world, 20 * MINUTE_MS)
        world.bridge_clock.skew_ms = hours * HOUR_MS
        await world.pass_time(30 * MINUTE_MS)
        states.extend(machine_states(world))

    states: list[str] = []
    truth = play(story)

    assert ["deleted"] == states
    assert () == check(truth)
    assert [("deadline", 20 * MINUTE_MS)] == billed(truth)
    assert [20 * MINUTE_MS] == lived_ms(truth)


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_jump_of_the_wall_clock_across_a_restart_neither_kills_nor_extends(play: Play, hours: int) -> None:
    async def story(world: FuzzWorld) -> None:
        await lease(world, 20 * MINUTE_MS)
        await world.kill_bridge()
        await world.pass_time(5 * MINUTE_MS)
        world.bridge_clock.skew_ms = hours * HOUR_MS
        await world.start_bridge()
        await world.pass_time(30 * MINUTE_MS)
        states.extend(machine_states(world))

    states: list[str] = []
    truth = play(story)

    assert ["deleted"] == states
    assert () == check(truth)
    assert [("deadline", 20 * MINUTE_MS)] == billed(truth)
    assert [20 * MINUTE_MS] == lived_ms(truth)
