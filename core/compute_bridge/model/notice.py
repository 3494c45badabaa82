"""A provider's warning that a machine will be taken away before its lease is over."""

from attrs import field, frozen

from compute_bridge.model.checks import octets, whole
from compute_bridge.model.ids import GrantId, ProviderId
from compute_bridge.model.units import Tick, UtcMs


@frozen
class InterruptionNotice:
    """What the provider's backend says of the machine of one grant; at most one for each grant.

    ``interrupted_at`` is when it will be taken away, 0 where nobody says; ``tick`` is when the provider heard of it.
    """

    grant_id: GrantId = field(validator=octets(32))
    provider_id: ProviderId = field(validator=octets(32))
    epoch: int = field(validator=whole(1))
    interrupted_at: UtcMs = field(validator=whole())
    tick: Tick = field(validator=whole())
