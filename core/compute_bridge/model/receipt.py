"""What a requester logs in with."""

from enum import StrEnum

from attrs import field, frozen

from compute_bridge.model.checks import octets, text, whole
from compute_bridge.model.ids import Fingerprint, GrantId, PublicKey
from compute_bridge.model.resources import Posture
from compute_bridge.model.units import UtcMs


class Credential(StrEnum):
    """Whose SSH key opens the door; ``bridge-made`` marks the fallback, known to the bridge."""

    REQUESTER_KEY = "requester-key"
    BRIDGE_MADE = "bridge-made"


@frozen
class SshAccessReceipt:
    """SSH access to one instance; signed by the bridge's boot key, sealed to the requester.

    Names no operator and no payment. ``host_key`` is an OpenSSH public key line to pin, and
    ``host_key_source`` how it is known. ``private_key`` is empty unless the credential is bridge-made.
    ``ends_at`` is when the instance ends. ``image_digest`` is what was verified before it ran, and
    ``image_verifier`` by whom. ``quote_hash`` ties the receipt to the card's quote (header and body).
    """

    grant_id: GrantId = field(validator=octets(32))
    sequence: int = field(validator=whole())
    signing_key: PublicKey = field(validator=octets(32))
    host: str = field(validator=text(1, 253))
    port: int = field(validator=whole(1, 65535))
    user: str = field(validator=text(1, 32))
    host_key: str = field(validator=text(16, 4096))
    host_key_source: str = field(validator=text(1, 32))
    credential: Credential
    private_key: str = field(repr=False)
    started_at: UtcMs = field(validator=whole())
    ends_at: UtcMs = field(validator=whole(1))
    posture: Posture
    image_digest: bytes = field(validator=octets(0, 32))
    image_verifier: str = field(validator=text(0, 32))
    quote_hash: Fingerprint = field(validator=octets(32))
    development_attestation: bool
