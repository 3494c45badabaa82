"""What every lease of a bridge shares."""

from attrs import field, frozen

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.identity import BootSecrets, Identity
from compute_bridge.host.market import Market
from compute_bridge.host.receipts import CardFacts
from compute_bridge.host.routing import Router
from compute_bridge.model.checks import whole
from compute_bridge.model.units import Milliseconds
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.journal import Journal
from compute_bridge.ports.shuffle import Shuffle
from compute_bridge.ports.strategy import Settlement


@frozen
class LeaseSettings:
    """How long a lease waits for what, in milliseconds.

    ``envelope_wait_ms`` is for the requester's envelope after the grant; ``provision_allowance_ms`` is
    how far an instance's own end lies beyond the granted duration, so that a slow start costs the
    requester nothing; ``meter_every_ms`` is between two checkpoints of usage.
    """

    envelope_wait_ms: Milliseconds = field(default=Milliseconds(60_000), validator=whole(1))
    provision_allowance_ms: Milliseconds = field(default=Milliseconds(600_000), validator=whole(1))
    meter_every_ms: Milliseconds = field(default=Milliseconds(60_000), validator=whole(1))


@frozen
class LeaseTools:
    """The bridge's parts that a lease works with. ``current`` are the keys of this boot.

    ``epoch`` is the epoch of this boot, which a usage log carries.
    """

    identity: Identity
    current: BootSecrets = field(repr=False)
    epoch: int
    card_facts: CardFacts
    market: Market
    journal: Journal
    shuffle: Shuffle
    fleet: Fleet
    router: Router
    settlement: Settlement
    clock: Clock
    settings: LeaseSettings
