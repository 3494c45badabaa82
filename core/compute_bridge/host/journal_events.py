"""What the bridge journals of itself, beside its leases: boots, costs, rates, benches; and how any event is read."""

from collections.abc import AsyncIterator
from typing import Any

from attrs import frozen

from compute_bridge.host.identity import NONCE_BYTES
from compute_bridge.host.lease_state import BODIES, read_body
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import BackendName, Fingerprint, GrantId, OfferId, ProviderId, PublicKey
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.ports.errors import JournalError, Scope
from compute_bridge.ports.journal import WRITABLE, EventDraft, Journal, JournalEvent, Outage
from compute_bridge.wire import codec

BOOTED = "booted"
MAX_BODY = 64 * 1024
MAX_NAMED = 32
"""How many offers one event names; its count tells of the others."""


@frozen
class Booted:
    """One start of the bridge: the nonce its boot keys follow from, and whose bridge it is."""

    nonce: bytes
    provider: ProviderId


@frozen
class KnownCost:
    """What an offer was last accepted to cost, in nanos; ``address`` apart from the machine."""

    offer: OfferId
    units: UnitNanos
    address: int = 0


@frozen
class CostsAccepted:
    """Costs that changed and are sold on; the next boot compares with them."""

    backend: BackendName
    costs: tuple[KnownCost, ...]
    times: int = 1


@frozen
class HeldOffer:
    """One offer in quarantine: what is wrong with its cost, as it was stated."""

    offer: str
    detail: str
    observed_at: UtcMs = UtcMs(0)
    source: str = ""


@frozen
class CostsQuarantined:
    """The offers of a backend that are kept out for one reason from here on: ``count`` in all, some by name.

    ``times`` counts the changes since the event before it of the same backend and reason.
    """

    backend: BackendName
    reason: Reason
    count: int
    offers: tuple[HeldOffer, ...]
    times: int = 1


@frozen
class CostsReleased:
    """No offer of a backend is kept out for this reason any more."""

    backend: BackendName
    reason: Reason
    times: int = 1


@frozen
class RateRefused:
    """A row that the policy asked for and that is not published, or stands below cost as the operator allows.

    ``short_micros`` is by how many micros an hour it falls short of the offer's cost, 0 where that is not why.
    """

    region: str
    posture: str
    band: str
    asked: UnitNanos
    currency: str
    reason: Reason
    detail: str
    backend: str = ""
    offer: str = ""
    short_micros: int = 0
    allowed: bool = False
    times: int = 1

    @property
    def where(self) -> str:
        """The row's place for people."""
        return f"{self.region}/{self.posture}/{self.band}"


@frozen
class RateStands:
    """A row that was refused before is not any more: it is published, or no longer asked for."""

    region: str
    posture: str
    band: str
    published: bool
    times: int = 1

    @property
    def where(self) -> str:
        """The row's place for people."""
        return f"{self.region}/{self.posture}/{self.band}"


@frozen
class Benched:
    """A scope of a backend that gets no orders for ``left_ms`` from ``at`` on, the ``times``-th time in a row."""

    backend: BackendName
    scope: Scope
    place: str
    reason: Reason
    detail: str
    at: UtcMs
    left_ms: Milliseconds
    times: int = 1

    @property
    def where(self) -> tuple[BackendName, Scope, str]:
        """What is benched."""
        return self.backend, self.scope, self.place


@frozen
class BenchLifted:
    """A scope that gets orders again before its bench was over: it has served, or its backend is mended."""

    backend: BackendName
    scope: Scope
    place: str

    @property
    def where(self) -> tuple[BackendName, Scope, str]:
        """What is benched no more."""
        return self.backend, self.scope, self.place


@frozen
class LossAccepted:
    """What the market held of us and the journal lacked, as the operator accepted it by hand.

    ``boots`` are signing keys, ``logs`` the hashes of usage logs.
    """

    boots: tuple[PublicKey, ...] = ()
    grants: tuple[GrantId, ...] = ()
    logs: tuple[Fingerprint, ...] = ()


BRIDGE_BODIES: dict[str, type[Any]] = {
    "cost-accepted": CostsAccepted,
    "cost-quarantined": CostsQuarantined,
    "cost-released": CostsReleased,
    "rate-refused": RateRefused,
    "rate-stands": RateStands,
    "benched": Benched,
    "bench-lifted": BenchLifted,
    "loss-accepted": LossAccepted,
    WRITABLE: Outage,
}
"""The kinds of events that concern the whole bridge, apart from ``booted``, and their bodies."""
KIND_OF = {cls: kind for kind, cls in BRIDGE_BODIES.items()}


def bridge_draft(body: object) -> EventDraft:
    """Return the journal event that carries ``body``, of the whole bridge."""
    return EventDraft(KIND_OF[type(body)], body=codec.encode(body))


def read_event(event: JournalEvent) -> object | None:
    """Return the facts of any event, of a lease or of the bridge; None for a kind that is not known.

    :raises JournalError: if the body does not fit the kind.
    """
    try:
        if event.kind == BOOTED:
            return Booted(event.body[:NONCE_BYTES], ProviderId(event.body[NONCE_BYTES:]))
        if event.kind in BODIES:
            found: object = read_body(event)
            return found
        cls = BRIDGE_BODIES.get(event.kind)
        return None if cls is None else codec.decode(event.body, cls, max_bytes=MAX_BODY, fill=True)
    except RecordError as error:
        raise JournalError(
            f"journal event {event.sequence} of kind {event.kind!r}: its body cannot be read ({error}); "
            "was it written by a newer release?"
        ) from error


async def events_of(
    journal: Journal, *, kind: str | None = None, lease: bytes | None = None, after: int = 0
) -> AsyncIterator[JournalEvent]:
    """Yield every event that follows sequence ``after``, in order, however many; of one kind, of one lease.

    :raises JournalError: if the journal cannot be read.
    """
    while page := await journal.events(kind=kind, lease=lease, after=after):
        for event in page:
            yield event
        after = page[-1].sequence
