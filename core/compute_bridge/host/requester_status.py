"""Where a request stands: what the market says of it, and how each provider's bid fared."""

from enum import StrEnum

from attrs import frozen

from compute_bridge.host.log_checks import find_log, whole_stream
from compute_bridge.host.market import Market
from compute_bridge.host.notice_checks import find_notice
from compute_bridge.host.requester_state import KeptRequest
from compute_bridge.model import channels
from compute_bridge.model.clearing import Verdict, VerdictChunk
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import ProviderId, RequestId
from compute_bridge.model.notice import InterruptionNotice
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.units import Tick
from compute_bridge.model.usage import ComputeLog
from compute_bridge.ports.errors import MarketError, RecordError
from compute_bridge.wire.signing import Signed, open_signed

GRACE_TICKS = 3
"""How long after its last round a request's grant may still be on its way."""


class RequestState(StrEnum):
    """How far a request got."""

    SENT = "sent"
    REFUSED = "refused"
    ADMITTED = "admitted"
    EXPIRED = "expired"
    GRANTED = "granted"
    DELIVERED = "delivered"
    ENDED = "ended"
    SETTLED = "settled"


@frozen
class RequestStatus:
    """A request as the market and its owner see it now. ``bids`` are those of the last round that saw it.

    ``notice`` is the provider's word that the machine will be taken away before the lease is over.
    """

    request_id: RequestId
    state: RequestState
    reason: str
    grant: ComputeGrant | None
    bids: tuple[Verdict, ...]
    log: ComputeLog | None
    statement: SettlementStatement | None
    notice: InterruptionNotice | None = None


async def look_up(market: Market, kept: KeptRequest) -> RequestStatus:
    """Return the status of a kept request, from verified records alone."""
    signed = await latest_grant(market, kept.id) or kept.grant(market.config.signing_key)
    grant = signed.value if signed else None
    log = await _log(market, grant) if grant else None
    statement = await _statement(market, grant) if grant else None
    notice = await find_notice(market, grant) if grant else None
    state = _state(kept, grant, log, statement)
    if state is RequestState.ADMITTED and await _is_over(market, kept):
        state = RequestState.EXPIRED
    reason = log.reason.value if log else kept.progress.verdict
    reason = Reason.REQUEST_EXPIRED.value if state is RequestState.EXPIRED else reason
    bids = await bids_of(market, kept.id, after=kept.secrets.clearing_verdicts_after)
    return RequestStatus(kept.id, state, reason, grant, bids, log, statement, notice)


async def latest_grant(market: Market, request: RequestId) -> Signed[ComputeGrant] | None:
    """Return the last grant that the market awarded for a request, or None before the first."""
    held = await market.network.get(channels.GRANTS, request)
    if held is None:
        return None
    grant = open_signed(held.value, ComputeGrant, market.domain, by=market.config.signing_key)
    return grant if grant.value.request_id == request else None


async def bids_of(market: Market, request: RequestId, *, after: int) -> tuple[Verdict, ...]:
    """Return how each provider's bid fared in the last round that saw the request, ordered by provider."""
    last: dict[ProviderId, tuple[int, Verdict]] = {}
    async for entry in whole_stream(market, channels.VERDICTS, after=after):
        try:
            chunk = open_signed(entry.record, VerdictChunk, market.domain, by=market.config.signing_key).value
        except RecordError:
            continue  # anybody may write to a stream; only the module's word counts
        for verdict in chunk.verdicts:
            if verdict.request_id == request:
                last[verdict.provider_id] = (chunk.round, verdict)
    newest = max((round_ for round_, _ in last.values()), default=0)
    return tuple(verdict for _, (round_, verdict) in sorted(last.items()) if round_ == newest)


async def _is_over(market: Market, kept: KeptRequest) -> bool:
    try:
        await market.find_tick(Tick(kept.signed.value.expires_at + GRACE_TICKS + 1))
    except MarketError:
        return False
    return True


async def _log(market: Market, grant: ComputeGrant) -> ComputeLog | None:
    if await market.log_entry(grant.id) is None:
        return None
    return (await find_log(market, grant)).value


async def _statement(market: Market, grant: ComputeGrant) -> SettlementStatement | None:
    try:
        return (await market.statement(grant.id)).value
    except MarketError:
        return None


def _state(
    kept: KeptRequest, grant: ComputeGrant | None, log: ComputeLog | None, statement: SettlementStatement | None
) -> RequestState:
    reached = [
        (statement is not None, RequestState.SETTLED),
        (log is not None, RequestState.ENDED),
        (grant is not None and bool(kept.progress.receipt), RequestState.DELIVERED),
        (grant is not None, RequestState.GRANTED),
        (kept.progress.verdict == Reason.ADMITTED, RequestState.ADMITTED),
        (bool(kept.progress.verdict), RequestState.REFUSED),
    ]
    return next((state for holds, state in reached if holds), RequestState.SENT)
