"""Lease controls: what the holder of a request key says, and the module's answer."""

from contextlib import aclosing

from compute_bridge.host.market import Market
from compute_bridge.host.outbox import send
from compute_bridge.host.requester_state import KeptRequest
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction, ControlVerdict, LeaseControl
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import short
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import AdmissionError, RecordConflictError
from compute_bridge.wire.signing import Signed, sign


async def send_control(
    market: Market,
    kept: KeptRequest,
    grant: Signed[ComputeGrant],
    *,
    action: ControlAction,
    extend_ms: Milliseconds,
    note: str,
    clock: Clock,
) -> ControlVerdict:
    """Sign one control with the request key, send it, and return the module's answer.

    :raises AdmissionError: if the module does not apply it.
    """
    after = await market.network.tail(channels.CONTROL_VERDICTS)
    sequence = await _free_sequence(market, grant.value, 1)
    while True:
        control = LeaseControl(grant.value.id, kept.signed.value.request_key, sequence, action, extend_ms, note)
        raw = sign(control, kept.signing, domain=market.domain).raw
        try:
            await send(market.network, channels.CONTROL, _record_id(grant.value, sequence), raw, clock=clock)
            break
        except RecordConflictError:
            # Somebody took the number meanwhile: another process of ours, or a stranger.
            sequence = await _free_sequence(market, grant.value, sequence + 1)
    verdict = await _await_answer(market, grant.value, sequence, after)
    if verdict.reason != Reason.CONTROL_APPLIED:
        raise AdmissionError(
            f"the market does not apply {action} to grant {short(grant.value.id)}: {verdict.reason}",
            reason=verdict.reason,
        )
    return verdict


def _record_id(grant: ComputeGrant, sequence: int) -> bytes:
    return grant.id + channels.number(sequence)


async def _free_sequence(market: Market, grant: ComputeGrant, sequence: int) -> int:
    while await market.network.find(channels.CONTROL, _record_id(grant, sequence)) is not None:
        sequence += 1
    return sequence


async def _await_answer(market: Market, grant: ComputeGrant, sequence: int, after: int) -> ControlVerdict:
    async with aclosing(market.control_verdicts(after)) as verdicts:
        async for _, verdict in verdicts:
            if (verdict.value.grant_id, verdict.value.sequence) == (grant.id, sequence):
                return verdict.value
    raise RuntimeError("a network's follow has ended")
