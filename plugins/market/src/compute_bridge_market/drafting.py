"""A round worked out: inputs, verdicts and record, from a view alone; nothing is published here."""

from attrs import frozen

from compute_bridge.api import Bidder, Cleared, OpenRequest, Round
from compute_bridge.model.clearing import (
    CHUNK,
    Award,
    BandLoad,
    ClearingInputs,
    ClearingRecord,
    ProviderInput,
    RequestInput,
    Verdict,
    VerdictChunk,
)
from compute_bridge.model.ids import BandName, PublicKey, RequestId
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour
from compute_bridge.wire import codec, merkle
from compute_bridge.wire.signing import Signed, record_hash
from compute_bridge_market.charges import reservation
from compute_bridge_market.module import Module
from compute_bridge_market.outcome_check import require_sound
from compute_bridge_market.selection import View


@frozen
class Draft:
    """A round ready to be committed."""

    inputs: ClearingInputs
    chunks: tuple[VerdictChunk, ...]
    record: ClearingRecord


def draft_round(
    module: Module, view: View, *, number: int, term: int, previous: Signed[ClearingRecord] | None
) -> Draft:
    """Return round ``number`` as the rule clears it, within every account's credit.

    A request whose account cannot pay for what it would win takes no part: it is not among the inputs, and
    its verdicts, ``credit-exhausted``, stand behind all others.
    """
    round_, cleared, withheld = _within_credit(module, view, number)
    verdicts = (*cleared.verdicts, *_exhausted(withheld, view.bidders))
    config = module.config
    record = ClearingRecord(
        round=number,
        previous=previous.hash if previous else bytes(32),
        term=term,
        rule=config.rule,
        rule_fingerprint=config.rule_fingerprint,
        closed_at=view.closed_at,
        beacon=view.beacon,
        inputs=record_hash(round_.inputs),
        awards=cleared.awards,
        currency=config.currency,
        requester_fee=config.requester_fee,
        provider_fee=config.provider_fee,
        verdict_root=merkle.root([codec.encode(verdict) for verdict in verdicts]),
        verdict_count=len(verdicts),
    )
    return Draft(round_.inputs, _chunks(number, verdicts), record)


def _within_credit(module: Module, view: View, number: int) -> tuple[Round, Cleared, tuple[OpenRequest, ...]]:
    """Clear until every award can be paid for; each turn takes at least one request out."""
    requests, withheld = view.requests, tuple[OpenRequest, ...]()
    while True:
        round_ = _round(module, view, requests, number)
        cleared = module.rule.clear(round_)
        require_sound(module.config.rule, round_, cleared)
        beyond = _beyond_credit(module, view, cleared.awards, requests)
        if not beyond:
            return round_, cleared, withheld
        withheld += tuple(one for one in requests if one.id in beyond)
        requests = tuple(one for one in requests if one.id not in beyond)


def _beyond_credit(
    module: Module, view: View, awards: tuple[Award, ...], requests: tuple[OpenRequest, ...]
) -> set[RequestId]:
    durations = {one.id: one.request.requirements.duration_ms for one in requests}
    spent: dict[PublicKey, int] = {}
    beyond: set[RequestId] = set()
    for award in awards:
        account = view.accounts[award.request_id]
        cost = reservation(award.rate, durations[award.request_id], module.config.requester_fee)
        total = spent.get(account, 0) + cost
        if total > view.credit[account]:
            beyond.add(award.request_id)
        else:
            spent[account] = total
    return beyond


def _exhausted(withheld: tuple[OpenRequest, ...], bidders: tuple[Bidder, ...]) -> list[Verdict]:
    return [
        Verdict(one.id, bidder.card.provider_id, Reason.CREDIT_EXHAUSTED, MicrosPerHour(0))
        for one in sorted(withheld, key=lambda one: one.id)
        for bidder in bidders
    ]


def _round(module: Module, view: View, requests: tuple[OpenRequest, ...], number: int) -> Round:
    config = module.config
    inputs = ClearingInputs(
        round=number,
        closed_at=view.closed_at,
        beacon=view.beacon,
        requests=tuple(RequestInput(one.id, tuple(sorted(one.excluded))) for one in requests),
        providers=tuple(_provider_input(one) for one in view.bidders),
    )
    return Round(
        inputs=inputs,
        requests=requests,
        bidders=view.bidders,
        currency=config.currency,
        requester_fee=config.requester_fee,
        provider_fee=config.provider_fee,
        module=module.domain.module,
    )


def _provider_input(one: Bidder) -> ProviderInput:
    bands = tuple(BandLoad(BandName(band), count) for band, count in sorted(one.loads.items()))
    return ProviderInput(one.card.provider_id, one.card_hash, one.open, bands)


def _chunks(number: int, verdicts: tuple[Verdict, ...]) -> tuple[VerdictChunk, ...]:
    starts = range(0, len(verdicts), CHUNK)
    return tuple(VerdictChunk(number, start // CHUNK, verdicts[start : start + CHUNK]) for start in starts)
