"""What the bridge checks of a grant before it serves it: ours, fresh, on our card, within what we declared."""

from attrs import frozen

from compute_bridge.host.market import Market
from compute_bridge.model.card import ProviderCard
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import ProviderId
from compute_bridge.model.reason import Reason
from compute_bridge.ports.errors import ComputeBridgeError, MarketError, RecordError
from compute_bridge.wire.signing import Signed


class NotAdmittedError(ComputeBridgeError):
    """A grant of ours cannot be served; refuse it with ``reason``."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@frozen
class Load:
    """What is open as a grant comes in: in all, and in each band."""

    open: int
    bands: dict[str, int]


async def admitted_card(market: Market, provider: ProviderId, grant: ComputeGrant) -> ProviderCard:
    """Return the card of ours that ``grant`` was cleared on.

    :raises NotAdmittedError: if it is not a card of ours that the module admitted.
    """
    try:
        _, card = await market.card(grant.card_hash)
    except (MarketError, RecordError) as error:
        raise NotAdmittedError(Reason.GRANT_CARD_UNKNOWN, str(error)) from error
    if card.value.provider_id != provider:
        raise NotAdmittedError(Reason.GRANT_CARD_UNKNOWN, "the grant was cleared on another provider's card")
    return card.value


async def check_cleared(market: Market, grant: Signed[ComputeGrant]) -> None:
    """Return if the grant is still fresh and its round's clearing record awards it as it stands.

    :raises NotAdmittedError: if not.
    """
    tick = await market.tick()
    if tick.value.tick > grant.value.valid_to:
        raise NotAdmittedError(
            Reason.GRANT_EXPIRED,
            f"it could be accepted until tick {grant.value.valid_to}, now is {tick.value.tick}",
        )
    try:
        await market.check_award(grant)
    except (MarketError, RecordError) as error:
        raise NotAdmittedError(Reason.GRANT_CLEARING, str(error)) from error


def check_commitment(card: ProviderCard, grant: ComputeGrant, load: Load) -> None:
    """Return if our own card commits us to serve ``grant`` at its rate and there is room.

    A card that declares a band is held to it here, whatever the market cleared.

    :raises NotAdmittedError: if the band, the rate, the duration or the room does not fit.
    """
    band = next((one for one in card.bands if one.name == grant.band), None)
    if band is None or not band.covers(grant.requirements):
        raise NotAdmittedError(Reason.OUT_OF_BAND, f"band {grant.band} of our card does not cover it")
    row = card.rates.find(grant.region, grant.posture, grant.band)
    asked = row.units.hourly(grant.requirements) if row else None
    if (asked, card.rates.currency) != (grant.rate, grant.currency):
        raise NotAdmittedError(
            Reason.RATE_MISMATCH, f"our card asks {asked}, the grant clears {grant.rate} {grant.currency}/h"
        )
    if grant.duration_ms != grant.requirements.duration_ms:
        raise NotAdmittedError(Reason.GRANT_MALFORMED, "duration and requirements disagree")
    if load.open >= card.max_leases:
        raise NotAdmittedError(Reason.CONCURRENCY_CAP, f"{load.open} of {card.max_leases} leases are open")
    if load.bands.get(grant.band, 0) >= band.slots:
        raise NotAdmittedError(Reason.CONCURRENCY_CAP, f"all {band.slots} slots of band {band.name} are open")
