"""Who the market is: its keys, the handshake that follows from its file, and what it demands."""

from pathlib import Path
from typing import TypeVar

from attrs import field, fields, frozen
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.api import ClearingRule
from compute_bridge.model.coalition import (
    SCHEMA,
    CoalitionConfig,
    ComputeConfig,
    Handshake,
    OrganismRef,
    compute_module,
)
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey, UniqueId, derive
from compute_bridge.model.quote import INTEL_ANCHOR, Measurements, QuotePolicy, TrustAnchor
from compute_bridge.model.ticket import ClauseKind, TicketClause, TicketValidator
from compute_bridge.ports.errors import BootError, RecordError
from compute_bridge.wire import codec
from compute_bridge.wire.records import kind_of
from compute_bridge.wire.sealing import SealingSecret
from compute_bridge.wire.signing import Domain, fingerprint, public_key
from compute_bridge_market.config import AccountSettings, AttestationSettings, LimitSettings, MarketFile

T = TypeVar("T", CoalitionConfig, ComputeConfig)

SEED_BYTES = 32
# The blake3 of "Intel SGX Root CA", which comes with the verifier and so is in no file of the operator's.
# Source: https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
INTEL_ROOT_HASH = Fingerprint(bytes.fromhex("6f6061d17d9055e9a6765e51f66bb90d958938ce277a2fbd6c5758eb5ff27273"))


@frozen
class ModuleSecrets:
    """The module's private keys; in memory only."""

    signing: Ed25519PrivateKey = field(repr=False)
    sealing: SealingSecret = field(repr=False)

    @classmethod
    def from_seeds(cls, signing: bytes, sealing: bytes) -> "ModuleSecrets":
        """Return the keys of two 32-byte seeds."""
        return cls(Ed25519PrivateKey.from_private_bytes(signing), SealingSecret.from_seed(sealing))

    @property
    def public(self) -> tuple[PublicKey, SealingKey]:
        """The public halves, as the handshake names them."""
        return public_key(self.signing), self.sealing.public


def read_seed(key: str, raw: bytes) -> bytes:
    """Return the 32-byte seed in a secret of 64 hex digits.

    :raises BootError: if it is not that; ``key`` says where it is named.
    """
    try:
        seed = bytes.fromhex(raw.decode())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise BootError(f"{key}: holds {len(raw)} bytes that are no seed of 64 hex digits; 'market init' makes one")
    return seed


@frozen
class Module:
    """All that the running market is: set once from its file, changed by nothing."""

    handshake: Handshake
    secrets: ModuleSecrets
    rule: ClearingRule
    policy: QuotePolicy
    limits: LimitSettings
    accounts: dict[PublicKey, AccountSettings]
    domain: Domain = field(init=False)
    config_fingerprint: Fingerprint = field(init=False)

    @domain.default
    def _domain(self) -> Domain:
        coalition = UniqueId(fingerprint(self.handshake.coalition))
        return Domain(coalition, compute_module(coalition))

    @config_fingerprint.default
    def _config_fingerprint(self) -> Fingerprint:
        return fingerprint(self.handshake.compute)

    @property
    def config(self) -> ComputeConfig:
        """What the market publishes about itself."""
        return self.handshake.compute

    @property
    def key(self) -> PublicKey:
        """The key that signs every record of the market."""
        return self.config.signing_key


def make_module(
    file: MarketFile, secrets: ModuleSecrets, rule: ClearingRule, anchors: tuple[TrustAnchor, ...]
) -> Module:
    """Return the market that ``file`` describes; ``anchors`` are those the file names, read."""
    return Module(
        handshake=make_handshake(file, secrets.public, rule, anchors),
        secrets=secrets,
        rule=rule,
        policy=_policy(file.attestation, anchors),
        limits=file.limits,
        accounts={account.key: account for account in file.accounts},
    )


