"""What the market demands of a clearing rule's outcome, whoever wrote the rule."""

from collections import Counter

from compute_bridge.api import Bidder, Cleared, OpenRequest, Round
from compute_bridge.model.clearing import Award
from compute_bridge.model.ids import UniqueId, grant_id
from compute_bridge.ports.errors import MarketError


class RuleError(MarketError):
    """A clearing rule's outcome cannot be committed; the round awards nothing, mend or replace the rule."""


def require_sound(rule: str, round_: Round, cleared: Cleared) -> None:
    """Return if the outcome can be committed.

    :raises RuleError: naming the rule and the first thing that is wrong.
    """
    fault = _fault(round_, cleared)
    if fault is not None:
        raise RuleError(f"clearing rule {rule}: {fault}; nothing is awarded, mend or replace the rule")


def _fault(round_: Round, cleared: Cleared) -> str | None:
    requests = {one.id: one for one in round_.requests}
    bidders = {one.card.provider_id: one for one in round_.bidders}
    told = Counter((verdict.request_id, verdict.provider_id) for verdict in cleared.verdicts)
    if told != Counter((request, provider) for request in requests for provider in bidders):
        return "its verdicts are not one for each request and bidder"
    if len({award.request_id for award in cleared.awards}) != len(cleared.awards):
        return "it awards a request twice"
    for award in cleared.awards:
        request, bidder = requests.get(award.request_id), bidders.get(award.provider_id)
        if request is None or bidder is None:
            return "it awards a request or to a bidder that takes no part"
        if (fault := _award_fault(round_, award, request, bidder)) is not None:
            return f"request {award.request_id.hex()[:12]}: {fault}"
    return _capacity_fault(cleared.awards, round_.bidders)


def _award_fault(round_: Round, award: Award, request: OpenRequest, bidder: Bidder) -> str | None:
    needs, card = request.request.requirements, bidder.card
    if award.grant_id != grant_id(request.id, UniqueId(round_.module), round_.inputs.round):
        return "its grant has another id than the round gives it"
    if award.card_hash != bidder.card_hash or card.provider_id in request.excluded:
        return "it goes to a card or provider that is excluded"
    row = card.rates.find(award.region, award.posture, award.band)
    if row is None or row.units.hourly(needs) != award.rate:
        return "its rate is not the one that the card asks"
    if award.rate > request.request.max_rate:
        return f"its rate {award.rate} exceeds the max rate {request.request.max_rate}"
    served = (one for one in card.capabilities if (one.region, one.posture) == (award.region, award.posture))
    if not any(one.serves(needs) for one in served):
        return "the card does not serve it there"
    if not any(band.name == award.band and band.covers(needs) for band in card.bands):
        return f"it lies outside band {award.band}"
    return None


def _capacity_fault(awards: tuple[Award, ...], bidders: tuple[Bidder, ...]) -> str | None:
    taken = Counter(award.provider_id for award in awards)
    by_band = Counter((award.provider_id, award.band) for award in awards)
    for bidder in bidders:
        card = bidder.card
        new = taken[card.provider_id]
        if new and bidder.open + new > card.max_leases:
            return f"provider {card.provider_id.hex()[:12]} gets more than its {card.max_leases} leases"
        for band in card.bands:
            fresh = by_band[card.provider_id, band.name]
            if fresh and bidder.loads.get(band.name, 0) + fresh > band.slots:
                return f"band {band.name} of provider {card.provider_id.hex()[:12]} gets more than its slots"
    return None
