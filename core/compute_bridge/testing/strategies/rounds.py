"""Rounds to clear: few providers, few slots, and more requests than fit."""

from attrs import evolve

from compute_bridge.model.card import ProviderCard
from compute_bridge.model.clearing import BandLoad, ClearingInputs, ProviderInput, RequestInput
from compute_bridge.model.ids import Fingerprint, ProviderId, PublicKey, RequestId
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.request import ComputeRequest, Preferences
from compute_bridge.model.resources import Capability, CapacityBand, NetworkPolicy, Posture, Requirements
from compute_bridge.model.units import BasisPoints, MicrosPerHour, Milliseconds, NanosPerHour, Tick
from compute_bridge.ports.strategy import Bidder, OpenRequest, Round
from compute_bridge.testing.strategies.lots import Lots
from compute_bridge.testing.strategies.values import (
    BANDS,
    CURRENCY,
    NEEDS,
    REGIONS,
    SIZES,
    card,
    card_of,
    digest_of,
    resources,
)

PROVIDERS = ("provider-a", "provider-b", "provider-c")
_MAX_RATES = (1, 8, 10**6, 10**6)


def requested(name: str, wanted: Requirements, max_rate: int, *, excluded: frozenset[ProviderId]) -> OpenRequest:
    """Return the request ``name``; nothing in it that proves anything is real."""
    request = ComputeRequest(
        request_key=PublicKey(digest_of(f"{name} signs")),
        requirements=wanted,
        max_rate=MicrosPerHour(max_rate),
        currency=CURRENCY,
        preferences=Preferences(),
        bearer_pointer=digest_of(f"{name} pointer"),
        manifest_commitment=digest_of(f"{name} manifest"),
        envelope_commitment=digest_of(f"{name} envelope"),
        expires_at=Tick(100),
    )
    return OpenRequest(RequestId(digest_of(name)), request, excluded)


def bidder(one: ProviderCard, loads: dict[str, int], other: int = 0) -> Bidder:
    """Return who bids with this card: what it has open by band, and ``other`` leases beside."""
    card_hash = Fingerprint(digest_of(f"card of {one.provider_id.hex()}"))
    return Bidder(one, card_hash, sum(loads.values()) + other, loads)


def round_of(requests: list[OpenRequest], bidders: list[Bidder], beacon: bytes = bytes(32)) -> Round:
    """Return the round of these, its inputs as a market writes them down."""
    inputs = ClearingInputs(
        round=1,
        closed_at=Tick(1),
        beacon=beacon,
        requests=tuple(RequestInput(one.id, tuple(sorted(one.excluded))) for one in requests),
        providers=tuple(_input(one) for one in bidders),
    )
    return Round(
        inputs, tuple(requests), tuple(bidders), CURRENCY, BasisPoints(100), BasisPoints(50), digest_of("module")
    )


def drawn_round(seed: int) -> Round:
    """Return a round of up to three providers and five requests, by lot."""
    lots = Lots(f"round {seed}")
    bidders = [_bidder(name, lots) for name in PROVIDERS[: lots.pick((0, 1, 2, 3, 3, 3))]]
    requests = [_request(f"request-{number}", lots) for number in range(lots.pick((0, 1, 3, 4, 5, 5)))]
    return round_of(requests, bidders, digest_of(f"beacon {lots.pick(range(100))}"))


def even_round(requests: int, providers: int, beacon: bytes) -> Round:
    """Return a round in which all requests are alike, and so are all providers, each with one free slot."""
    wanted = Requirements(resources(1), Milliseconds(1))
    asked = [requested(f"request-{at}", wanted, 10**6, excluded=frozenset()) for at in range(requests)]
    return round_of(asked, [bidder(_plain_card(f"provider-{at}"), {}) for at in range(providers)], beacon)


def turned(round_: Round) -> Round:
    """Return the same round with everything listed the other way round."""
    inputs = round_.inputs
    back = evolve(inputs, requests=inputs.requests[::-1], providers=inputs.providers[::-1])
    return evolve(round_, inputs=back, requests=round_.requests[::-1], bidders=round_.bidders[::-1])


def _bidder(name: str, lots: Lots) -> Bidder:
    one = card_of(name, lots)
    return bidder(one, {band.name: lots.pick((0, 0, 1)) for band in one.bands}, lots.pick((0, 0, 1)))


def _request(name: str, lots: Lots) -> OpenRequest:
    nobody: frozenset[ProviderId] = frozenset()
    excluded = lots.pick((nobody, nobody, frozenset({ProviderId(digest_of(PROVIDERS[0]))})))
    return requested(name, lots.pick(NEEDS), lots.pick(_MAX_RATES), excluded=excluded)


def _input(one: Bidder) -> ProviderInput:
    loads = tuple(BandLoad(band.name, one.loads.get(band.name, 0)) for band in one.card.bands)
    return ProviderInput(one.card.provider_id, one.card_hash, one.open, loads)


def _plain_card(name: str) -> ProviderCard:
    band = CapacityBand(BANDS[0], resources(SIZES[0]), resources(SIZES[-1]), 1)
    capability = Capability(REGIONS[0], Posture.NONE, resources(SIZES[-1]), (NetworkPolicy.ISOLATED,))
    row = RateRow(REGIONS[0], Posture.NONE, band.name, UnitNanos(vcpu=NanosPerHour(1000)))
    return card(name, (capability,), (band,), RateTable(CURRENCY, (row,)), 1)
