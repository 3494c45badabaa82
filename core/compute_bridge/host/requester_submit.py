"""From a manifest to a request that the market has admitted."""

from collections.abc import Callable
from contextlib import aclosing

from attrs import evolve, field, frozen
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.host.market import Market
from compute_bridge.host.outbox import send
from compute_bridge.host.requester_state import KeptRequest, Progress, RequestSecrets, keep_request
from compute_bridge.model import channels
from compute_bridge.model.checks import text, whole
from compute_bridge.model.ids import PublicKey, RequestId, short
from compute_bridge.model.manifest import ComputeManifest
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import (
    ComputeRequest,
    EnvelopeBody,
    Preferences,
    RequestSubmission,
    RequestVerdict,
)
from compute_bridge.model.units import MicrosPerHour, Milliseconds, Tick, UtcMs
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import AdmissionError, RecordError
from compute_bridge.ports.requester_store import RequesterStore
from compute_bridge.wire.commitment import image_hash, request_commitments
from compute_bridge.wire.keys import require_ssh_public_line
from compute_bridge.wire.sealing import SealContext, SealingSecret, seal
from compute_bridge.wire.signing import Domain, Signed, fingerprint, open_signed, public_key, sign

SECRET_BYTES = 32
FEWEST_TICKS = 2
SUBMISSION = "submission"
NOBODY = PublicKey(bytes(32))
"""Who sends a submission: the module learns that only from inside."""


@frozen(kw_only=True)
class RequestTerms:
    """What a requester asks for and on which terms.

    ``ssh_key`` is an OpenSSH public key line, ``identity`` the path of its private half; both are empty
    where the bridge shall make a key. The request stays open for ``open_ms`` by the market's clock.
    """

    manifest: ComputeManifest
    max_rate: MicrosPerHour = field(validator=whole(1))
    ssh_key: str = field(default="", validator=text(0, 4096))
    identity: str = field(default="", validator=text(0, 4096))
    preferences: Preferences = field(factory=Preferences)
    open_ms: Milliseconds = field(default=Milliseconds(60_000), validator=whole(1))


@frozen
class OneTimeKeys:
    """The secrets of one request, drawn for it alone."""

    signing_seed: bytes = field(repr=False)
    sealing_seed: bytes = field(repr=False)
    manifest_salt: bytes = field(repr=False)
    envelope_salt: bytes = field(repr=False)
    pointer: bytes

    @classmethod
    def drawn(cls, draw: Callable[[int], bytes]) -> "OneTimeKeys":
        """Return keys from ``draw``, which returns that many unpredictable bytes."""
        return cls(*(draw(SECRET_BYTES) for _ in range(5)))

    @property
    def signing(self) -> Ed25519PrivateKey:
        """The key that signs everything about this request."""
        return Ed25519PrivateKey.from_private_bytes(self.signing_seed)


def make_body(terms: RequestTerms, keys: OneTimeKeys) -> EnvelopeBody:
    """Return what the winner will get to read.

    :raises RecordError: if the SSH key is no OpenSSH public key line.
    """
    return EnvelopeBody(
        request_key=public_key(keys.signing),
        manifest=terms.manifest,
        image_hash=image_hash(terms.manifest),
        manifest_salt=keys.manifest_salt,
        envelope_salt=keys.envelope_salt,
        sealing_key=SealingSecret.from_seed(keys.sealing_seed).public,
        ssh_key=require_ssh_public_line(terms.ssh_key) if terms.ssh_key else "",
    )


def make_request(
    terms: RequestTerms, body: EnvelopeBody, *, pointer: bytes, currency: str, expires_at: Tick
) -> ComputeRequest:
    """Return the public request that commits to ``body``."""
    manifest_commit, envelope_commit = request_commitments(body)
    return ComputeRequest(
        request_key=body.request_key,
        requirements=terms.manifest.requirements,
        max_rate=terms.max_rate,
        currency=currency,
        preferences=terms.preferences,
        bearer_pointer=pointer,
        manifest_commitment=manifest_commit,
        envelope_commitment=envelope_commit,
        expires_at=expires_at,
    )


