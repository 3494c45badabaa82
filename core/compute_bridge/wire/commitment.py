"""Salted commitments of a request, and the hashes that images and quotes are bound by."""

import hashlib
import hmac

from compute_bridge.model.card import QuoteBinding
from compute_bridge.model.errors import EnvelopeError
from compute_bridge.model.ids import Fingerprint, digest
from compute_bridge.model.manifest import ComputeManifest
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.wire import codec
from compute_bridge.wire.signing import fingerprint

_REPORT_DATA = b"compute-bridge/report-data/v1\0"


def pre_hash(manifest: ComputeManifest) -> Fingerprint:
    """Return the pre-hash: the fingerprint of the manifest."""
    return fingerprint(manifest)


def post_hash(before: Fingerprint, image_digest: bytes, mr_td: bytes = b"") -> Fingerprint:
    """Return the post-hash of what ran: pre-hash, image digest, and MRTD where there is one."""
    return Fingerprint(digest("compute-bridge/post-hash/v1", before, image_digest, mr_td))


def manifest_commitment(salt: bytes, manifest: ComputeManifest, image_hash: bytes) -> bytes:
    """Return the salted hash of the manifest and the image hash."""
    return digest("compute-bridge/commit/manifest/v1", salt, pre_hash(manifest), image_hash)


def envelope_commitment(body: EnvelopeBody) -> bytes:
    """Return the salted hash of the whole envelope body."""
    return digest("compute-bridge/commit/envelope/v1", body.envelope_salt, codec.encode(body))


def image_hash(manifest: ComputeManifest) -> bytes:
    """Return the digest that the image's name promises; 32 zeros for a ``vm`` name, which promises none."""
    return bytes.fromhex(manifest.image.digest_hex) if manifest.image.is_oci else bytes(32)


def check_opening(body: EnvelopeBody, *, request_key: bytes, manifest_commit: bytes, envelope_commit: bytes) -> None:
    """Return if ``body`` opens both commitments.

    :raises EnvelopeError: if it names another request key, image hash or content than was committed to.
    """
    opened = manifest_commitment(body.manifest_salt, body.manifest, body.image_hash)
    if body.request_key != request_key:
        raise EnvelopeError("the envelope body is for another request")
    if body.image_hash != image_hash(body.manifest):
        raise EnvelopeError("the envelope's image hash is not that of the manifest's image")
    if not hmac.compare_digest(opened, manifest_commit):
        raise EnvelopeError("the envelope's manifest does not open the request's commitment")
    if not hmac.compare_digest(envelope_commitment(body), envelope_commit):
        raise EnvelopeError("the envelope body does not open the request's commitment")


def request_commitments(body: EnvelopeBody) -> tuple[bytes, bytes]:
    """Return (manifest commitment, envelope commitment) for the request that ``body`` belongs to."""
    return (
        manifest_commitment(body.manifest_salt, body.manifest, body.image_hash),
        envelope_commitment(body),
    )


def report_data(binding: QuoteBinding) -> bytes:
    """Return the 64 bytes that tie a quote to this bridge's keys and slow facts.

    SHA-512 over a tag and the binding's one encoding. The card is signed by a bound key, so a new rate
    needs no new quote.

    Source: REPORTDATA is 64 bytes in a TDX 1.0 report (go-tdx-guest, ``abi.ReportDataSize``).
    """
    return hashlib.sha512(_REPORT_DATA + codec.encode(binding)).digest()
