"""The chosen deaths on rack hosts and in clouds, and the chosen cuts of the link: without, and as well as, a death."""

from collections.abc import Iterable, Sequence
from random import Random  # noqa: TID251 - seeded, and the seed is told

from attrs import evolve, frozen

from crashkit import plans as of_stories
from crashkit.brief_stories import RACKS
from crashkit.cuts import Cut
from crashkit.plans import again, all_plans
from crashkit.points import Kill
from crashkit.schedule import Plan, Verdict

INTENDED = "record provision-intended+terminate-intended"
RUNNING = "record routed+running"
PROVISION = "backend provision"
TERMINATE = "backend terminate"

SHORT_MS = 2_000
LONGER_MS = 9_000
"""Longer than a brief lease runs, with what it takes to make; a lost answer waits no longer for its call."""

_STEPS = (
    INTENDED,
    PROVISION,
    RUNNING,
    "record delivered",
    "append shuffle/replies",
    "record ending",
    TERMINATE,
    "record ended",
    "record logged",
    "append logs",
    "append claims",
    "record settled",
)
_EDGES = tuple(f"{edge} {step}" for step in _STEPS for edge in ("before", "after"))

#: Where a bridge dies first, and where the next one dies as it recovers.
_AGAIN = (
    (f"after {INTENDED}", "after record resumed"),
    (f"after {PROVISION}", "before backend list_owned"),
    (f"after {PROVISION}", f"before {PROVISION}"),
    (f"after {PROVISION}", f"after {PROVISION}"),
    (f"after {RUNNING}", "after record delivered"),
    ("after record delivered", f"before {TERMINATE}"),
    (f"after {TERMINATE}", f"before {TERMINATE}"),
    (f"after {TERMINATE}", "after record ended"),
    ("after record ended", "after append logs"),
    ("after record logged", "before append claims"),
)
_OTHERS = (
    ("brief", "after record delivered"),
    ("brief", "before record ending"),
    ("extended", "before backend extend"),
    ("extended", "after backend extend"),
    ("crashed", "before record ending"),
    ("crashed", "after record ended"),
)

#: How the link is cut, for how long, in which story, and at which point.
_CUTS = (
    ("sshd", SHORT_MS, "released", f"after {INTENDED}"),
    ("sshd", SHORT_MS, "released", f"before {PROVISION}"),
    ("sshd", SHORT_MS, "released", f"after {RUNNING}"),
    ("sshd", SHORT_MS, "released", f"before {TERMINATE}"),
    ("dead", SHORT_MS, "released", f"before {PROVISION}"),
    ("dead", SHORT_MS, "released", f"before {TERMINATE}"),
    ("nft", SHORT_MS, "released", f"before {PROVISION}"),
    ("nft", SHORT_MS, "released", f"before {TERMINATE}"),
    ("lose-create", LONGER_MS, "released", f"before {PROVISION}"),
    ("drop-create", LONGER_MS, "released", f"before {PROVISION}"),
    ("lose-terminate", LONGER_MS, "released", f"before {TERMINATE}"),
    ("drop-terminate", SHORT_MS, "released", f"before {TERMINATE}"),
    ("sshd", LONGER_MS, "brief", "after record delivered"),
    ("nft", LONGER_MS, "brief", "after record delivered"),
    ("dead", LONGER_MS, "brief", "after record delivered"),
    ("dead", SHORT_MS, "extended", "before backend extend"),
)

#: The same, and where the bridge dies meanwhile.
_CUT_AND_KILLED = (
    ("sshd", SHORT_MS, "released", f"after {INTENDED}", f"after {INTENDED}"),
    ("lose-create", LONGER_MS, "released", f"before {PROVISION}", f"after failed {PROVISION}"),
    ("sshd", SHORT_MS, "released", f"after {PROVISION}", f"after {PROVISION}"),
    ("nft", SHORT_MS, "released", f"after {PROVISION}", f"after {PROVISION}"),
    ("dead", SHORT_MS, "released", f"after {RUNNING}", f"after {RUNNING}"),
    ("sshd", LONGER_MS, "brief", "after record delivered", "after record delivered"),
    ("nft", SHORT_MS, "released", "before record ending", "before record ending"),
    ("lose-terminate", LONGER_MS, "released", f"before {TERMINATE}", f"after failed {TERMINATE}"),
    ("sshd", SHORT_MS, "released", f"after {TERMINATE}", f"after {TERMINATE}"),
    ("nft", SHORT_MS, "released", "after record ended", "after record ended"),
)

