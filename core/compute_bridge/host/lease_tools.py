"""What every lease of a bridge shares."""

from collections.abc import Awaitable, Callable

from attrs import field, frozen

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.identity import BootSecrets, Identity
from compute_bridge.host.market import Market
from compute_bridge.host.outbox import Outbox
from compute_bridge.host.routing import Router
from compute_bridge.model.boot import LeaseSettings
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.journal import Journal
from compute_bridge.ports.shuffle import Shuffle
from compute_bridge.ports.strategy import Settlement


@frozen
class LeaseTools:
    """The bridge's parts that a lease works with.

    ``current`` are the keys of this boot and ``epoch`` is its epoch: a usage log carries both, whichever
    boot's card the grant was cleared on. ``fence`` raises when a later boot has taken our identity over; it is
    asked before each create.
    """

    identity: Identity
    current: BootSecrets = field(repr=False)
    epoch: int
    development_attestation: bool
    market: Market
    journal: Journal
    shuffle: Shuffle
    fleet: Fleet
    router: Router
    settlement: Settlement
    outbox: Outbox
    fence: Callable[[], Awaitable[None]]
    clock: Clock
    settings: LeaseSettings
