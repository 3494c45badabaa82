"""Deferred acceptance between requests and bidders: requests propose, bidders keep whom the beacon favours."""

import heapq
from bisect import insort
from collections.abc import Sequence
from typing import TypeAlias

from attrs import define, field, frozen

from compute_bridge.api import Bidder, OpenRequest
from compute_bridge.model.bid import Bid, bid
from compute_bridge.model.ids import ProviderId, RequestId, digest
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import ComputeRequest
from compute_bridge.model.resources import Posture, Requirements, TdxNeed

Asked: TypeAlias = dict[RequestId, dict[ProviderId, Bid | Reason]]
"""For each request what each provider asks at best as the round begins, or why it asks nothing."""


def priority(beacon: bytes, request: RequestId, provider: ProviderId) -> bytes:
    """Return H(beacon, request, provider): the lower, the sooner served; nobody can grind it."""
    return digest("compute-bridge/lowest-rate/v1", beacon, request, provider)


@frozen
class Match:
    """Who serves a request, and on which bid."""

    provider: ProviderId
    bid: Bid

    @staticmethod
    def standing(request: ComputeRequest, one: Bid) -> tuple[bool, int]:
        """Return how good a bid is to a request, lower is better: TDX first where preferred, then the rate."""
        wants_tdx = request.requirements.tdx is TdxNeed.PREFERRED
        return (wants_tdx and one.posture is not Posture.TDX, one.rate)


def ask(requests: Sequence[OpenRequest], bidders: Sequence[Bidder], currency: str) -> Asked:
    """Return what every bidder asks of every request."""
    known: dict[Requirements, dict[ProviderId, Bid | Reason]] = {}
    asked: Asked = {}
    for one in requests:
        needs = one.request.requirements
        if needs not in known:
            known[needs] = {bidder.card.provider_id: _ask(bidder, needs, currency) for bidder in bidders}
        asked[one.id] = known[needs]
        if one.excluded:
            refused = {provider: Reason.EXCLUDED for provider in known[needs] if provider in one.excluded}
            asked[one.id] = {**known[needs], **refused}
    return asked


def _ask(bidder: Bidder, needs: Requirements, currency: str) -> Bid | Reason:
    card = bidder.card
    if card.rates.currency != currency:
        return Reason.NO_RATE
    answer = bid(card, needs, busy=_busy(bidder))
    if isinstance(answer, Bid) and bidder.open >= card.max_leases:
        return Reason.NO_FREE_CAPACITY
    return answer


def _busy(bidder: Bidder) -> frozenset[str]:
    return frozenset(band.name for band in bidder.card.bands if bidder.loads.get(band.name, 0) >= band.slots)


@frozen(order=True)
class _Proposal:
    """One request's next best bid; what sorts lower it would rather have."""

    standing: tuple[bool, int]
    priority: bytes
    provider: ProviderId
    bid: Bid = field(order=False)
    full: frozenset[str] = field(order=False)
    request: OpenRequest = field(order=False)


@frozen(order=True)
class _Held:
    priority: bytes
    request_id: RequestId
    proposal: _Proposal = field(order=False)


@define
class _Seats:
    """One bidder's free slots, in all and by band, and whom it holds, best first."""

    free: int
    slots: dict[str, int]
    held: dict[str, list[_Held]]

    @classmethod
    def of(cls, bidder: Bidder) -> "_Seats":
        loads = bidder.loads
        slots = {str(band.name): max(0, band.slots - loads.get(band.name, 0)) for band in bidder.card.bands}
        return cls(max(0, bidder.card.max_leases - bidder.open), slots, {name: [] for name in slots})

    def take(self, proposal: _Proposal) -> _Proposal | None:
        """Hold ``proposal`` if there is room or it displaces a worse one; return who must go on, if anyone."""
        band = proposal.bid.band
        insort(self.held[band], _Held(proposal.priority, proposal.request.id, proposal))
        if len(self.held[band]) > self.slots[band]:
            return self.held[band].pop().proposal
        if sum(map(len, self.held.values())) > self.free:
            worst = max((one for one in self.held.values() if one), key=lambda one: one[-1])
            return worst.pop().proposal
        return None


def match(
    requests: Sequence[OpenRequest], bidders: dict[ProviderId, Bidder], asked: Asked, beacon: bytes
) -> dict[RequestId, Match]:
    """Return who serves whom, the same for every order of the inputs."""
    seats = {provider: _Seats.of(bidder) for provider, bidder in bidders.items()}
    wishes = {one.id: _wishes(one, asked[one.id], bidders, beacon) for one in requests}
    waiting = list(requests)
    while waiting:
        one = waiting.pop()
        if not wishes[one.id]:
            continue
        refused = seats[wishes[one.id][0].provider].take(heapq.heappop(wishes[one.id]))
        if refused is None:
            continue
        again = _next(refused, bidders[refused.provider])
        if again is not None:
            heapq.heappush(wishes[refused.request.id], again)
        waiting.append(refused.request)
    held = (one for seat in seats.values() for band in seat.held.values() for one in band)
    return {one.request_id: Match(one.proposal.provider, one.proposal.bid) for one in held}


def _wishes(
    one: OpenRequest, asked: dict[ProviderId, Bid | Reason], bidders: dict[ProviderId, Bidder], beacon: bytes
) -> list[_Proposal]:
    """Return a heap of what ``one`` would accept."""
    wishes = []
    for provider, answer in asked.items():
        if isinstance(answer, Bid):
            standing = Match.standing(one.request, answer)
            best = _Proposal(standing, priority(beacon, one.id, provider), provider, answer, frozenset(), one)
            # Its best may be dear because it is confidential; another band may be within the max rate.
            is_payable = answer.rate <= one.request.max_rate
            wishes.append(best if is_payable else _next(best, bidders[provider]))
    heap = [wish for wish in wishes if wish is not None]
    heapq.heapify(heap)
    return heap


def _next(refused: _Proposal, bidder: Bidder) -> _Proposal | None:
    """Return the same provider's next bid within the max rate, its fuller and dearer bands left out."""
    full = refused.full | {refused.bid.band}
    request = refused.request.request
    answer = bid(bidder.card, request.requirements, busy=_busy(bidder) | full)
    while isinstance(answer, Bid) and answer.rate > request.max_rate:
        full |= {answer.band}
        answer = bid(bidder.card, request.requirements, busy=_busy(bidder) | full)
    if isinstance(answer, Reason):
        return None
    standing = Match.standing(request, answer)
    return _Proposal(standing, refused.priority, refused.provider, answer, full, refused.request)