#: In a cloud, fewer of those that no cloud sees.
_CLOUD_STEPS = (INTENDED, PROVISION, RUNNING, "record ending", TERMINATE, "record ended")
_CLOUD_EDGES = (
    *(f"{edge} {step}" for step in _CLOUD_STEPS for edge in ("before", "after")),
    *(f"after {step}" for step in ("record delivered", "append shuffle/replies", "append logs", "append claims")),
)

#: In a cloud: as the request arrives, of which nothing comes then; and after it is obeyed, before the answer.
_WIRE = tuple(f"{edge} {call}" for call in ("wire create", "wire delete") for edge in ("before", "after"))
_WIRE_AGAIN = (
    ("before wire create", f"after {PROVISION}"),
    ("after wire create", "before backend list_owned"),
    ("after wire create", f"before {PROVISION}"),
    ("after wire create", "after record delivered"),
    ("before wire delete", "before wire delete"),
    ("before wire delete", "after wire delete"),
    ("after wire delete", "after record ended"),
)

#: Fewer on containers, for each takes its time: where machines are made and end.
_POD_EDGES = (
    f"after {INTENDED}",
    f"before {PROVISION}",
    f"after {PROVISION}",
    f"before {RUNNING}",
    f"after {RUNNING}",
    "after record delivered",
    "after append shuffle/replies",
    "before record ending",
    f"before {TERMINATE}",
    f"after {TERMINATE}",
    "after record ended",
    "after append logs",
    "after append claims",
)


_IN_CLOUDS = tuple(other for other in _OTHERS if other[0] != "extended")
_CLOUD_CUTS = (
    ("down", SHORT_MS, "released", f"before {PROVISION}"),
    ("down", SHORT_MS, "released", f"before {TERMINATE}"),
    ("lose-create", LONGER_MS, "released", f"before {PROVISION}"),
    ("lose-delete", LONGER_MS, "released", f"before {TERMINATE}"),
    ("down", LONGER_MS, "brief", "after record delivered"),
)
_CLOUD_CUT_AND_KILLED = (
    ("lose-create", LONGER_MS, "released", f"before {PROVISION}", f"after failed {PROVISION}"),
    ("down", SHORT_MS, "released", f"after {PROVISION}", f"after {PROVISION}"),
    ("lose-delete", LONGER_MS, "released", f"before {TERMINATE}", "before record ended"),
    ("down", SHORT_MS, "released", f"after {TERMINATE}", f"after {TERMINATE}"),
)


@frozen
class Choice:
    """What is chosen for one kind of cloud: deaths of a released lease, deaths again, others by story, and cuts."""

    edges: tuple[str, ...]
    again: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]
    cuts: tuple[tuple[str, int, str, str], ...]
    cuts_and_kills: tuple[tuple[str, int, str, str, str], ...]


_RACK = Choice(_EDGES, _AGAIN, _OTHERS, _CUTS, _CUT_AND_KILLED)
_POD = Choice(
    edges=_POD_EDGES,
    again=(_AGAIN[2], _AGAIN[6]),
    others=(),
    cuts=tuple(_CUTS[at] for at in (1, 5, 8, 9, 10, 13)),
    cuts_and_kills=tuple(_CUT_AND_KILLED[at] for at in (1, 2, 7)),
)
_CLOUD = Choice((*_CLOUD_EDGES, *_WIRE), (*_AGAIN[1:7], *_WIRE_AGAIN), _IN_CLOUDS, _CLOUD_CUTS, _CLOUD_CUT_AND_KILLED)
_CHOICES = {"rack": _RACK, "pods": _POD}


