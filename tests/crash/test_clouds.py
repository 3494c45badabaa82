"""A bridge killed as it serves in an account at a cloud: nothing is left there, or lost.

The cloud is the plugin's own fake of it on the wire, outside the bridge, asked through the SDK that it is asked by.
"""

import os
import secrets
import shutil

import pytest

from crashkit import chosen
from crashkit.brief_stories import CLOUDS
from crashkit.chosen_play import play_chosen, play_drawn, unmet
from crashkit.matrix import open_matrix, report
from crashkit.plants import EVERY_PLANT, FORGETS_TOKENS
from crashkit.schedule import Plan

pytestmark = [pytest.mark.timeout(1200), pytest.mark.needs("sshd")]

LEAST_SCHEDULES = 30
AMONG_AWAITS = 4
CI_SEED = 4711
SOAK = "CLOUD_SOAK"
SEED = "CRASH_SEED"
CALLS = ("backend.py", "calls.py", "cloud.py", "listing.py")
"""The modules of which each await is a point within one call of a backend."""


@pytest.fixture(scope="module", params=CLOUDS)
def played(request):
    """Everything, at once."""
    return play_chosen(request.param, files=CALLS, among=AMONG_AWAITS, seed=CI_SEED)


def tell(capsys, line):
    with capsys.disabled():
        print(f"\n{line}")  # noqa: T201 - the figure is the point of the run


def test_every_story_ends_as_it_should_when_nobody_dies(played):
    assert not report(played.unkilled)
    assert [] == unmet(played)


def test_a_bridge_killed_at_a_chosen_point_leaves_nothing_in_a_cloud(played, capsys):
    deaths = sum(len(verdict.deaths) for verdict in played.killed)
    tell(capsys, f"crash matrix on {played.cloud}: {len(played.killed)} schedules, {deaths} deaths")

    assert not report(played.killed)
    assert [] == chosen.missed(played.killed)
    assert len(played.killed) >= LEAST_SCHEDULES


def test_a_bridge_killed_within_a_call_leaves_nothing_in_a_cloud(played):
    assert not report(played.within)
    # A wait for what is there already is not always passed.
    assert AMONG_AWAITS - 1 <= sum(bool(verdict.deaths) for verdict in played.within)


def test_a_cloud_that_falls_silent_or_loses_an_answer_loses_nothing(played, capsys):
    cuts = sum(len(verdict.cuts) for verdict in played.cut)
    tell(capsys, f"crash matrix on {played.cloud}: {len(played.cut)} schedules, {cuts} silences and lost answers")

    assert not report(played.cut)
    assert [] == chosen.missed(played.cut)


def test_a_cloud_that_falls_silent_or_loses_an_answer_as_the_bridge_dies_loses_nothing(played):
    assert not report(played.cut_and_killed)
    assert [] == chosen.missed(played.cut_and_killed)


def test_a_machine_whose_bridge_stays_away_ends_and_is_settled_once(played):
    (verdict,) = [one for one in played.unkilled if one.plan == f"{played.cloud}-abandoned"]

    assert not report([verdict])
    assert ["served"] == verdict.outcomes
    # The second life did not make it again.
    assert not any(point.endswith("backend provision") for point in verdict.points[1])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_plugin_that_forgets_the_token_turns_the_matrix_red(cloud):
    planted = EVERY_PLANT[FORGETS_TOKENS]
    plan = Plan.parse(f"{cloud}-{planted.plan.replace('|', f'+{FORGETS_TOKENS}|', 1)}")
    with open_matrix(cloud=cloud, keep=True) as matrix:
        [verdict] = matrix.play([plan])
    # It went wrong, as it should: nobody wants its files.
    shutil.rmtree(matrix.folder)

    assert ["after wire create@0"] == verdict.deaths
    assert any(violation.startswith(planted.turns_red) for violation in verdict.violations)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_soak_of_every_point_and_of_silences_drawn_at_random(cloud, capsys):
    count, seed = int(os.environ.get(SOAK, "300")), int(os.environ.get(SEED, str(secrets.randbits(32))))
    tell(capsys, f"soak on {cloud}: {SOAK}={count} {SEED}={seed}")
    recorded, verdicts = play_drawn(cloud, count=count, seed=seed)
    killed, cuts = (sum(map(len, kind)) for kind in zip(*((one.deaths, one.cuts) for one in verdicts), strict=True))
    tell(capsys, f"soak on {cloud}: {len(verdicts)} schedules, {killed} deaths, {cuts} silences, seed {seed}")

    assert not report([*recorded, *verdicts])
