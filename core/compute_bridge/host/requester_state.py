"""What a requester remembers of one request: its secrets, written before it is sent, and how far it got."""

from attrs import define, field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.host.receipts import open_receipt
from compute_bridge.model.checks import few, octets, text, whole
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, GrantId, PublicKey, RequestId, SealingKey, short
from compute_bridge.model.receipt import SshAccessReceipt
from compute_bridge.model.request import ComputeRequest, EnvelopeBody
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.errors import MarketError, RecordError
from compute_bridge.ports.requester_store import MAX_PIECE_BYTES, RequesterStore, StoreError
from compute_bridge.wire import codec
from compute_bridge.wire.sealing import SealingSecret
from compute_bridge.wire.signing import Domain, Signed, open_self_signed, open_signed

RECEIPT_SEQUENCE = 0
SECRETS = "request.cbor"
PROGRESS = "progress.cbor"


class NotYetError(MarketError):
    """A request has not come so far; wait for its receipt first."""


@frozen
class RequestHandle:
    """One request of ours, by its id; the secrets behind it lie in the store."""

    id: RequestId = field(validator=octets(32))


@frozen(kw_only=True)
class RequestSecrets:
    """All that a request was made of; written once, before anything is sent.

    ``request``, ``body`` and ``submission`` are the signed request, the signed envelope body and the
    sealed submission, byte for byte. ``identity`` is the path of the SSH private key that belongs to the
    requester's own public key, empty where there is none. The last three tell where the market's streams
    ended before the request was sent, so that no answer to it is missed.
    """

    request: bytes = field(validator=octets(1, 16384))
    body: bytes = field(validator=octets(1, 32768), repr=False)
    submission: bytes = field(validator=octets(1, 32768), repr=False)
    signing_seed: bytes = field(validator=octets(32), repr=False)
    sealing_seed: bytes = field(validator=octets(32), repr=False)
    identity: str = field(validator=text(0, 4096))
    made_at: UtcMs = field(validator=whole())
    grants_after: int = field(validator=whole())
    request_verdicts_after: int = field(validator=whole())
    clearing_verdicts_after: int = field(validator=whole())


@frozen
class Winner:
    """What was verified of the card that a grant was cleared on."""

    card_hash: Fingerprint = field(validator=octets(32))
    signing: PublicKey = field(validator=octets(32))
    sealing: SealingKey = field(validator=octets(33, 2048))
    quote_hash: Fingerprint = field(validator=octets(32))
    anchor: str = field(validator=text(1, 63))
    tcb_status: str = field(validator=text(1, 64))
    development: bool


@frozen
class SeenReceipt:
    """A receipt that was accepted once; another one of the same grant and sequence is a replay."""

    grant_id: GrantId = field(validator=octets(32))
    sequence: int = field(validator=whole())
    hash: Fingerprint = field(validator=octets(32))


@frozen
class Access:
    """A verified way into one machine: the grant, the receipt that opens it, and who stands behind it."""

    request: RequestHandle
    grant: Signed[ComputeGrant]
    receipt: Signed[SshAccessReceipt]
    winner: Winner


@frozen(kw_only=True)
class Progress:
    """How far a request got. ``grant`` is the signed grant in force, ``envelope`` and ``receipt`` sealed
    bytes as they were sent and came; all are empty until then.
    """

    verdict: str = ""
    grant: bytes = b""
    winner: Winner | None = None
    envelope: bytes = field(default=b"", repr=False)
    receipt: bytes = field(default=b"", repr=False)
    seen: tuple[SeenReceipt, ...] = field(default=(), validator=few(0, 256))


