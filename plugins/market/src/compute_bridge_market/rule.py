"""The clearing rule ``lowest-rate``: each request to the bidder that asks least.

Where more requests want a bidder than it has free slots, those with the lowest
H(beacon, request, provider) get in and the others go to their next best bidder; bidders that ask the
same are preferred in the order of that hash too. This is deferred acceptance, so no request and bidder
would both rather have each other than what they got, and the order of the inputs cannot matter.
"""

from attrs import frozen

from compute_bridge.api import Bidder, Cleared, ClearingRule, OpenRequest, Round
from compute_bridge.model.bid import Bid
from compute_bridge.model.clearing import Award, Verdict
from compute_bridge.model.ids import Fingerprint, ProviderId, UniqueId, digest, grant_id
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour
from compute_bridge_market.matching import Asked, Match, ask, match

_FINGERPRINT = Fingerprint(digest("compute-bridge/clearing-rule/v1", b"lowest-rate", b"1"))


@frozen
class LowestRateConfig:
    """The rule has no settings."""


class LowestRate(ClearingRule):
    """Matches each request with the lowest rate it can get; every loss has its reason."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Return what pins this version of the rule."""
        return _FINGERPRINT

    def clear(self, round_: Round) -> Cleared:
        """Return awards by request id, and a verdict for each request and provider in the order of both ids."""
        requests = sorted(round_.requests, key=lambda one: one.id)
        bidders = {one.card.provider_id: one for one in sorted(round_.bidders, key=lambda one: one.card.provider_id)}
        asked = ask(requests, list(bidders.values()), round_.currency)
        won = match(requests, bidders, asked, round_.inputs.beacon)
        awards = tuple(_award(round_, one, won[one.id], bidders) for one in requests if one.id in won)
        verdicts = (_verdict(one, provider, asked, won.get(one.id)) for one in requests for provider in bidders)
        return Cleared(awards, tuple(verdicts))


def _award(round_: Round, one: OpenRequest, won: Match, bidders: dict[ProviderId, Bidder]) -> Award:
    return Award(
        request_id=one.id,
        grant_id=grant_id(one.id, UniqueId(round_.module), round_.inputs.round),
        provider_id=won.provider,
        card_hash=bidders[won.provider].card_hash,
        region=won.bid.region,
        posture=won.bid.posture,
        band=won.bid.band,
        rate=won.bid.rate,
    )


def _verdict(one: OpenRequest, provider: ProviderId, asked: Asked, won: Match | None) -> Verdict:
    answer = asked[one.id][provider]
    if won is not None and won.provider == provider:
        return Verdict(one.id, provider, Reason.WON, won.bid.rate)
    if isinstance(answer, Reason):
        return Verdict(one.id, provider, answer, MicrosPerHour(0))
    if answer.rate > one.request.max_rate:
        return Verdict(one.id, provider, Reason.ABOVE_MAX_RATE, answer.rate)
    return Verdict(one.id, provider, _lost(one, answer, won), answer.rate)


def _lost(one: OpenRequest, answer: Bid, won: Match | None) -> Reason:
    """Say why a bid within the max rate did not win: beaten, beaten by the beacon alone, or already full."""
    if won is None:
        return Reason.NO_FREE_CAPACITY
    theirs, winners = won.standing(one.request, answer), won.standing(one.request, won.bid)
    if theirs == winners:
        return Reason.TIE_LOST
    return Reason.OUTBID if theirs > winners else Reason.NO_FREE_CAPACITY
