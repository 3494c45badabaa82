"""The market's award of one request to one provider."""

from attrs import field, frozen

from compute_bridge.model.checks import label, octets, text, whole
from compute_bridge.model.ids import BandName, Fingerprint, GrantId, ProviderId, PublicKey, RequestId
from compute_bridge.model.resources import MAX_DURATION_MS, Posture, Region, Requirements
from compute_bridge.model.units import MicrosPerHour, Milliseconds, Tick


@frozen
class ComputeGrant:
    """One cleared grant, a projection of its round's clearing record. Signed by the module.

    ``valid_from`` and ``valid_to`` are the ticks between which it may be *accepted*; ``duration_ms`` is
    how long it may *run*, counted from the backend's recorded start. ``region``, ``posture`` and
    ``band`` are those of the winning bid, so the bridge owes a machine there.
    """

    id: GrantId = field(validator=octets(32))
    request_id: RequestId = field(validator=octets(32))
    request_key: PublicKey = field(validator=octets(32))
    provider_id: ProviderId = field(validator=octets(32))
    card_hash: Fingerprint = field(validator=octets(32))
    round: int = field(validator=whole(1))
    requirements: Requirements
    region: Region = field(validator=label)
    posture: Posture
    band: BandName = field(validator=label)
    manifest_commitment: bytes = field(validator=octets(32))
    envelope_commitment: bytes = field(validator=octets(32))
    bearer_pointer: bytes = field(validator=octets(32))
    rate: MicrosPerHour = field(validator=whole(0))
    currency: str = field(validator=text(3, 8))
    valid_from: Tick = field(validator=whole())
    valid_to: Tick = field(validator=whole())
    duration_ms: Milliseconds = field(validator=whole(1, MAX_DURATION_MS))

    def __attrs_post_init__(self) -> None:
        if self.valid_to <= self.valid_from:
            raise ValueError(f"valid_to {self.valid_to} is not after valid_from {self.valid_from}")
