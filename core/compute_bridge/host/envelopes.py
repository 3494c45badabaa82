"""Envelopes: sealed by the requester to the winner, opened by the bridge."""

import logging

import anyio

from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import SealingKey
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.ports.errors import EnvelopeError, RecordError
from compute_bridge.ports.shuffle import Shuffle
from compute_bridge.wire.commitment import check_opening
from compute_bridge.wire.keys import require_ssh_public_line
from compute_bridge.wire.sealing import SealContext, SealingSecret, seal, unseal
from compute_bridge.wire.signing import Domain, Signed, open_signed

logger = logging.getLogger(__name__)

KIND = "envelope"


def envelope_context(grant: Signed[ComputeGrant], recipient: SealingKey) -> SealContext:
    """Return what an envelope is sealed for: this grant, from its request key to the winner."""
    return SealContext(KIND, grant.hash, 0, grant.value.request_key, recipient)


def seal_envelope(body: Signed[EnvelopeBody], grant: Signed[ComputeGrant], recipient: SealingKey) -> bytes:
    """Return the signed ``body`` sealed to the winner of ``grant``."""
    return seal(body.raw, envelope_context(grant, recipient))


def open_envelope(sealed: bytes, grant: Signed[ComputeGrant], secret: SealingSecret, domain: Domain) -> EnvelopeBody:
    """Return the envelope's body, signed by the request key; its commitments are checked apart.

    :raises EnvelopeError: if it is not ours, tampered, for another grant or by somebody else.
    """
    raw = unseal(sealed, secret, envelope_context(grant, secret.public))
    try:
        return open_signed(raw, EnvelopeBody, domain, by=grant.value.request_key).value
    except RecordError as error:
        raise EnvelopeError(f"envelope opens, but is not by the request's key: {error}") from error


def require_opening(body: EnvelopeBody, grant: ComputeGrant) -> None:
    """Return if ``body`` is what the request committed to, for the requirements that were granted.

    :raises EnvelopeError: if not; its author is the requester, so the grant is refused and says why.
    """
    check_opening(
        body,
        request_key=grant.request_key,
        manifest_commit=grant.manifest_commitment,
        envelope_commit=grant.envelope_commitment,
    )
    if body.manifest.requirements != grant.requirements:
        raise EnvelopeError("the manifest's requirements are not those that were granted")
    _require_usable_keys(body, grant)


def _require_usable_keys(body: EnvelopeBody, grant: ComputeGrant) -> None:
    """Hold both keys to their use now: once a machine runs, a receipt that cannot be made would never be."""
    try:
        if body.ssh_key:
            require_ssh_public_line(body.ssh_key)
    except RecordError as error:
        raise EnvelopeError(str(error)) from error
    seal(b"", SealContext("trial", grant.card_hash, 0, grant.request_key, body.sealing_key))


async def await_envelope(
    shuffle: Shuffle, grant: Signed[ComputeGrant], secret: SealingSecret, domain: Domain
) -> tuple[bytes, EnvelopeBody]:
    """Return the first envelope under the grant's pointer that its requester signed, and its body.

    What anybody else left there is dropped and counted in the log, never answered. Waits for as long as
    the caller lets it.

    :raises EnvelopeError: if the pointer gathered only envelopes of strangers and takes no more.
    """
    candidates = shuffle.resolve(grant.value.bearer_pointer)
    try:
        async for sealed in candidates:
            try:
                return sealed, open_envelope(sealed, grant, secret, domain)
            except EnvelopeError as error:
                logger.warning("dropped an envelope for grant %s: %s", grant.value.id.hex()[:12], error)
    finally:
        with anyio.move_on_after(1, shield=True):
            await candidates.aclose()
    raise EnvelopeError("every envelope under the grant's pointer is by a stranger")
