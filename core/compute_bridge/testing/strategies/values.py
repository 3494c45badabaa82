"""Questions to ask of a strategy: small worlds, in which ties, full bands and missing rates are frequent."""

from hashlib import sha256
from itertools import product

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from compute_bridge.model.card import BootKeys, Custody, ProviderCard, QuoteBinding
from compute_bridge.model.ids import (
    BackendName,
    BandName,
    Fingerprint,
    OfferId,
    ProviderId,
    PublicKey,
    SealingKey,
    UniqueId,
)
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import CostBasis, RateRow, RateTable, UnitNanos
from compute_bridge.model.resources import (
    Capability,
    CapacityBand,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    TdxNeed,
    Zone,
)
from compute_bridge.model.units import HOUR_MS, Milliseconds, Nanos, NanosPerHour, Tick, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.testing.strategies.lots import Lots

CURRENCY = "EUR"
REGIONS = (Region("eu-north"), Region("us-west"))
BANDS = (BandName("large"), BandName("small"))
SIZES = (1, 2, 4)
POSTURES = (Posture.NONE, Posture.TDX)

# Derandomized: a policy that passes today passes tomorrow.
EXAMPLES = settings(
    max_examples=80,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    # One policy serves all examples on purpose: it must not remember.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def digest_of(name: str) -> bytes:
    """Return 32 bytes that stand for ``name``."""
    return sha256(name.encode()).digest()


def resources(size: int) -> Resources:
    """Return a machine of ``size``, each resource larger with it."""
    return Resources(size * 1000, size * 1024, size * 10, size // SIZES[-1])


NEEDS = tuple(
    Requirements(resources(size), Milliseconds(duration_ms), tdx, network, regions, egress_gib)
    for size in SIZES
    for duration_ms, egress_gib in ((1, 0), (HOUR_MS, 5))
    for tdx in TdxNeed
    for network in NetworkPolicy
    for regions in ((), (), REGIONS[:1], REGIONS)
)
UNITS = tuple(
    UnitNanos(
        machine=NanosPerHour(machine),
        vcpu=NanosPerHour(vcpu),
        ram_gib=NanosPerHour(ram),
        gpu=NanosPerHour(gpu),
        egress_gib=Nanos(egress),
    )
    for machine, vcpu, ram, gpu, egress in product((0, 10**13), (0, 1, 10**7), (0, 999), (0, 10**9), (0, 1))
)
RATES = tuple(UnitNanos(vcpu=NanosPerHour(vcpu), ram_gib=NanosPerHour(1000)) for vcpu in (1000, 1000, 2000))


def needs() -> st.SearchStrategy[Requirements]:
    """Draw what a workload needs."""
    return st.sampled_from(NEEDS)


@st.composite
def offers(draw: st.DrawFn) -> tuple[Offer, ...]:
    """Draw up to four offers of one backend, some alike, some in another currency."""
    return tuple(draw(_offer(number)) for number in range(draw(st.integers(0, 4))))


@st.composite
def _offer(draw: st.DrawFn, number: int) -> Offer:
    region = draw(st.sampled_from(REGIONS))
    size = draw(st.sampled_from(SIZES))
    currency = draw(st.sampled_from((CURRENCY, CURRENCY, "USD")))
    return Offer(
        id=OfferId(f"offer-{number}"),
        backend=BackendName("garage"),
        region=region,
        zone=Zone(f"{region}-a"),
        shape=f"shape-{size}",
        resources=resources(size),
        posture=draw(st.sampled_from(POSTURES)),
        networks=(NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED),
        cost=CostBasis(currency, draw(st.sampled_from(UNITS)), UtcMs(1), "catalogue"),
    )


def bands() -> st.SearchStrategy[tuple[CapacityBand, ...]]:
    """Draw the bands of a card, overlapping or apart, each with a slot or two."""
    return st.sampled_from(_BANDS)


def cards(name: str) -> st.SearchStrategy[ProviderCard]:
    """Draw the card of the provider ``name``."""
    return st.integers(0, 10**6).map(lambda seed: card_of(name, Lots(f"{name} {seed}")))


def card_of(name: str, lots: Lots) -> ProviderCard:
    """Return a card by lot: a few capabilities, most rows priced, a few leases at most."""
    its_bands = lots.pick(_BANDS)
    keys = [(region, posture, band.name) for region in REGIONS for posture in POSTURES for band in its_bands]
    rows = tuple(RateRow(*key, lots.pick(RATES)) for key in lots.some(keys))
    return card(name, lots.some(_CAPABILITIES), its_bands, RateTable(CURRENCY, rows), lots.pick((0, 1, 2, 3)))


_WIDE = CapacityBand(BANDS[0], resources(SIZES[0]), resources(SIZES[-1]), 2)
_NARROW = CapacityBand(BANDS[1], resources(SIZES[0]), resources(SIZES[1]), 1)
_LARGE = CapacityBand(BANDS[0], resources(SIZES[2]), resources(SIZES[2]), 1)
_BANDS = ((_WIDE,), (_WIDE, _NARROW), (_WIDE, _NARROW), (_LARGE, _NARROW), (_NARROW,), ())
_CAPABILITIES = tuple(
    Capability(region, posture, resources(size), networks)
    for region, posture in product(REGIONS, POSTURES)
    for size in SIZES[1:]
    if (region, size) != (REGIONS[1], SIZES[-1])
    for networks in ((NetworkPolicy.ISOLATED,), (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED))
)


def card(
    name: str, capabilities: tuple[Capability, ...], its_bands: tuple[CapacityBand, ...], rates: RateTable, cap: int
) -> ProviderCard:
    """Return an admitted card as a strategy sees it; nothing in it that proves anything is real."""
    keys = BootKeys(PublicKey(digest_of(f"{name} signs")), SealingKey(b"\1" + digest_of(f"{name} opens")))
    ids = [Fingerprint(digest_of(f"{name} {what}")) for what in ("rates", "organism", "config", "pre", "post")]
    binding = QuoteBinding(
        keys, UniqueId(digest_of("coalition")), UniqueId(digest_of("module")), digest_of("tick"), Tick(1), ids[2], "kit"
    )
    return ProviderCard(
        provider_id=ProviderId(digest_of(name)),
        epoch=1,
        version=1,
        certificate=b"certificate",
        capabilities=capabilities,
        bands=its_bands,
        max_leases=cap,
        rates=rates,
        rate_fingerprint=ids[0],
        organism=ids[1],
        binding=binding,
        evidence=Evidence(b"quote"),
        pre_hash=ids[3],
        post_hash=ids[4],
        custody=Custody.OPERATOR_HELD,
        retirement=b"",
        refreshed_at=Tick(1),
        development_attestation=True,
    )
