"""A bridge on strings: its card, its receipts and its logs, true or false as a test wants them."""

from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.model import channels
from compute_bridge.model.card import (
    BootCertificate,
    BootKeys,
    Custody,
    EpochClaim,
    ProviderCard,
    QuoteBinding,
)
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import BandName, Fingerprint, ProviderId, SealingKey, digest, provider_id
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.receipt import Credential, SshAccessReceipt
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.model.resources import Capability, CapacityBand, NetworkPolicy, Posture, Region, Resources
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey
from compute_bridge.model.units import Micros, Milliseconds, NanosPerHour, Tick, UtcMs, charge
from compute_bridge.model.usage import ComputeLog, Outcome, UsageMetrics
from compute_bridge.ports.shuffle import Shuffle
from compute_bridge.testing.puppet_market import PuppetMarket
from compute_bridge.wire.commitment import report_data
from compute_bridge.wire.keys import ssh_public_line
from compute_bridge.wire.sealing import SealContext, SealingSecret, seal, unseal
from compute_bridge.wire.signing import Signed, fingerprint, open_signed, public_key, sign

BAND = CapacityBand(BandName("standard"), Resources(1, 1), Resources(8000, 16_384, 100), 8)
HOST_KEY = ssh_public_line(bytes([9]) * 32)
REGION = Region("eu-1")