def seal_submission(request: Signed[ComputeRequest], account: Ed25519PrivateKey, market: Market) -> bytes:
    """Return the request signed by the account that pays, sealed to the module."""
    submission = sign(RequestSubmission(public_key(account), request.raw), account, domain=market.domain)
    config = market.config
    context = SealContext(SUBMISSION, fingerprint(config), 0, NOBODY, config.sealing_key)
    return seal(submission.raw, context)


@frozen
class Submitter:
    """Makes requests, keeps their secrets, then sends them; in that order, so that a crash loses none."""

    market: Market
    account: Ed25519PrivateKey = field(repr=False)
    store: RequesterStore
    clock: Clock
    draw: Callable[[int], bytes] = field(repr=False)

    async def keep(self, terms: RequestTerms) -> KeptRequest:
        """Return a new request, kept and not yet sent. Needs the almanac to be followed."""
        keys = OneTimeKeys.drawn(self.draw)
        body = sign(make_body(terms, keys), keys.signing, domain=self._domain)
        expires_at = await self._expiry(terms.open_ms)
        currency = self.market.config.currency
        request = make_request(terms, body.value, pointer=keys.pointer, currency=currency, expires_at=expires_at)
        signed = sign(request, keys.signing, domain=self._domain)
        made = await self._secrets(terms, keys, signed=signed, body=body)
        return await keep_request(self.store, self._domain, signed, body, secrets=made, progress=Progress())

    async def admit(self, kept: KeptRequest) -> None:
        """Send a kept request, as often as need be, and return when the market has admitted it.

        :raises AdmissionError: if the market refuses it; the request is over.
        """
        if not kept.progress.verdict:
            sealed = kept.secrets.submission
            network = self.market.network
            await send(network, channels.INTAKE, blake3(sealed).digest(), sealed, clock=self.clock)
            verdict = await await_verdict(self.market, kept.id, after=kept.secrets.request_verdicts_after)
            await kept.advance(evolve(kept.progress, verdict=verdict.reason.value))
        if kept.progress.verdict != Reason.ADMITTED:
            raise AdmissionError(
                f"the market refuses request {short(kept.id)}: {kept.progress.verdict}", reason=kept.progress.verdict
            )

    async def _expiry(self, open_ms: Milliseconds) -> Tick:
        tick = await self.market.tick()
        ticks = -(-open_ms // self.market.config.cadence_ms)
        return Tick(tick.value.tick + max(FEWEST_TICKS, ticks))

    async def _secrets(
        self, terms: RequestTerms, keys: OneTimeKeys, *, signed: Signed[ComputeRequest], body: Signed[EnvelopeBody]
    ) -> RequestSecrets:
        network = self.market.network
        return RequestSecrets(
            request=signed.raw,
            body=body.raw,
            submission=seal_submission(signed, self.account, self.market),
            signing_seed=keys.signing_seed,
            sealing_seed=keys.sealing_seed,
            identity=terms.identity,
            made_at=UtcMs(self.clock.utc_ms()),
            grants_after=await network.tail(channels.GRANT_STREAM),
            request_verdicts_after=await network.tail(channels.REQUEST_VERDICTS),
            clearing_verdicts_after=await network.tail(channels.VERDICTS),
        )

    @property
    def _domain(self) -> Domain:
        return self.market.domain


async def await_verdict(market: Market, request: RequestId, *, after: int) -> RequestVerdict:
    """Return the module's answer to a request; what stands there by anybody else is passed over."""
    async with aclosing(market.network.follow(channels.REQUEST_VERDICTS, after=after)) as entries:
        async for entry in entries:
            try:
                verdict = open_signed(entry.record, RequestVerdict, market.domain, by=market.config.signing_key).value
            except RecordError:
                continue
            if verdict.request_id == request:
                return verdict
    raise RuntimeError("a network's follow has ended")
