"""A bridge killed as it serves on a rack host by a real sshd, and the link cut: nothing is left there, or lost."""

import os
import secrets

import pytest
from attrs import frozen

from crashkit import rack_plans
from crashkit.matrix import open_matrix, report
from crashkit.rack_stories import RACK_STORIES
from crashkit.schedule import Plan, Verdict

pytestmark = pytest.mark.timeout(600)

CLOUDS = [
    pytest.param("rack", marks=pytest.mark.needs("sshd", "openssh-client", "nft")),
    pytest.param("pods", marks=pytest.mark.needs("sshd", "openssh-client", "podman", "nft", "ip")),
]
LEAST_DEATHS = {"rack": 30, "pods": 12}
AMONG_AWAITS = {"rack": 10, "pods": 4}
CI_SEED = 4711
SOAK = "RACK_SOAK"
SEED = "CRASH_SEED"
LINK = ("attempt.py", "rack.py", "ssh.py")
"""The modules of which each await is a point within one call to a rack host."""


@frozen
class Played:
    """What was played on one kind of rack host, in groups. ``unkilled`` is each story, with nothing done to it."""

    cloud: str
    unkilled: list[Verdict]
    killed: list[Verdict]
    within: list[Verdict]
    cut: list[Verdict]
    cut_and_killed: list[Verdict]


@pytest.fixture(scope="module", params=CLOUDS)
def played(request):
    """Everything, at once: each schedule waits more than it works."""
    cloud = request.param
    with open_matrix(cloud=cloud) as matrix:
        # One alone brings the image; the others find it there.
        stories = [Plan(name) for name in RACK_STORIES if name.startswith(cloud)]
        unkilled = matrix.play(stories[:1]) + matrix.play(stories[1:])
        within = rack_plans.within_calls(unkilled, LINK, CI_SEED, count=AMONG_AWAITS[cloud])
        groups = [rack_plans.killed(cloud), within, rack_plans.cut(cloud), rack_plans.cut_and_killed(cloud)]
        verdicts = iter(matrix.play([plan for group in groups for plan in group]))
        yield Played(cloud, unkilled, *([next(verdicts) for _ in group] for group in groups))


def tell(capsys, line):
    with capsys.disabled():
        print(f"\n{line}")  # noqa: T201 - the figure is the point of the run


def test_every_story_ends_as_it_should_when_nobody_dies(played):
    assert not report(played.unkilled)
    for verdict in played.unkilled:
        meets = RACK_STORIES[verdict.plan].meets
        assert any(point.endswith(meets) for life in verdict.points for point in life), verdict.plan


def test_a_bridge_killed_at_a_chosen_point_leaves_nothing_on_a_rack_host(played, capsys):
    deaths = sum(len(verdict.deaths) for verdict in played.killed)
    tell(capsys, f"crash matrix on {played.cloud}: {len(played.killed)} schedules, {deaths} deaths")

    assert not report(played.killed)
    assert [] == rack_plans.missed(played.killed)
    assert len(played.killed) >= LEAST_DEATHS[played.cloud]


def test_a_bridge_killed_within_a_call_to_a_rack_host_leaves_nothing_there(played):
    assert not report(played.within)
    # A wait for what is there already is not always passed.
    assert AMONG_AWAITS[played.cloud] - 1 <= sum(bool(verdict.deaths) for verdict in played.within)


def test_a_link_that_is_cut_loses_nothing(played, capsys):
    cuts = sum(len(verdict.cuts) for verdict in played.cut)
    tell(capsys, f"crash matrix on {played.cloud}: {len(played.cut)} schedules, {cuts} cuts of the link")

    assert not report(played.cut)
    assert [] == rack_plans.missed(played.cut)


def test_a_link_that_is_cut_as_the_bridge_dies_loses_nothing(played):
    assert not report(played.cut_and_killed)
    assert [] == rack_plans.missed(played.cut_and_killed)


def test_a_machine_whose_bridge_never_comes_back_ends_and_is_settled_once(played):
    (verdict,) = [one for one in played.unkilled if one.plan == f"{played.cloud}-abandoned"]

    assert not report([verdict])
    assert ["served"] == verdict.outcomes
    # The second life neither ended it nor made it again.
    assert not any(point.endswith("backend provision") for point in verdict.points[1])


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_soak_of_every_point_and_of_cuts_drawn_at_random(cloud, capsys):
    count, seed = int(os.environ.get(SOAK, "600")), int(os.environ.get(SEED, str(secrets.randbits(32))))
    tell(capsys, f"soak on {cloud}: {SOAK}={count} {SEED}={seed}")
    with open_matrix(cloud=cloud) as matrix:
        stories = [Plan(name) for name in RACK_STORIES if name.startswith(cloud)]
        recorded = matrix.play(stories[:1]) + matrix.play(stories[1:])
        verdicts = matrix.play(rack_plans.drawn(recorded, seed, count=count))
    killed, cuts = (sum(map(len, kind)) for kind in zip(*((one.deaths, one.cuts) for one in verdicts), strict=True))
    tell(capsys, f"soak on {cloud}: {len(verdicts)} schedules, {killed} deaths, {cuts} cuts, seed {seed}")

    assert not report([*recorded, *verdicts])
