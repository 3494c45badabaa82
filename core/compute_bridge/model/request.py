"""What a requester asks in public, and what it seals to the winner."""

from attrs import field, frozen

from compute_bridge.model.checks import each, label, octets, text, whole
from compute_bridge.model.ids import PublicKey, RequestId, SealingKey
from compute_bridge.model.manifest import ComputeManifest
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Region, Requirements
from compute_bridge.model.units import MicrosPerHour, Tick


@frozen
class Preferences:
    """What the requester would rather have, first is best; a rule may use it, none has to."""

    regions: tuple[Region, ...] = field(default=(), validator=each(label, 0, 64))


@frozen
class ComputeRequest:
    """A public request, signed by a one-time key; it names neither source nor image nor person.

    The commitments are salted hashes of what the envelope will hold (:mod:`compute_bridge.wire.commitment`).
    ``bearer_pointer`` is where the envelope will lie in the shuffle. A market clears the request up to
    and including tick ``expires_at``.
    """

    request_key: PublicKey = field(validator=octets(32))
    requirements: Requirements
    max_rate: MicrosPerHour = field(validator=whole(1))
    currency: str = field(validator=text(3, 8))
    preferences: Preferences
    bearer_pointer: bytes = field(validator=octets(32))
    manifest_commitment: bytes = field(validator=octets(32))
    envelope_commitment: bytes = field(validator=octets(32))
    expires_at: Tick = field(validator=whole(1))


@frozen
class EnvelopeBody:
    """What the requester seals to the winner, signed by the one-time key of its request.

    ``image_hash`` is the SHA-256 of the image manifest for an ``oci`` image and 32 zeros for a ``vm``
    name. ``ssh_key`` is an OpenSSH public key line; empty asks for a bridge-made key, and the receipt
    will say so.
    """

    request_key: PublicKey = field(validator=octets(32))
    manifest: ComputeManifest
    image_hash: bytes = field(validator=octets(32))
    manifest_salt: bytes = field(validator=octets(32), repr=False)
    envelope_salt: bytes = field(validator=octets(32), repr=False)
    sealing_key: SealingKey = field(validator=octets(33, 2048))
    ssh_key: str = field(validator=text(0, 4096))


@frozen
class RequestSubmission:
    """A request on its way into the market: signed by the account that pays, sealed to the module.

    ``request`` is the signed request, byte for byte.
    """

    account: PublicKey = field(validator=octets(32))
    request: bytes = field(validator=octets(1, 16384))


@frozen
class RequestVerdict:
    """The module's answer to a request at intake: ``admitted``, or the reason why not."""

    request_id: RequestId = field(validator=octets(32))
    request_key: PublicKey = field(validator=octets(32))
    reason: Reason
    tick: Tick = field(validator=whole())
