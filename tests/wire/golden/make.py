"""Writes the golden vectors beside it: ``python tests/wire/golden/make.py``.

Everything is fixed: keys are made of fixed seeds, Ed25519 is deterministic, and the one sealed message has
a chosen ephemeral key. So the same code writes the same files, byte for byte, and a test compares them.
``value`` is what the payload encodes, in the diagnostic notation of RFC 8949, section 8; it is for readers.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.card import (
    BootCertificate,
    BootKeys,
    CardVerdict,
    Custody,
    EpochClaim,
    ProviderCard,
    QuoteBinding,
    RosterEntry,
)
from compute_bridge.model.clearing import (
    Award,
    BandLoad,
    ClearingInputs,
    ClearingRecord,
    ProviderInput,
    RequestInput,
    Verdict,
    VerdictChunk,
)
from compute_bridge.model.coalition import (
    SCHEMA,
    BridgeConfig,
    CoalitionConfig,
    ComputeConfig,
    Handshake,
    OrganismConfig,
    OrganismRef,
    compute_module,
)
from compute_bridge.model.control import ControlAction, ControlVerdict, LeaseControl
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.heartbeat import Heartbeat
from compute_bridge.model.ids import (
    BandName,
    Fingerprint,
    RequestId,
    UniqueId,
    derive,
    digest,
    grant_id,
    provider_id,
)
from compute_bridge.model.manifest import ComputeManifest, ImageRef, SourceRef
from compute_bridge.model.notice import InterruptionNotice
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.receipt import Credential, SshAccessReceipt
from compute_bridge.model.reputation import Bond, Observation, ProviderReputationCard
from compute_bridge.model.request import (
    ComputeRequest,
    EnvelopeBody,
    Preferences,
    RequestSubmission,
    RequestVerdict,
)
from compute_bridge.model.resources import (
    Capability,
    CapacityBand,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    TdxNeed,
)
from compute_bridge.model.retirement import RetirementMarker
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.ticket import AdmittedRequest, ClauseKind, Ticket, TicketClause, TicketValidator
from compute_bridge.model.units import (
    BasisPoints,
    Micros,
    MicrosPerHour,
    Milliseconds,
    Nanos,
    NanosPerHour,
    Tick,
    UtcMs,
    charge,
    fee,
)
from compute_bridge.model.usage import ComputeLog, Figure, Outcome, UsageMetrics, UsageSource
from compute_bridge.testing.hpke_by_hand import seal_by_hand
from compute_bridge.wire import codec, merkle
from compute_bridge.wire.commitment import post_hash, pre_hash, report_data, request_commitments
from compute_bridge.wire.keys import (
    derive_seed,
    instance_name,
    lease_mac,
    ssh_private_file,
    ssh_public_line,
)
from compute_bridge.wire.records import RECORDS, RecordKind
from compute_bridge.wire.sealing import VERSION, X25519, SealContext, SealingSecret
from compute_bridge.wire.signing import Domain, fingerprint, public_key, sign
from compute_bridge.wire.tokens import order_token

FOLDER = Path(__file__).parent


def seed(number: int) -> bytes:
    """Return a fixed seed of 32 bytes, all of them ``number``."""
    return bytes([number]) * 32


def named(what: str) -> Fingerprint:
    """Return a fixed hash for what is only named here."""
    return Fingerprint(digest("golden", what.encode()))


MODULE = Ed25519PrivateKey.from_private_bytes(seed(1))
ROOT = Ed25519PrivateKey.from_private_bytes(seed(2))
BOOT = Ed25519PrivateKey.from_private_bytes(seed(3))
ONE_TIME = Ed25519PrivateKey.from_private_bytes(seed(4))
ACCOUNT = Ed25519PrivateKey.from_private_bytes(seed(5))
MODULE_SEALING = SealingSecret.from_seed(seed(11))
BOOT_SEALING = SealingSecret.from_seed(seed(13))
ONE_TIME_SEALING = SealingSecret.from_seed(seed(14))
BRIDGE_SECRET = seed(20)
EPHEMERAL = seed(30)

RESOURCES = Resources(1500, 2048, 20, 1)
REGION = Region("eu-central-1")
BAND = CapacityBand(
    BandName("standard"),
    Resources(1, 1),
    Resources(16_000, 65_536, 500, 8),
    4,
    Milliseconds(1000),
    Milliseconds(86_400_000),
)
NEEDS = Requirements(
    RESOURCES, Milliseconds(5_400_000), TdxNeed.PREFERRED, NetworkPolicy.EGRESS, (REGION, Region("eu-west-1")), 3
)
CAPABILITY = Capability(
    REGION, Posture.TDX, BAND.ceiling, (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED), Milliseconds(604_800_000)
)
UNITS = UnitNanos(
    NanosPerHour(1_000_000), NanosPerHour(10_000_000), NanosPerHour(2_000_000), NanosPerHour(30_000),
    NanosPerHour(900_000_000), Nanos(80_000_000),
)  # fmt: skip
RATES = RateTable(
    "EUR", (RateRow(REGION, Posture.NONE, BAND.name, UNITS), RateRow(REGION, Posture.TDX, BAND.name, UNITS))
)
MANIFEST = ComputeManifest(
    SourceRef("hello", "1.2.3", "0123456789abcdef0123456789abcdef01234567"), ImageRef("oci@sha256:" + "ab" * 32), NEEDS
)
VALIDATOR = TicketValidator(
    (TicketClause(ClauseKind.SIGNATURE, public_key(MODULE)), TicketClause(ClauseKind.REPUTATION_FLOOR, b"", 500))
)
COMPUTE = ComputeConfig(
    signing_key=public_key(MODULE),
    sealing_key=MODULE_SEALING.public,
    currency="EUR",
    cadence_ms=1000,
    rule="lowest-rate",
    rule_fingerprint=named("rule"),
    requester_fee=BasisPoints(150),
    provider_fee=BasisPoints(-50),
    accept_within_ticks=60,
    quote_max_age_ticks=86_400,
    card_max_age_ticks=3600,
    anchors=(named("anchor"),),
    development_attestation=True,
)
COALITION = CoalitionConfig(
    schema=SCHEMA,
    seed=seed(9),
    name="bridge-β",
    lattices=(UniqueId(named("lattice")),),
    organisms=(OrganismRef("compute-bridge", derive(UniqueId(seed(9)), "compute-bridge")),),
    atlas=None,
    almanac=None,
    chronicle=None,
    compute=OrganismRef("compute", derive(UniqueId(seed(9)), "compute"), fingerprint(COMPUTE)),
    randomness=None,
    ticket_validator=VALIDATOR,
    successor_allowed=True,
)
COALITION_ID = UniqueId(fingerprint(COALITION))
DOMAIN = Domain(COALITION_ID, compute_module(COALITION_ID))
PROVIDER = provider_id(COALITION_ID, public_key(ROOT))
KEYS = BootKeys(public_key(BOOT), BOOT_SEALING.public)
CERTIFICATE = BootCertificate(PROVIDER, public_key(ROOT), 7, KEYS)
TICK = AlmanacTick(Tick(41), 1000, UtcMs(1_790_000_000_000), seed(40), named("tick 40"))
BINDING = QuoteBinding(KEYS, DOMAIN.coalition, DOMAIN.module, fingerprint(TICK), Tick(41), named("config"), "0.1.0")
BRIDGE = BridgeConfig(fingerprint(CAPABILITY), fingerprint(RATES), named("post-hash"))
ORGANISM = OrganismConfig("compute-bridge", "bridge-a", fingerprint(BRIDGE))
CARD = ProviderCard(
    provider_id=PROVIDER,
    epoch=7,
    version=3,
    certificate=sign(CERTIFICATE, ROOT, domain=DOMAIN).raw,
    capabilities=(CAPABILITY,),
    bands=(BAND,),
    max_leases=4,
    rates=RATES,
    rate_fingerprint=fingerprint(RATES),
    organism=fingerprint(ORGANISM),
    binding=BINDING,
    evidence=Evidence(bytes(range(256)) * 4, '{"tcb_info":"{}"}'),
    pre_hash=pre_hash(MANIFEST),
    post_hash=named("post-hash"),
    custody=Custody.IN_GUEST,
    retirement=b"",
    refreshed_at=Tick(42),
    development_attestation=True,
)
SIGNED_CARD = sign(CARD, BOOT, domain=DOMAIN)
BODY = EnvelopeBody(
    request_key=public_key(ONE_TIME),
    manifest=MANIFEST,
    image_hash=bytes.fromhex("ab" * 32),
    manifest_salt=seed(50),
    envelope_salt=seed(51),
    sealing_key=ONE_TIME_SEALING.public,
    ssh_key=ssh_public_line(seed(60)),
)
COMMITMENTS = request_commitments(BODY)
REQUEST = ComputeRequest(
    request_key=public_key(ONE_TIME),
    requirements=NEEDS,
    max_rate=MicrosPerHour(2_000_000),
    currency="EUR",
    preferences=Preferences((REGION,)),
    bearer_pointer=seed(52),
    manifest_commitment=COMMITMENTS[0],
    envelope_commitment=COMMITMENTS[1],
    expires_at=Tick(100),
)
SIGNED_REQUEST = sign(REQUEST, ONE_TIME, domain=DOMAIN)
REQUEST_ID = RequestId(fingerprint(REQUEST))
TICKET = Ticket(public_key(MODULE), public_key(ONE_TIME), REQUEST_ID, Tick(100))
GRANT_ID = grant_id(REQUEST_ID, DOMAIN.module, 5)
RATE = UNITS.hourly(NEEDS)
AWARD = Award(REQUEST_ID, GRANT_ID, PROVIDER, SIGNED_CARD.hash, REGION, Posture.TDX, BAND.name, RATE)
INPUTS = ClearingInputs(
    round=5,
    closed_at=Tick(43),
    beacon=named("tick 44"),
    requests=(RequestInput(REQUEST_ID, (PROVIDER,)),),
    providers=(ProviderInput(PROVIDER, SIGNED_CARD.hash, 1, (BandLoad(BAND.name, 1),)),),
)
VERDICTS = (
    Verdict(REQUEST_ID, PROVIDER, Reason.WON, RATE),
    Verdict(REQUEST_ID, provider_id(COALITION_ID, public_key(ACCOUNT)), Reason.OUTBID, MicrosPerHour(RATE + 1)),
)
RECORD = ClearingRecord(
    round=5,
    previous=named("round 4"),
    term=2,
    rule="lowest-rate",
    rule_fingerprint=named("rule"),
    closed_at=Tick(43),
    beacon=named("tick 44"),
    inputs=fingerprint(INPUTS),
    awards=(AWARD,),
    currency="EUR",
    requester_fee=BasisPoints(150),
    provider_fee=BasisPoints(-50),
    verdict_root=merkle.root([codec.encode(one) for one in VERDICTS]),
    verdict_count=2,
)
GRANT = ComputeGrant(
    id=GRANT_ID,
    request_id=REQUEST_ID,
    request_key=public_key(ONE_TIME),
    provider_id=PROVIDER,
    card_hash=SIGNED_CARD.hash,
    round=5,
    requirements=NEEDS,
    region=REGION,
    posture=Posture.TDX,
    band=BAND.name,
    manifest_commitment=COMMITMENTS[0],
    envelope_commitment=COMMITMENTS[1],
    bearer_pointer=seed(52),
    rate=RATE,
    currency="EUR",
    valid_from=Tick(44),
    valid_to=Tick(104),
    duration_ms=NEEDS.duration_ms,
)
SIGNED_GRANT = sign(GRANT, MODULE, domain=DOMAIN)
RECEIPT = SshAccessReceipt(
    grant_id=GRANT_ID,
    sequence=0,
    signing_key=public_key(BOOT),
    host="192.0.2.7",
    port=2222,
    user="root",
    host_key=ssh_public_line(seed(61)),
    host_key_source="injected",
    credential=Credential.REQUESTER_KEY,
    private_key="",
    started_at=UtcMs(1_790_000_100_000),
    ends_at=UtcMs(1_790_005_500_000),
    posture=Posture.TDX,
    image_digest=bytes.fromhex("ab" * 32),
    image_verifier="backend",
    quote_hash=named("quote"),
    development_attestation=True,
)
SIGNED_RECEIPT = sign(RECEIPT, BOOT, domain=DOMAIN)
BILLABLE = Milliseconds(3_599_999)
LOG = ComputeLog(
    grant_id=GRANT_ID,
    provider_id=PROVIDER,
    epoch=7,
    sequence=0,
    outcome=Outcome.SERVED,
    reason=Reason.RELEASED,
    started_at=UtcMs(1_790_000_100_000),
    ended_at=UtcMs(1_790_003_699_999),
    billable_ms=BILLABLE,
    usage=UsageMetrics(
        core_ms=Figure(1_234_567, UsageSource.CGROUP_V2),
        net_in_bytes=Figure(2**40, UsageSource.CGROUP_V1),
        wall_ms=Figure(BILLABLE, UsageSource.BACKEND),
    ),
    receipt_hash=SIGNED_RECEIPT.hash,
    development_attestation=True,
)
KEY = SettlementKey(GRANT_ID, EntryKind.CHARGE, 0)
CHARGE = charge(RATE, BILLABLE)

SAMPLES: dict[str, tuple[Any, Ed25519PrivateKey]] = {
    "almanac-tick": (TICK, MODULE),
    "coalition-config": (COALITION, MODULE),
    "compute-config": (COMPUTE, MODULE),
    "handshake": (Handshake(COALITION, COMPUTE), MODULE),
    "organism-config": (ORGANISM, ROOT),
    "bridge-config": (BRIDGE, ROOT),
    "capability": (CAPABILITY, ROOT),
    "compute-manifest": (MANIFEST, ONE_TIME),
    "compute-request": (REQUEST, ONE_TIME),
    "request-submission": (RequestSubmission(public_key(ACCOUNT), SIGNED_REQUEST.raw), ACCOUNT),
    "request-verdict": (RequestVerdict(REQUEST_ID, public_key(ONE_TIME), Reason.ADMITTED, Tick(42)), MODULE),
    "ticket": (TICKET, MODULE),
    "admitted-request": (AdmittedRequest(SIGNED_REQUEST.raw, TICKET, Tick(42)), MODULE),
    "envelope-body": (BODY, ONE_TIME),
    "boot-certificate": (CERTIFICATE, ROOT),
    "epoch-claim": (EpochClaim(PROVIDER, public_key(ROOT), 7, public_key(BOOT)), ROOT),
    "quote-binding": (BINDING, BOOT),
    "rate-table": (RATES, BOOT),
    "provider-card": (CARD, BOOT),
    "card-verdict": (CardVerdict(PROVIDER, SIGNED_CARD.hash, Reason.CARD_STALE, "tick 41", Tick(42)), MODULE),
    "roster-entry": (RosterEntry(SIGNED_CARD.raw, SIGNED_CARD.hash, Tick(42), "development", "UpToDate", True), MODULE),
    "clearing-inputs": (INPUTS, MODULE),
    "clearing-record": (RECORD, MODULE),
    "verdict": (VERDICTS[0], MODULE),
    "verdict-chunk": (VerdictChunk(5, 0, VERDICTS), MODULE),
    "compute-grant": (GRANT, MODULE),
    "ssh-access-receipt": (RECEIPT, BOOT),
    "lease-control": (
        LeaseControl(GRANT_ID, public_key(ONE_TIME), 1, ControlAction.EXTEND, Milliseconds(600_000), "ten more"),
        ONE_TIME,
    ),
    "control-verdict": (
        ControlVerdict(GRANT_ID, 1, ControlAction.EXTEND, Reason.CONTROL_APPLIED, Milliseconds(6_000_000), Tick(50)),
        MODULE,
    ),
    "interruption-notice": (InterruptionNotice(GRANT_ID, PROVIDER, 7, UtcMs(1_790_000_220_000), Tick(47)), BOOT),
    "compute-log": (LOG, BOOT),
    "claim": (Claim(KEY, PROVIDER, fingerprint(LOG), RATE, BILLABLE, CHARGE, "EUR"), BOOT),
    "settlement-statement": (
        SettlementStatement(
            KEY, PROVIDER, fingerprint(LOG), Reason.CHARGED, RATE, BILLABLE, CHARGE,
            fee(CHARGE, BasisPoints(150)), Micros(fee(CHARGE, BasisPoints(-50))), "EUR",
        ),
        MODULE,
    ),
    "heartbeat": (
        Heartbeat(PROVIDER, 7, 12, named("heartbeat 11"), Tick(45), SIGNED_CARD.hash, 1, 88, named("journal")),
        BOOT,
    ),
    "retirement-marker": (RetirementMarker(PROVIDER, public_key(ROOT), Tick(500), named("successor"), "moving"), ROOT),
    "bond": (Bond(public_key(ACCOUNT), PROVIDER, Tick(9000)), ACCOUNT),
    "observation": (Observation(PROVIDER, "served", Tick(60), 3600, fingerprint(LOG)), MODULE),
    "provider-reputation-card": (
        ProviderReputationCard(PROVIDER, "window", named("policy"), Tick(1), Tick(60), 1, 987),
        MODULE,
    ),
}  # fmt: skip


# --- what is written ----------------------------------------------------------------------------------


def record_vector(kind: RecordKind) -> dict[str, Any]:
    """Return the vector of one record kind."""
    value, secret = SAMPLES[kind.name]
    signed = sign(value, secret, domain=DOMAIN)
    payload = codec.encode(value)
    return {
        "kind": kind.name,
        "version": kind.version,
        "max_bytes": kind.max_bytes,
        "value": notation(codec.load(payload, max_bytes=kind.max_bytes)),
        "payload": payload.hex(),
        "fingerprint": signed.hash.hex(),
        "signer": signed.signers[0].hex(),
        "signed": signed.raw.hex(),
    }


def notation(data: object) -> Any:
    """Return plain data with byte strings in diagnostic notation, so that JSON can hold it."""
    if isinstance(data, dict):
        return {key: notation(value) for key, value in data.items()}
    if isinstance(data, list):
        return [notation(value) for value in data]
    return f"h'{data.hex()}'" if isinstance(data, bytes) else data


def derived_vector() -> dict[str, Any]:
    """Return what is derived rather than recorded: ids, tokens, keys, commitments, roots."""
    token = order_token(GRANT_ID, "rack-a", "eu-central-1", "a", "m.large", attempt=2)
    name = instance_name(token)
    leaves = [b"one", b"two", b"three", b"four", b"five"]
    return {
        "digest('context', 'a', 'bc')": digest("context", b"a", b"bc").hex(),
        "coalition": DOMAIN.coalition.hex(),
        "module": DOMAIN.module.hex(),
        "provider_id": PROVIDER.hex(),
        "request_id": REQUEST_ID.hex(),
        "grant_id": GRANT_ID.hex(),
        "pre_hash": pre_hash(MANIFEST).hex(),
        "post_hash": post_hash(pre_hash(MANIFEST), bytes.fromhex("ab" * 32), bytes(48)).hex(),
        "manifest_commitment": COMMITMENTS[0].hex(),
        "envelope_commitment": COMMITMENTS[1].hex(),
        "report_data": report_data(BINDING).hex(),
        "order_token": token.hex(),
        "instance_name": name,
        "host_key_seed": derive_seed(BRIDGE_SECRET, "host-key", token).hex(),
        "user_key_seed": derive_seed(BRIDGE_SECRET, "user-key", token).hex(),
        "rotated_host_key_seed": derive_seed(BRIDGE_SECRET, "rotated-host-key", token).hex(),
        "rotation_login_seed": derive_seed(BRIDGE_SECRET, "rotation-login", token).hex(),
        "host_key_public": ssh_public_line(derive_seed(BRIDGE_SECRET, "host-key", token)),
        "host_key_private": ssh_private_file(derive_seed(BRIDGE_SECRET, "host-key", token)),
        "cb_mac": lease_mac(BRIDGE_SECRET, name, SIGNED_GRANT.hash).hex(),
        "merkle_roots": {str(count): merkle.root(leaves[:count]).hex() for count in range(len(leaves) + 1)},
    }


def sealed_vector() -> dict[str, Any]:
    """Return one sealed message: the signed receipt above, sealed to the one-time key."""
    context = SealContext("receipt", SIGNED_GRANT.hash, 0, public_key(BOOT), ONE_TIME_SEALING.public)
    info = context.info(X25519)
    framed = len(SIGNED_RECEIPT.raw).to_bytes(4, "big") + SIGNED_RECEIPT.raw
    sealed = seal_by_hand(framed.ljust(2048, b"\0"), ONE_TIME_SEALING.public[1:], info, ephemeral=EPHEMERAL)
    return {
        "suite": X25519,
        "recipient_seed": seed(14).hex(),
        "recipient": ONE_TIME_SEALING.public.hex(),
        "kind": context.kind,
        "subject": context.subject.hex(),
        "sequence": context.sequence,
        "sender": context.sender.hex(),
        "info": info.hex(),
        "ephemeral_secret": EPHEMERAL.hex(),
        "body": SIGNED_RECEIPT.raw.hex(),
        "sealed": (bytes([VERSION, X25519]) + sealed).hex(),
    }


def vectors() -> Iterator[tuple[str, str]]:
    """Yield name and text of every file."""
    for kind in RECORDS:
        yield f"{kind.name}.json", _text(record_vector(kind))
    yield "derived.json", _text(derived_vector())
    yield "sealed.json", _text(sealed_vector())


def _text(vector: dict[str, Any]) -> str:
    return json.dumps(vector, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name_, text_ in vectors():
        (FOLDER / name_).write_text(text_, encoding="utf-8")
