"""Which deaths are played: every point that the unkilled stories pass, and more of them as a bridge recovers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random  # noqa: TID251 - seeded, and the seed is told

from crashkit.points import Kill
from crashkit.schedule import Plan, Verdict
from crashkit.stories import STORIES

RECOVERY_POINTS = 250
"""About how many points a bridge passes from its start to the end of a lease that it has resumed."""
LONGEST_MARKET_MS = 1_500
MARKET_DEATHS = (0, 0, 1, 3)
"""How often the market dies beside the bridge, drawn evenly."""


def unkilled() -> list[Plan]:
    """Return each story without a death."""
    return [Plan(story) for story in STORIES]


def all_plans(recorded: Iterable[Verdict], *, most: int) -> list[Plan]:
    """Return a plan for each point that the unkilled stories passed, at most ``most`` for the passings of one point."""
    plans = []
    for verdict in recorded:
        for life, points in enumerate(verdict.points):
            passed: Counter[str] = Counter()
            for name in points:
                passed[name] += 1
                if passed[name] <= most:
                    plans.append(Plan(verdict.plan, (Kill(life, passed[name], name),)))
    return plans


def chosen_plans(recorded: Iterable[Verdict]) -> list[Plan]:
    """Return one plan for each name of a point, where a story passes it first."""
    first: dict[str, Plan] = {}
    for plan in all_plans(recorded, most=1):
        first.setdefault(plan.kills[0].name, plan)
    return list(first.values())


def drawn(plans: Iterable[Plan], seed: int, *, count: int) -> list[Plan]:
    """Return ``count`` of the plans, or all, in the order that the seed gives them."""
    every = list(plans)
    return [plan for plan, _ in _turns(every, seed, count=min(count, len(every)))]


def again(plans: Iterable[Plan], seed: int, *, count: int, deaths: int = 3) -> Iterator[Plan]:
    """Yield ``count`` of the plans, each with one or two deaths more as the bridge recovers; the market may die too."""
    for plan, random in _turns(plans, f"again {seed}", count=count):
        kills = list(plan.kills)
        for _ in range(random.randint(1, deaths - 1)):
            kills.append(Kill(kills[-1].life + 1, random.randint(1, RECOVERY_POINTS)))
        markets = [random.randint(50, LONGEST_MARKET_MS) for _ in range(random.choice(MARKET_DEATHS))]
        yield Plan(plan.story, tuple(kills), market_ms=tuple(markets))


def _turns(plans: Iterable[Plan], seed: object, *, count: int) -> Iterator[tuple[Plan, Random]]:
    """Yield ``count`` of the plans, no one twice before all have had their turn, each with what else is drawn for it.

    All of it hangs on the seed and on the plan's own id: a story passes some points in one run and not in another,
    and no such point may change what is drawn for the others.
    """
    order = sorted(plans, key=lambda plan: Random(f"{seed} {plan.id}").random())
    for at in range(count):
        turn, place = divmod(at, len(order))
        yield order[place], Random(f"{seed} {order[place].id} {turn}")
