"""Receipts: made by the bridge, opened by the requester, signed inside and sealed outside."""

from attrs import frozen

from compute_bridge.host.identity import BootSecrets
from compute_bridge.model.card import ProviderCard
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey
from compute_bridge.model.receipt import Credential, SshAccessReceipt
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Instance, Offer
from compute_bridge.ports.errors import EnvelopeError, ReceiptError, RecordError
from compute_bridge.wire.quote import parse_quote, quote_hash
from compute_bridge.wire.sealing import SealContext, SealingSecret, seal, unseal
from compute_bridge.wire.signing import Domain, Signed, open_signed, sign

KIND = "receipt"


@frozen
class SealedReceipt:
    """A receipt as it travels, and the hash of what stands inside."""

    sealed: bytes
    hash: Fingerprint
    sequence: int


def receipt_context(
    grant: Signed[ComputeGrant], sequence: int, signing_key: PublicKey, recipient: SealingKey
) -> SealContext:
    """Return what a receipt is sealed for: this grant, this sequence, from that key to this one."""
    return SealContext(KIND, grant.hash, sequence, signing_key, recipient)


def make_receipt(
    grant: Signed[ComputeGrant],
    instance: Instance,
    offer: Offer,
    *,
    card: ProviderCard,
    secrets: BootSecrets,
    recipient: SealingKey,
    private_key: str,
    domain: Domain,
) -> SealedReceipt:
    """Return the sealed receipt for ``instance``.

    ``card`` is the one that the grant was cleared on; ``private_key`` is empty unless bridge-made.
    """
    sequence = 0
    receipt = SshAccessReceipt(
        grant_id=grant.value.id,
        sequence=sequence,
        signing_key=secrets.keys.signing,
        host=instance.host,
        port=instance.port,
        user=instance.user,
        host_key=instance.host_key,
        host_key_source=instance.host_key_source.value,
        credential=Credential.BRIDGE_MADE if private_key else Credential.REQUESTER_KEY,
        private_key=private_key,
        started_at=instance.started_at,
        ends_at=UtcMs(instance.started_at + grant.value.duration_ms),
        posture=offer.posture,
        image_digest=instance.image_digest,
        image_verifier=offer.image_verifier if instance.image_digest else "",
        quote_hash=Fingerprint(quote_hash(parse_quote(card.evidence.quote))),
        development_attestation=card.development_attestation,
    )
    signed = sign(receipt, secrets.signing, domain=domain)
    context = receipt_context(grant, sequence, secrets.keys.signing, recipient)
    return SealedReceipt(seal(signed.raw, context), signed.hash, sequence)


def open_receipt(
    sealed: bytes,
    grant: Signed[ComputeGrant],
    *,
    signing_key: PublicKey,
    secret: SealingSecret,
    sequence: int,
    domain: Domain,
) -> Signed[SshAccessReceipt]:
    """Return the receipt in ``sealed``, proven to be for ``grant`` and by ``signing_key``.

    :raises ReceiptError: if it does not open, is by another key, or is for another grant.
    """
    context = receipt_context(grant, sequence, signing_key, secret.public)
    try:
        raw = unseal(sealed, secret, context)
        receipt = open_signed(raw, SshAccessReceipt, domain, by=signing_key)
    except (EnvelopeError, RecordError) as error:
        raise ReceiptError(f"receipt for grant {grant.value.id.hex()[:12]}: {error}") from error
    value = receipt.value
    if (value.grant_id, value.signing_key, value.sequence) != (grant.value.id, signing_key, sequence):
        raise ReceiptError(f"receipt is not for grant {grant.value.id.hex()[:12]}; do not connect")
    return receipt
