"""A bridge's public state, committed tick by tick."""

from attrs import field, frozen

from compute_bridge.model.checks import octets, whole
from compute_bridge.model.ids import Fingerprint, ProviderId
from compute_bridge.model.units import Tick


@frozen
class Heartbeat:
    """One chronicle commit, hash-linked to the one before. Aggregates only."""

    provider_id: ProviderId = field(validator=octets(32))
    epoch: int = field(validator=whole(1))
    sequence: int = field(validator=whole(1))
    previous: bytes = field(validator=octets(32))
    tick: Tick = field(validator=whole())
    card: Fingerprint = field(validator=octets(32))
    open_leases: int = field(validator=whole())
    journal_sequence: int = field(validator=whole())
    journal_head: Fingerprint = field(validator=octets(32))