@define
class KeptRequest:
    """One request with its keys in memory, and its progress, which is kept before it is relied on."""

    store: RequesterStore
    domain: Domain
    signed: Signed[ComputeRequest]
    body: Signed[EnvelopeBody]
    secrets: RequestSecrets = field(repr=False)
    progress: Progress = Progress()

    @property
    def id(self) -> RequestId:
        """The request's id."""
        return RequestId(self.signed.hash)

    @property
    def handle(self) -> RequestHandle:
        """What its owner holds."""
        return RequestHandle(self.id)

    @property
    def signing(self) -> Ed25519PrivateKey:
        """The one-time key that signs the request, its envelope and its lease controls."""
        return Ed25519PrivateKey.from_private_bytes(self.secrets.signing_seed)

    @property
    def sealing(self) -> SealingSecret:
        """The one-time key that receipts are sealed to."""
        return SealingSecret.from_seed(self.secrets.sealing_seed)

    def grant(self, market_key: PublicKey) -> Signed[ComputeGrant] | None:
        """Return the grant in force, or None before the first."""
        if not self.progress.grant:
            return None
        return open_signed(self.progress.grant, ComputeGrant, self.domain, by=market_key)

    async def advance(self, progress: Progress) -> None:
        """Keep ``progress``, durable when it returns."""
        await self.store.write(self.id, PROGRESS, codec.encode(progress))
        self.progress = progress


async def keep_request(
    store: RequesterStore,
    domain: Domain,
    signed: Signed[ComputeRequest],
    body: Signed[EnvelopeBody],
    *,
    secrets: RequestSecrets,
    progress: Progress,
) -> KeptRequest:
    """Write everything down and return it; after this a crash loses nothing."""
    kept = KeptRequest(store, domain, signed, body, secrets, progress)
    await store.write(kept.id, PROGRESS, codec.encode(progress))
    await store.write(kept.id, SECRETS, codec.encode(secrets))
    return kept


async def load_request(store: RequesterStore, domain: Domain, handle: RequestHandle) -> KeptRequest:
    """Return a request as it was kept.

    :raises StoreError: if it is not there, damaged, or belongs to another coalition.
    """
    raw, progress = await store.read(handle.id, SECRETS), await store.read(handle.id, PROGRESS)
    if raw is None or progress is None:
        raise StoreError(f"no request {short(handle.id)} is kept here; name the folder it was submitted from")
    try:
        secrets = codec.decode(raw, RequestSecrets, max_bytes=MAX_PIECE_BYTES)
        signed = open_self_signed(secrets.request, ComputeRequest, domain, signer=lambda one: one.request_key)
        body = open_signed(secrets.body, EnvelopeBody, domain, by=signed.value.request_key)
        state = codec.decode(progress, Progress, max_bytes=MAX_PIECE_BYTES)
    except RecordError as error:
        raise StoreError(
            f"request {short(handle.id)}: what is kept of it is damaged or of another coalition: {error}"
        ) from error
    if RequestId(signed.hash) != handle.id:
        raise StoreError(f"request {short(handle.id)}: its folder holds another request; restore the right one")
    return KeptRequest(store, domain, signed, body, secrets, state)


def accepted(kept: KeptRequest, market_key: PublicKey) -> Access:
    """Return the way into the machine as it was accepted, opened and checked again from what is kept.

    :raises NotYetError: if no receipt has been accepted yet.
    """
    grant, winner = kept.grant(market_key), kept.progress.winner
    if grant is None or winner is None or not kept.progress.receipt:
        raise NotYetError(f"request {short(kept.id)} has no receipt yet; 'request receipt' waits for it")
    return Access(kept.handle, grant, open_reply(kept, grant, kept.progress.receipt), winner)


def open_reply(kept: KeptRequest, grant: Signed[ComputeGrant], sealed: bytes) -> Signed[SshAccessReceipt]:
    """Return the winner's receipt in ``sealed``.

    :raises ReceiptError: if it is not by the winner of ``grant``, or not for us.
    """
    assert kept.progress.winner is not None  # noqa: S101 - kept together with the grant
    return open_receipt(
        sealed,
        grant,
        signing_key=kept.progress.winner.signing,
        secret=kept.sealing,
        sequence=RECEIPT_SEQUENCE,
        domain=kept.domain,
    )


async def find_handle(store: RequesterStore, prefix: str) -> RequestHandle:
    """Return the one kept request whose id begins with these hex digits.

    :raises StoreError: if there is none, or more than one.
    """
    found = [one for one in await store.requests() if one.hex().startswith(prefix.lower())]
    if len(found) == 1 and prefix:
        return RequestHandle(found[0])
    what = f"{len(found)} requests of yours begin" if found else "no request of yours begins"
    raise StoreError(f"{what} with {prefix!r}; 'request list' shows the ids")
