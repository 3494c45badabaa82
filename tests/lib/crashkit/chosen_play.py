"""Everything that is chosen for one kind of cloud, played at once: each schedule waits more than it works."""

from attrs import frozen

from crashkit import chosen
from crashkit.brief_stories import BRIEF_STORIES
from crashkit.matrix import Matrix, open_matrix
from crashkit.schedule import Plan, Verdict


@frozen
class Played:
    """What was played on one kind of cloud, in groups. ``unkilled`` is each story, with nothing done to it."""

    cloud: str
    unkilled: list[Verdict]
    killed: list[Verdict]
    within: list[Verdict]
    cut: list[Verdict]
    cut_and_killed: list[Verdict]


def play_chosen(cloud: str, *, files: tuple[str, ...], among: int, seed: int) -> Played:
    """Play each story unkilled, then all that is chosen, with ``among`` deaths at awaits of ``files`` drawn besides."""
    with open_matrix(cloud=cloud) as matrix:
        unkilled = play_unkilled(matrix, cloud)
        within = chosen.within_calls(unkilled, files, seed, count=among)
        groups = [chosen.killed(cloud), within, chosen.cut(cloud), chosen.cut_and_killed(cloud)]
        verdicts = iter(matrix.play([plan for group in groups for plan in group]))
        return Played(cloud, unkilled, *([next(verdicts) for _ in group] for group in groups))


def play_unkilled(matrix: Matrix, cloud: str) -> list[Verdict]:
    """Play each story of a cloud with nobody killed; one alone brings what the others find there."""
    stories = [Plan(name) for name, story in BRIEF_STORIES.items() if story.cloud == cloud]
    return matrix.play(stories[:1]) + matrix.play(stories[1:])


def play_drawn(cloud: str, *, count: int, seed: int) -> tuple[list[Verdict], list[Verdict]]:
    """Play each story unkilled, then ``count`` deaths and cuts drawn by the seed; return both."""
    with open_matrix(cloud=cloud) as matrix:
        recorded = play_unkilled(matrix, cloud)
        return recorded, matrix.play(chosen.drawn(recorded, seed, count=count))


def unmet(played: Played) -> list[str]:
    """Return the unkilled stories that have not met what they are about."""
    return [
        verdict.plan
        for verdict in played.unkilled
        if not any(point.endswith(BRIEF_STORIES[verdict.plan].meets) for life in verdict.points for point in life)
    ]
