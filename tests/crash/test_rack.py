"""A bridge killed as it serves on a rack host by a real sshd, and the link cut: nothing is left there, or lost."""

import os
import secrets

import pytest

from crashkit import chosen
from crashkit.chosen_play import play_chosen, play_drawn, unmet
from crashkit.matrix import report

pytestmark = pytest.mark.timeout(1200)

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


@pytest.fixture(scope="module", params=CLOUDS)
def played(request):
    """Everything, at once."""
    return play_chosen(request.param, files=LINK, among=AMONG_AWAITS[request.param], seed=CI_SEED)


def tell(capsys, line):
    with capsys.disabled():
        print(f"\n{line}")  # noqa: T201 - the figure is the point of the run


def test_every_story_ends_as_it_should_when_nobody_dies(played):
    assert not report(played.unkilled)
    assert [] == unmet(played)


def test_a_bridge_killed_at_a_chosen_point_leaves_nothing_on_a_rack_host(played, capsys):
    deaths = sum(len(verdict.deaths) for verdict in played.killed)
    tell(capsys, f"crash matrix on {played.cloud}: {len(played.killed)} schedules, {deaths} deaths")

    assert not report(played.killed)
    assert [] == chosen.missed(played.killed)
    assert len(played.killed) >= LEAST_DEATHS[played.cloud]


def test_a_bridge_killed_within_a_call_to_a_rack_host_leaves_nothing_there(played):
    assert not report(played.within)
    # A wait for what is there already is not always passed.
    assert AMONG_AWAITS[played.cloud] - 1 <= sum(bool(verdict.deaths) for verdict in played.within)


def test_a_link_that_is_cut_loses_nothing(played, capsys):
    cuts = sum(len(verdict.cuts) for verdict in played.cut)
    tell(capsys, f"crash matrix on {played.cloud}: {len(played.cut)} schedules, {cuts} cuts of the link")

    assert not report(played.cut)
    assert [] == chosen.missed(played.cut)


def test_a_link_that_is_cut_as_the_bridge_dies_loses_nothing(played):
    assert not report(played.cut_and_killed)
    assert [] == chosen.missed(played.cut_and_killed)


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
    recorded, verdicts = play_drawn(cloud, count=count, seed=seed)
    killed, cuts = (sum(map(len, kind)) for kind in zip(*((one.deaths, one.cuts) for one in verdicts), strict=True))
    tell(capsys, f"soak on {cloud}: {len(verdicts)} schedules, {killed} deaths, {cuts} cuts, seed {seed}")

    assert not report([*recorded, *verdicts])
