"""What follows from a clearing record: computed alike by the market, a bridge and an auditor."""

from compute_bridge.model.clearing import Award, ClearingRecord
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.request import ComputeRequest
from compute_bridge.model.units import Tick


def project_grant(award: Award, request: ComputeRequest, record: ClearingRecord, *, accept_within: int) -> ComputeGrant:
    """Return the grant that follows from an award, its request and its round's record, and from nothing else.

    It may be accepted from the tick after the round closed, for ``accept_within`` ticks.
    """
    valid_from = Tick(record.closed_at + 1)
    return ComputeGrant(
        id=award.grant_id,
        request_id=award.request_id,
        request_key=request.request_key,
        provider_id=award.provider_id,
        card_hash=award.card_hash,
        round=record.round,
        requirements=request.requirements,
        region=award.region,
        posture=award.posture,
        band=award.band,
        manifest_commitment=request.manifest_commitment,
        envelope_commitment=request.envelope_commitment,
        bearer_pointer=request.bearer_pointer,
        rate=award.rate,
        currency=record.currency,
        valid_from=valid_from,
        valid_to=Tick(valid_from + accept_within),
        duration_ms=request.requirements.duration_ms,
    )