def killed(cloud: str) -> list[Plan]:
    """Return the chosen deaths, some with a second one as the next bridge recovers."""
    choice = _CHOICES.get(cloud, _CLOUD)
    plans = [Plan(f"{cloud}-released", (Kill(0, 1, edge),)) for edge in choice.edges]
    plans += [Plan(f"{cloud}-released", (Kill(0, 1, one), Kill(1, 1, two))) for one, two in choice.again]
    return plans + [Plan(f"{cloud}-{story}", (Kill(0, 1, edge),)) for story, edge in choice.others]


def cut(cloud: str) -> list[Plan]:
    """Return the chosen cuts of the link, with a bridge that lives on."""
    chosen = _CHOICES.get(cloud, _CLOUD).cuts
    return [Plan(f"{cloud}-{story}", cuts=(Cut(how, ms, Kill(0, 1, at)),)) for how, ms, story, at in chosen]


def cut_and_killed(cloud: str) -> list[Plan]:
    """Return the chosen cuts of the link as the bridge dies."""
    return [
        Plan(f"{cloud}-{story}", (Kill(0, 1, dies),), cuts=(Cut(how, ms, Kill(0, 1, at)),))
        for how, ms, story, at, dies in _CHOICES.get(cloud, _CLOUD).cuts_and_kills
    ]


def within_calls(recorded: Sequence[Verdict], files: tuple[str, ...], seed: int, *, count: int) -> list[Plan]:
    """Return deaths at awaits of ``files``, in the first story that is recorded; drawn from what all of them passed."""
    always = set.intersection(*(set(verdict.points[0]) for verdict in recorded))
    plans = [plan for plan in all_plans(recorded[:1], most=1) if plan.kills[0].name in always]
    return of_stories.drawn([plan for plan in plans if _is_of(plan.kills[0].name, files)], seed, count=count)


def _is_of(point: str, files: tuple[str, ...]) -> bool:
    return point.rpartition(" ")[2].startswith(files)


def drawn(recorded: Sequence[Verdict], seed: int, *, count: int) -> list[Plan]:
    """Return ``count`` deaths: half of them again in recovery, and about half with the link cut where the bridge dies.

    A bridge that starts while its only backend is silent refuses what it has not routed yet, which is another story:
    so no link is cut before that.
    """
    every = all_plans(recorded, most=3)
    routed = {plan.id for verdict in recorded for plan in all_plans([verdict], most=3) if _is_routed(verdict, plan)}
    once = of_stories.drawn(every, seed, count=count - count // 2)
    plans = [*once, *again(every, seed, count=count - len(once))]
    return [_perhaps_cut(plan, Random(f"cut {seed} {plan.id}")) if _first(plan) in routed else plan for plan in plans]


def _is_routed(verdict: Verdict, plan: Plan) -> bool:
    kill = plan.kills[0]
    points = verdict.points[kill.life]
    passings = [at for at, name in enumerate(points) if name == kill.name]
    return kill.life > 0 or passings[kill.nth - 1] > points.index(f"after {INTENDED}")


def _first(plan: Plan) -> str:
    return Plan(plan.story, plan.kills[:1]).id


def _perhaps_cut(plan: Plan, random: Random) -> Plan:
    if random.random() < 0.5:
        return plan
    how = random.choice(("sshd", "nft", "dead") if plan.story.startswith(RACKS) else ("down",))
    return evolve(plan, cuts=(Cut(how, random.randint(1, LONGER_MS), plan.kills[0]),))


def missed(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the plans of which a death was not died, or a cut cut nothing: they have shown nothing."""
    wanted = {verdict.plan: Plan.parse(verdict.plan) for verdict in verdicts}
    return [
        verdict.plan
        for verdict in verdicts
        if (len(verdict.deaths), len(verdict.cuts)) != (len(wanted[verdict.plan].kills), len(wanted[verdict.plan].cuts))
    ]
