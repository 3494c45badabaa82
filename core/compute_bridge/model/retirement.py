"""Leaving the market on purpose."""

from attrs import field, frozen

from compute_bridge.model.checks import octets, text, whole
from compute_bridge.model.ids import ProviderId, PublicKey
from compute_bridge.model.units import Tick


@frozen
class RetirementMarker:
    """A provider's last word, signed by its root key: from when on, and who takes over, if anyone."""

    provider_id: ProviderId = field(validator=octets(32))
    root_key: PublicKey = field(validator=octets(32))
    effective_at: Tick = field(validator=whole(1))
    successor: bytes = field(validator=octets(0, 32))
    note: str = field(validator=text(0, 256))
