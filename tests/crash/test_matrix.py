"""A bridge killed wherever its stories can kill it: nothing is lost, nothing doubled, the books balance."""

import os
import secrets

import pytest
from attrs import frozen

from crashkit import probes
from crashkit.awaits import awaits
from crashkit.matrix import Matrix, deaths, open_matrix, report
from crashkit.plans import again, all_plans, chosen_plans, drawn, unkilled
from crashkit.schedule import Verdict
from crashkit.stories import STORIES

pytestmark = pytest.mark.timeout(1200)

LEAST_POINTS = 300
RECOVERIES = 60
CI_SEED = 4711
EVERY_AWAIT_OF = ("lease", "outbox", "provider", "reconcile")
"""The modules that serve leases: no await of theirs may be without a death."""
SOAK = "CRASH_SOAK"
SEED = "CRASH_SEED"


@frozen
class Recording:
    """Each story, played once with nobody killed."""

    matrix: Matrix
    verdicts: list[Verdict]


@pytest.fixture(scope="module")
def recording():
    """The stories as they are when nobody dies: what they pass is where they can die."""
    with open_matrix() as matrix:
        yield Recording(matrix, matrix.play(unkilled()))


def tell(capsys, line):
    with capsys.disabled():
        print(f"\n{line}")  # noqa: T201 - the figure is the point of the run


def test_every_story_ends_as_it_should_when_nobody_dies(recording):
    assert not report(recording.verdicts)


@pytest.mark.parametrize("story", STORIES)
def test_a_story_meets_what_it_is_about(recording, story):
    (verdict,) = [one for one in recording.verdicts if one.plan == story]

    assert any(point.endswith(STORIES[story].meets) for life in verdict.points for point in life)


def test_the_stories_pass_every_await_of_a_lease(recording):
    passed = set().union(*(probes.reached(life) for verdict in recording.verdicts for life in verdict.points))
    unpassed = [
        name
        for path in probes.awaited_files()
        if path.stem.startswith(EVERY_AWAIT_OF)
        for name in awaits(path)
        if name not in passed
    ]

    assert [] == unpassed


def test_a_bridge_killed_at_any_point_loses_nothing_and_doubles_nothing(recording, capsys):
    plans = chosen_plans(recording.verdicts)
    verdicts = recording.matrix.play(plans)
    died = deaths(verdicts)
    tell(capsys, f"crash matrix: {len(died)} kill points of {len(plans)} planned, {_wrong(verdicts)} schedules wrong")

    assert not report(verdicts)
    assert len(died) >= LEAST_POINTS


def test_a_bridge_killed_again_as_it_recovers_loses_nothing_and_doubles_nothing(recording, capsys):
    plans = list(again(all_plans(recording.verdicts, most=3), CI_SEED, count=RECOVERIES))
    verdicts = recording.matrix.play(plans)
    killed = sum(len(verdict.deaths) for verdict in verdicts)
    tell(capsys, f"crash matrix: {killed} deaths in {len(plans)} recoveries, {_wrong(verdicts)} schedules wrong")

    assert not report(verdicts)
    assert killed > RECOVERIES


@pytest.mark.soak
@pytest.mark.timeout(21_600)
def test_soak_of_deaths_drawn_at_random(recording, capsys):
    count, seed = int(os.environ.get(SOAK, "10000")), int(os.environ.get(SEED, str(secrets.randbits(32))))
    tell(capsys, f"soak: {SOAK}={count} {SEED}={seed}")
    every = all_plans(recording.verdicts, most=3)
    plans = drawn(every, seed, count=count // 3)
    plans += again(every, seed, count=count - len(plans))
    verdicts = recording.matrix.play(plans)
    killed = sum(len(verdict.deaths) for verdict in verdicts)
    tell(capsys, f"soak: {len(plans)} schedules, {killed} deaths at {len(deaths(verdicts))} plans, seed {seed}")

    assert not report(verdicts)


def _wrong(verdicts):
    return sum(bool(verdict.violations) for verdict in verdicts)