def make_handshake(
    file: MarketFile, keys: tuple[PublicKey, SealingKey], rule: ClearingRule, anchors: tuple[TrustAnchor, ...]
) -> Handshake:
    """Return the coalition and its module as ``file`` declares them; the same file, the same fingerprint."""
    compute = _compute(file, keys, rule, anchors)
    root = UniqueId(file.coalition.seed)
    return Handshake(
        CoalitionConfig(
            schema=SCHEMA,
            seed=file.coalition.seed,
            name=file.coalition.name,
            lattices=(),
            organisms=(OrganismRef("compute-bridge", derive(root, "compute-bridge")),),
            atlas=None,
            almanac=None,
            chronicle=None,
            compute=OrganismRef("compute", derive(root, "compute"), fingerprint(compute)),
            randomness=None,
            ticket_validator=TicketValidator((TicketClause(ClauseKind.SIGNATURE, keys[0]),)),
            successor_allowed=True,
        ),
        compute,
    )


def _compute(
    file: MarketFile, keys: tuple[PublicKey, SealingKey], rule: ClearingRule, anchors: tuple[TrustAnchor, ...]
) -> ComputeConfig:
    limits = file.limits
    return ComputeConfig(
        signing_key=keys[0],
        sealing_key=keys[1],
        currency=file.coalition.currency,
        cadence_ms=file.almanac.cadence_ms,
        rule=file.clearing.rule,
        rule_fingerprint=rule.fingerprint,
        requester_fee=file.fees.requester_bps,
        provider_fee=file.fees.provider_bps,
        accept_within_ticks=limits.accept_within_ticks,
        quote_max_age_ticks=limits.quote_max_age_ticks,
        card_max_age_ticks=limits.card_max_age_ticks,
        anchors=_anchor_hashes(anchors),
        development_attestation=file.attestation.allows_development,
    )


def _anchor_hashes(anchors: tuple[TrustAnchor, ...]) -> tuple[Fingerprint, ...]:
    if not anchors:
        return ()
    named = {blake3(anchor.root_ca_der or b"").digest() for anchor in anchors}
    return tuple(sorted(Fingerprint(one) for one in {*named, INTEL_ROOT_HASH}))


def _policy(settings: AttestationSettings, anchors: tuple[TrustAnchor, ...]) -> QuotePolicy:
    allowed = tuple(Measurements(one.mr_td, one.rtmrs) for one in settings.measurements)
    return QuotePolicy(
        anchors=(INTEL_ANCHOR, *anchors),
        allow_development=settings.allows_development,
        allowed_tcb_statuses=settings.tcb_statuses,
        rejected_advisories=settings.rejected_advisories,
        allowed_measurements=allowed or None,
    )


def read_anchors(settings: AttestationSettings) -> tuple[TrustAnchor, ...]:
    """Return the trust anchors that the file names, their certificates read from disk.

    :raises BootError: if one cannot be read or is none.
    """
    return tuple(_read_anchor(anchor.name, Path(anchor.file), anchor.development) for anchor in settings.anchors)


def _read_anchor(name: str, path: Path, development: bool) -> TrustAnchor:
    try:
        return TrustAnchor(name, path.read_bytes(), development)
    except (OSError, ValueError) as error:
        raise BootError(
            f"attestation.anchors: {name}: {path}: {error}; put the root's DER certificate there"
        ) from error


# --- the handshake file ---------------------------------------------------------------------------


def write_handshake(path: Path, handshake: Handshake) -> None:
    """Write the page that participants are given, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(codec.encode(handshake))
    draft.replace(path)


def require_same_handshake(path: Path, handshake: Handshake) -> None:
    """Return if the handshake file is the one that this market stands by.

    :raises BootError: if it is missing, damaged, or of another configuration; naming what differs.
    """
    try:
        found = codec.decode(path.read_bytes(), Handshake, max_bytes=kind_of(Handshake).max_bytes)
    except (OSError, RecordError) as error:
        raise BootError(f"coalition.handshake: {path}: {error}; write it with 'market handshake'") from error
    changed = [
        *_changed("coalition", found.coalition, handshake.coalition),
        *_changed("", found.compute, handshake.compute),
    ]
    if changed:
        raise BootError(
            f"coalition.handshake: {path} says otherwise about {', '.join(changed)}; participants hold that file, so "
            "undo the change in market.toml, or found a new coalition: 'market handshake --replace' and hand it out"
        )


def _changed(prefix: str, found: T, ours: T) -> list[str]:
    names = [one.name for one in fields(type(ours)) if getattr(found, one.name) != getattr(ours, one.name)]
    return [f"{prefix}.{name}".strip(".") for name in names if name != "compute"]
