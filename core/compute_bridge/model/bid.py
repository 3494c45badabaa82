"""What a card asks for given requirements: computed by market, bridge, requester and auditor alike."""

from attrs import field, frozen

from compute_bridge.model.card import ProviderCard
from compute_bridge.model.checks import label, whole
from compute_bridge.model.ids import BandName
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import (
    Capability,
    CapacityBand,
    Posture,
    Region,
    Requirements,
    TdxNeed,
)
from compute_bridge.model.units import MicrosPerHour

MAX_RATE = MicrosPerHour(2**63 - 1)


@frozen
class Bid:
    """The cheapest feasible row of a card for some requirements; no message, always computed."""

    region: Region = field(validator=label)
    posture: Posture
    band: BandName = field(validator=label)
    rate: MicrosPerHour = field(validator=whole())


def bid(card: ProviderCard, needs: Requirements, *, busy: frozenset[str] = frozenset()) -> Bid | Reason:
    """Return what ``card`` asks for ``needs``, or the reason why it asks nothing.

    Of several feasible rows the lowest rate wins, then the row's key; where TDX is preferred, a TDX row
    goes before every other. ``busy`` names the bands without a free slot.
    """
    served = [capability for capability in card.capabilities if capability.serves(needs)]
    if not served:
        return _why_not(card.capabilities, needs)
    bands = [band for band in card.bands if band.covers(needs)]
    if not bands:
        return Reason.OUT_OF_BAND
    free = [band for band in bands if band.name not in busy]
    if not free:
        return Reason.NO_FREE_CAPACITY
    bids = _rows(card, needs, served, free)
    return min(bids, key=lambda one: _rank(one, needs), default=Reason.NO_RATE)


def _rows(card: ProviderCard, needs: Requirements, served: list[Capability], bands: list[CapacityBand]) -> list[Bid]:
    places = {(capability.region, capability.posture) for capability in served}
    names = {band.name for band in bands}
    rows = [row for row in card.rates.rows if (row.region, row.posture) in places and row.band in names]
    # A table may ask more than any record can say; nobody could pay it, so it is no bid.
    rates = [(row, row.units.hourly(needs)) for row in rows]
    return [Bid(row.region, row.posture, row.band, rate) for row, rate in rates if rate <= MAX_RATE]


def _rank(one: Bid, needs: Requirements) -> tuple[bool, int, str, str, str]:
    second_best = needs.tdx is TdxNeed.PREFERRED and one.posture is not Posture.TDX
    return (second_best, one.rate, one.region, one.posture.value, one.band)


def _why_not(capabilities: tuple[Capability, ...], needs: Requirements) -> Reason:
    left = [one for one in capabilities if needs.accepts_region(one.region)]
    if not left:
        return Reason.REGION
    left = [one for one in left if needs.accepts_posture(one.posture)]
    if not left:
        return Reason.TDX_POSTURE
    if not any(needs.network in one.networks for one in left):
        return Reason.NETWORK_POLICY
    return Reason.SHAPE
