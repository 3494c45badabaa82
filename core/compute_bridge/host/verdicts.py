"""Why the offers that a route did not try lost: the next in line by name, those in quarantine, the others counted."""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.offer_index import RouteQuestion
from compute_bridge.host.placement import RouteStep
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.reason import Reason
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import Preference

MOST = 8
"""How many offers are named of each sort; a catalogue has thousands that say nothing new."""
_DRAWN = 64
_LOOKED_AT = 1000

_Offers = AbstractSet[tuple[BackendName, OfferId]]


def passed_over(
    fleet: Fleet,
    question: RouteQuestion,
    preference: Preference,
    *,
    told: _Offers,
    is_affordable: Callable[[Offer], bool],
) -> tuple[RouteStep, ...]:
    """Return the verdicts on every offer but those that the route has ``told`` of."""
    return (
        *islice(_outbid(fleet, question, preference, told, is_affordable), MOST),
        *islice(_benched(fleet, question, told), MOST),
        *islice(quarantined(fleet, question), MOST),
        *_unable(fleet, question),
    )


def quarantined(fleet: Fleet, question: RouteQuestion) -> Iterator[RouteStep]:
    """Yield the offers that could serve were it not for their costs."""
    for one in fleet.quarantined(question):
        yield RouteStep(one.backend, one.offer_id, one.reason, one.detail)


def _outbid(
    fleet: Fleet,
    question: RouteQuestion,
    preference: Preference,
    told: _Offers,
    is_affordable: Callable[[Offer], bool],
) -> Iterator[RouteStep]:
    for candidate in islice(fleet.candidates(question, preference), _DRAWN):
        offer = candidate.offer
        if (offer.backend, offer.id) not in told and is_affordable(offer):
            detail = f"costs {candidate.hourly_cost} micros/h; others came first"
            yield RouteStep(offer.backend, offer.id, Reason.OUTBID, detail)


def _benched(fleet: Fleet, question: RouteQuestion, told: _Offers) -> Iterator[RouteStep]:
    for candidate in islice(fleet.index.candidates(question, Preference.BOOT_ORDER), _LOOKED_AT):
        offer, bench = candidate.offer, fleet.bench_of(candidate.offer)
        if bench is None or {(offer.backend, offer.id), (bench.backend, OfferId(bench.place))} & told:
            continue
        yield RouteStep(offer.backend, offer.id, Reason.BENCHED, f"{bench.scope}: {bench.detail}")


def _unable(fleet: Fleet, question: RouteQuestion) -> Iterator[RouteStep]:
    for (backend, reason), count in sorted(fleet.index.unable(question).items()):
        yield RouteStep(backend, "", reason, f"{count} of its offers cannot serve it")
