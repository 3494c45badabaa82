"""What a seed draws: the same schedules again, though a story passes a little more in one run than in another."""

import pytest

from crashkit import chosen
from crashkit.plans import again, all_plans, drawn
from crashkit.schedule import Verdict

INTENDED = f"after {chosen.INTENDED}"


def recorded(*more: str) -> list[Verdict]:
    """What stories passed that have two lives each."""
    points = [INTENDED, *(f"before await lease.py:{line}:8" for line in range(200)), *more]
    return [Verdict(story, points=[points, points]) for story in ("released", "deadline")]


def once(verdicts: list[Verdict], seed: int) -> list[str]:
    return [plan.id for plan in drawn(all_plans(verdicts, most=3), seed, count=100)]


def recoveries(verdicts: list[Verdict], seed: int) -> list[str]:
    return [plan.id for plan in again(all_plans(verdicts, most=3), seed, count=1000)]


def on_racks(verdicts: list[Verdict], seed: int) -> list[str]:
    return [plan.id for plan in chosen.drawn(verdicts, seed, count=200)]


DRAWS = [once, recoveries, on_racks]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_seed_draws_the_same_schedules_again(draw) -> None:
    assert draw(recorded(), 7) == draw(recorded(), 7)
    assert draw(recorded(), 7) != draw(recorded(), 8)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_point_more_changes_only_the_schedules_that_die_there(draw) -> None:
    less, more = draw(recorded(), 7), draw(recorded("before find cards", "after find cards"), 7)

    assert len(set(less) - set(more)) <= sum("find cards" in plan for plan in more)


def test_every_point_has_its_turn_before_one_has_two() -> None:
    plans = all_plans(recorded(), most=3)
    firsts = [plan.kills[0] for plan in again(plans, 7, count=len(plans))]

    assert len(plans) == len(set(firsts)) * 2
