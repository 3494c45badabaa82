"""A coalition: what it is made of, and what its Compute module publishes about itself."""

from attrs import field, frozen

from compute_bridge.model.checks import few, label, octets, text, whole
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey, UniqueId, derive
from compute_bridge.model.ticket import TicketValidator
from compute_bridge.model.units import BasisPoints

SCHEMA = 1
MAX_FEE = BasisPoints(5000)


@frozen
class OrganismConfig:
    """One deployed unit as declared: its role, its name and the fingerprint of its own config."""

    role: str = field(validator=label)
    name: str = field(validator=label)
    content: Fingerprint = field(validator=octets(32))


@frozen
class OrganismRef:
    """A unit by role and stable id; ``content`` pins its config, empty means any."""

    role: str = field(validator=label)
    id: UniqueId = field(validator=octets(32))
    content: bytes = field(default=b"", validator=octets(0, 32))


@frozen
class CoalitionConfig:
    """A named, opt-in composition; its fingerprint is the coalition's stable id.

    Each optional module stands as its reference or not at all. ``bridge-β`` has ``compute`` and one
    organism, the bridge, and no lattice.
    """

    schema: int = field(validator=whole(SCHEMA, SCHEMA))
    seed: bytes = field(validator=octets(32))
    name: str = field(validator=text(1, 64))
    lattices: tuple[UniqueId, ...] = field(validator=few(0, 64))
    organisms: tuple[OrganismRef, ...] = field(validator=few(0, 256))
    atlas: OrganismRef | None
    almanac: OrganismRef | None
    chronicle: OrganismRef | None
    compute: OrganismRef | None
    randomness: OrganismRef | None
    ticket_validator: TicketValidator
    successor_allowed: bool


@frozen
class BridgeConfig:
    """What a bridge's organism folds: capability union, rate table and image, by fingerprint."""

    capabilities: Fingerprint = field(validator=octets(32))
    rates: Fingerprint = field(validator=octets(32))
    post_hash: Fingerprint = field(validator=octets(32))


@frozen
class ComputeConfig:
    """The Compute module's public config; the coalition's ``compute.content`` is its fingerprint.

    ``signing_key`` signs every record of the module; requests are sealed to ``sealing_key``.
    ``anchors`` are the blake3 of the DER of each accepted root, empty meaning Intel's alone;
    ``development_attestation`` says in so many words whether a development attester may be admitted.
    Fees are in hundredths of a percent, negative for a subsidy. A grant may be accepted for
    ``accept_within_ticks``; a quote whose challenge tick is older than ``quote_max_age_ticks`` and a card
    refreshed longer ago than ``card_max_age_ticks`` take part in no round.
    """

    signing_key: PublicKey = field(validator=octets(32))
    sealing_key: SealingKey = field(validator=octets(33, 2048))
    currency: str = field(validator=text(3, 8))
    cadence_ms: int = field(validator=whole(10, 3_600_000))
    rule: str = field(validator=label)
    rule_fingerprint: Fingerprint = field(validator=octets(32))
    requester_fee: BasisPoints = field(validator=whole(-MAX_FEE, MAX_FEE))
    provider_fee: BasisPoints = field(validator=whole(-MAX_FEE, MAX_FEE))
    accept_within_ticks: int = field(validator=whole(1, 10**6))
    quote_max_age_ticks: int = field(validator=whole(1, 10**9))
    card_max_age_ticks: int = field(validator=whole(1, 10**9))
    anchors: tuple[Fingerprint, ...] = field(validator=few(0, 16))
    development_attestation: bool


@frozen
class Handshake:
    """The page that a coalition hands to whoever wants to take part: its config and its module's."""

    coalition: CoalitionConfig
    compute: ComputeConfig


def compute_module(coalition: UniqueId) -> UniqueId:
    """Return the stable id of a coalition's Compute module."""
    return derive(derive(coalition, "module"), "compute")
