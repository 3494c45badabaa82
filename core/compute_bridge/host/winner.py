"""Whether the winner of a grant may be trusted with the envelope."""

from compute_bridge.host.card_checks import (
    QuoteTrust,
    check_binding,
    check_certificate,
    check_challenge,
    check_epoch,
    check_provider,
    check_quote,
    find_card,
)
from compute_bridge.host.market import Market
from compute_bridge.host.requester_checks import check_grant, check_record
from compute_bridge.host.requester_state import KeptRequest, Winner
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint
from compute_bridge.wire.signing import Signed


async def verify_winner(market: Market, grant: Signed[ComputeGrant], kept: KeptRequest, trust: QuoteTrust) -> Winner:
    """Return who won ``grant``, everything about it verified down to a named trust anchor.

    :raises UntrustedError: if the grant, its clearing record or its card does not hold.
    :raises AttestationError: if the card's quote does not prove what the policy demands.
    """
    check_grant(grant.value, kept.signed.value, kept.id, market.domain.module)
    record = await market.check_award(grant)
    check_record(record.value, grant.value, market.config)
    found = await find_card(market, grant.value.card_hash)
    check_provider(found, grant.value.provider_id)
    certificate = check_certificate(found, market.domain)
    await check_epoch(found, certificate, market)
    check_binding(found, market.domain)
    await check_challenge(found, market, record.value.closed_at)
    quote = await check_quote(found, trust)
    return Winner(
        card_hash=found.signed.hash,
        signing=found.card.binding.keys.signing,
        sealing=found.card.binding.keys.sealing,
        quote_hash=Fingerprint(quote.quote_hash),
        anchor=quote.anchor,
        tcb_status=quote.tcb_status,
        development=quote.development,
    )