@define
class PuppetBridge:
    """One provider. ``attest`` makes its quotes, ``quote_hash`` tells the identity of one.

    ``vcpu_nanos`` is what it asks for a vCPU hour. Where a method takes ``changes``, those are made to the
    value just before it is signed.
    """

    market: PuppetMarket
    attest: Callable[[bytes], Evidence]
    quote_hash: Callable[[Evidence], bytes]
    seed: int = 50
    vcpu_nanos: int = 10_000_000
    epoch: int = 1
    root: Ed25519PrivateKey = field(init=False)
    signing: Ed25519PrivateKey = field(init=False)
    sealing: SealingSecret = field(init=False)
    version: int = field(default=0, init=False)
    card: Signed[ProviderCard] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.root = Ed25519PrivateKey.from_private_bytes(bytes([self.seed]) * 32)
        self.boot(self.epoch)

    @property
    def provider(self) -> ProviderId:
        """The provider id."""
        return provider_id(self.market.domain.coalition, public_key(self.root))

    @property
    def keys(self) -> BootKeys:
        """The public keys of this boot."""
        return BootKeys(public_key(self.signing), self.sealing.public)

    def boot(self, epoch: int) -> None:
        """Take the keys of another boot."""
        self.epoch = epoch
        self.signing = Ed25519PrivateKey.from_private_bytes(bytes([self.seed, epoch]) * 16)
        self.sealing = SealingSecret.from_seed(bytes([self.seed + 1, epoch]) * 16)

    async def claim_epoch(self, **changes: Any) -> None:
        """Raise the epoch in the market's collection."""
        claim = EpochClaim(self.provider, public_key(self.root), self.epoch, self.keys.signing)
        signed = sign(evolve(claim, **changes), self.root, domain=self.market.domain)
        held = await self.market.network.get(channels.EPOCHS, self.provider)
        version = held.version if held else 0
        await self.market.network.put(channels.EPOCHS, self.provider, signed.raw, expect=version)

    # --- the card -----------------------------------------------------------------------------------

    async def enter(self, **changes: Any) -> Fingerprint:
        """Raise the epoch and have the card admitted; returns the card's hash."""
        await self.claim_epoch()
        self.card = self.make_card(**changes)
        return await self.market.admit_card(self.card)

    def make_card(self, *, certificate: bytes = b"", **changes: Any) -> Signed[ProviderCard]:
        """Return the next version of the card, signed by the boot key."""
        self.version += 1
        rates = self._rates()
        tick = self.market.ticks[-1]
        domain = self.market.domain
        binding = changes.pop("binding", None) or QuoteBinding(
            self.keys, domain.coalition, domain.module, tick.hash, tick.value.tick, _print("config"), "0"
        )
        card = ProviderCard(
            provider_id=self.provider,
            epoch=self.epoch,
            version=self.version,
            certificate=certificate or self.certify(),
            capabilities=(
                Capability(REGION, Posture.NONE, BAND.ceiling, (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED)),
            ),
            bands=(BAND,),
            max_leases=8,
            rates=rates,
            rate_fingerprint=fingerprint(rates),
            organism=_print("organism"),
            binding=binding,
            evidence=self.attest(report_data(binding)),
            pre_hash=_print("pre"),
            post_hash=_print("post"),
            custody=Custody.OPERATOR_HELD,
            retirement=b"",
            refreshed_at=Tick(self.market.now),
            development_attestation=True,
        )
        return sign(evolve(card, **changes), self.signing, domain=domain)

    def certify(self, **changes: Any) -> bytes:
        """Return the root key's certificate for this boot."""
        certificate = BootCertificate(self.provider, public_key(self.root), self.epoch, self.keys)
        return sign(evolve(certificate, **changes), self.root, domain=self.market.domain).raw

    def _rates(self) -> RateTable:
        units = UnitNanos(vcpu=NanosPerHour(self.vcpu_nanos))
        return RateTable("EUR", (RateRow(REGION, Posture.NONE, BAND.name, units),))

    # --- a lease ------------------------------------------------------------------------------------

    async def open_envelope(self, shuffle: Shuffle, grant: Signed[ComputeGrant]) -> EnvelopeBody:
        """Return the envelope that was sealed to this bridge, waiting for it."""
        candidates = shuffle.resolve(grant.value.bearer_pointer)
        sealed = await anext(candidates)
        await candidates.aclose()
        context = SealContext("envelope", grant.hash, 0, grant.value.request_key, self.sealing.public)
        raw = unseal(sealed, self.sealing, context)
        return open_signed(raw, EnvelopeBody, self.market.domain, by=grant.value.request_key).value

    def make_receipt(
        self, grant: Signed[ComputeGrant], body: EnvelopeBody, now: UtcMs, **changes: Any
    ) -> SshAccessReceipt:
        """Return the receipt for a machine that began now."""
        if self.card is None:
            raise LookupError("enter the market first")
        value, image = grant.value, body.manifest.image
        receipt = SshAccessReceipt(
            grant_id=value.id,
            sequence=0,
            signing_key=self.keys.signing,
            host="127.0.0.1",
            port=2222,
            user="root",
            host_key=HOST_KEY,
            host_key_source="injected",
            credential=Credential.REQUESTER_KEY,
            private_key="",
            started_at=now,
            ends_at=UtcMs(now + value.duration_ms),
            posture=value.posture,
            image_digest=bytes.fromhex(image.digest_hex) if image.is_oci else b"",
            image_verifier="backend" if image.is_oci else "",
            quote_hash=Fingerprint(self.quote_hash(self.card.value.evidence)),
            development_attestation=True,
        )
        return evolve(receipt, **changes)

    def seal_receipt(self, grant: Signed[ComputeGrant], receipt: SshAccessReceipt, recipient: SealingKey) -> bytes:
        """Return the receipt signed by the boot key and sealed to the requester."""
        raw = sign(receipt, self.signing, domain=self.market.domain).raw
        context = SealContext("receipt", grant.hash, receipt.sequence, self.keys.signing, recipient)
        return seal(raw, context)

    async def serve(
        self, shuffle: Shuffle, grant: Signed[ComputeGrant], now: UtcMs, **changes: Any
    ) -> SshAccessReceipt:
        """Open the envelope and reply with a receipt."""
        body = await self.open_envelope(shuffle, grant)
        receipt = self.make_receipt(grant, body, now, **changes)
        await shuffle.reply(grant.value.bearer_pointer, self.seal_receipt(grant, receipt, body.sealing_key))
        return receipt

    async def log(self, grant: ComputeGrant, *, ran_ms: int = 0, **changes: Any) -> Signed[ComputeLog]:
        """Publish the usage log of a lease that ran so long; of one that was refused where that is 0."""
        served = ran_ms > 0
        log = ComputeLog(
            grant_id=grant.id,
            provider_id=self.provider,
            epoch=self.epoch,
            sequence=0,
            outcome=Outcome.SERVED if served else Outcome.REFUSED,
            reason=Reason.RELEASED if served else Reason.DRAINING,
            started_at=UtcMs(1_000_000 if served else 0),
            ended_at=UtcMs(1_000_000 + ran_ms if served else 0),
            billable_ms=Milliseconds(ran_ms),
            usage=UsageMetrics(),
            receipt_hash=b"",
            development_attestation=True,
        )
        signed = sign(evolve(log, **changes), self.signing, domain=self.market.domain)
        await self.market.network.append(channels.LOGS, grant.id, signed.raw)
        return signed

    async def claim(self, grant: ComputeGrant, log: Signed[ComputeLog], *, amount: int | None = None) -> None:
        """Publish what this provider says it is owed."""
        owed = charge(grant.rate, log.value.billable_ms)
        claim = Claim(
            SettlementKey(grant.id, EntryKind.CHARGE, 0), self.provider, log.hash, grant.rate, log.value.billable_ms,
            Micros(owed if amount is None else amount), grant.currency,
        )  # fmt: skip
        raw = sign(claim, self.signing, domain=self.market.domain).raw
        await self.market.network.append(channels.CLAIMS, grant.id + channels.number(0), raw)


def _print(what: str) -> Fingerprint:
    return Fingerprint(digest("puppet", what.encode()))
