"""A provider's signed standing offer, and what the market says of it."""

from enum import StrEnum

from attrs import field, frozen

from compute_bridge.model.checks import few, label, octets, text, whole
from compute_bridge.model.ids import Fingerprint, ProviderId, PublicKey, SealingKey, UniqueId
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import RateTable
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Capability, CapacityBand
from compute_bridge.model.units import Tick


class Custody(StrEnum):
    """Where the boot keys live: made in the guest and never out of it, or held by the operator."""

    IN_GUEST = "in-guest"
    OPERATOR_HELD = "operator-held"


@frozen
class BootKeys:
    """The public keys of one boot: one signs cards, logs and receipts, envelopes are sealed to the other."""

    signing: PublicKey = field(validator=octets(32))
    sealing: SealingKey = field(validator=octets(33, 2048))


@frozen
class BootCertificate:
    """The operator root key's word that these keys speak for the provider in this epoch."""

    provider_id: ProviderId = field(validator=octets(32))
    root_key: PublicKey = field(validator=octets(32))
    epoch: int = field(validator=whole(1))
    keys: BootKeys


@frozen
class QuoteBinding:
    """What the 64 bytes of REPORTDATA are the hash of: keys and slow facts, never rates.

    ``challenge`` is the hash of almanac tick ``challenge_tick``, chosen by the verifier's clock.
    ``config`` is the digest of the resolved boot config with secrets replaced by their references.
    """

    keys: BootKeys
    coalition: UniqueId = field(validator=octets(32))
    module: UniqueId = field(validator=octets(32))
    challenge: bytes = field(validator=octets(32))
    challenge_tick: Tick = field(validator=whole(1))
    config: Fingerprint = field(validator=octets(32))
    software: str = field(validator=text(1, 64))


@frozen
class ProviderCard:
    """What a provider offers, from ``refreshed_at`` until its next version. Signed by the boot key.

    ``certificate`` is the signed :class:`BootCertificate`, byte for byte. ``retirement`` is the hash of
    the provider's retirement marker, empty while it stays. ``development_attestation`` is the bridge's
    own admission that its quote comes from a development attester; the market checks it.
    """

    provider_id: ProviderId = field(validator=octets(32))
    epoch: int = field(validator=whole(1))
    version: int = field(validator=whole(1))
    certificate: bytes = field(validator=octets(1, 4096))
    capabilities: tuple[Capability, ...] = field(validator=few(0, 512))
    bands: tuple[CapacityBand, ...] = field(validator=few(0, 64))
    max_leases: int = field(validator=whole(0, 10**6))
    rates: RateTable
    rate_fingerprint: Fingerprint = field(validator=octets(32))
    organism: Fingerprint = field(validator=octets(32))
    binding: QuoteBinding
    evidence: Evidence
    pre_hash: Fingerprint = field(validator=octets(32))
    post_hash: Fingerprint = field(validator=octets(32))
    custody: Custody
    retirement: bytes = field(validator=octets(0, 32))
    refreshed_at: Tick = field(validator=whole(1))
    development_attestation: bool

    @bands.validator
    def _named_once(self, _attribute: object, bands: tuple[CapacityBand, ...]) -> None:
        names = [band.name for band in bands]
        if names != sorted(set(names)):
            raise ValueError("bands must be in ascending order of their names, each once")


@frozen
class RosterEntry:
    """A card as the module admitted it, with what verification found. Signed by the module."""

    card: bytes = field(validator=octets(1, 200_000))
    card_hash: Fingerprint = field(validator=octets(32))
    admitted_at: Tick = field(validator=whole())
    anchor: str = field(validator=label)
    tcb_status: str = field(validator=text(1, 64))
    development_attestation: bool


@frozen
class CardVerdict:
    """The module's answer to one card submission: ``admitted``, or the reason and its detail."""

    provider_id: ProviderId = field(validator=octets(32))
    submission: Fingerprint = field(validator=octets(32))
    reason: Reason
    detail: str = field(validator=text(0, 500))
    tick: Tick = field(validator=whole())


@frozen
class EpochClaim:
    """A provider's current epoch, raised by compare-and-set at each boot; signed by its root key."""

    provider_id: ProviderId = field(validator=octets(32))
    root_key: PublicKey = field(validator=octets(32))
    epoch: int = field(validator=whole(1))
    signing_key: PublicKey = field(validator=octets(32))
