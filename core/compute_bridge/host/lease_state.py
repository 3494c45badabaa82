"""The life of a lease as data: its states, what may follow what, and the facts each event carries."""

from enum import StrEnum
from typing import Any, TypeVar

from attrs import define, field, frozen

from compute_bridge.model.ids import BackendName, Fingerprint, GrantId, InstanceId, Token
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import Instance
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import EventDraft, Journal, JournalEvent
from compute_bridge.wire import codec

T = TypeVar("T")

MAX_BODY = 64 * 1024
MAX_STEPS = 96
"""How many steps of a route are kept: what is longer could be written, and never be read again."""
_PAGE = 1000


class LeaseState(StrEnum):
    """Where a lease stands; each state is entered by one journal event."""

    GRANTED = "granted"
    OPENED = "opened"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    DELIVERED = "delivered"
    ENDING = "ending"
    ENDED = "ended"
    LOGGED = "logged"
    SETTLED = "settled"


S = LeaseState

TRANSITIONS: dict[LeaseState | None, frozenset[LeaseState]] = {
    None: frozenset({S.GRANTED}),
    S.GRANTED: frozenset({S.OPENED, S.ENDED}),
    S.OPENED: frozenset({S.PROVISIONING, S.ENDED}),
    S.PROVISIONING: frozenset({S.PROVISIONING, S.RUNNING, S.ENDING, S.ENDED}),
    S.RUNNING: frozenset({S.DELIVERED, S.ENDING}),
    S.DELIVERED: frozenset({S.ENDING}),
    S.ENDING: frozenset({S.ENDED}),
    S.ENDED: frozenset({S.LOGGED}),
    S.LOGGED: frozenset({S.SETTLED}),
    S.SETTLED: frozenset(),
}
"""What may follow what; anything else raises. ``ended`` without ``ending`` had no machine to end."""

OPEN_STATES = frozenset(S) - {S.SETTLED}
HOLDING_STATES = frozenset({S.GRANTED, S.OPENED, S.PROVISIONING, S.RUNNING, S.DELIVERED, S.ENDING})
"""The states that take a slot of the concurrency cap."""


@frozen
class Granted:
    """The grant as it came: the signed record, and the nonce of the boot whose card it was cleared on."""

    grant: bytes
    boot_nonce: bytes


@frozen
class Opened:
    """The sealed envelope that opened the commitments; it stays sealed in the journal."""

    sealed: bytes


@frozen
class ProvisionIntended:
    """One attempt about to be made; the duty to terminate it stands from this event on."""

    token: Token
    backend: BackendName
    offer: bytes
    attempt: int
    ends_at: UtcMs


@frozen
class AttemptFailed:
    """One attempt that definitely left nothing behind, and why."""

    token: Token
    reason: Reason
    detail: str


@frozen
class Routed:
    """Why each offer was taken or passed over, in order; one line each, made for people."""

    steps: tuple[str, ...]


@frozen
class Running:
    """The machine as the backend reported it."""

    instance: Instance
    backend: BackendName


@frozen
class Delivered:
    """A receipt on its way; the sealed bytes are the event's blob, re-sent byte for byte."""

    receipt_hash: bytes
    sequence: int
    pointer: bytes


@frozen
class Extended:
    """The duration in force from here on, by the module's word."""

    duration_ms: Milliseconds


@frozen
class Released:
    """The requester's release, by the module's word in its answer to this control."""

    sequence: int


@frozen
class Metered:
    """A checkpoint of usage, and for how long the bridge had then counted the lease to run."""

    usage: UsageMetrics
    elapsed_ms: Milliseconds = Milliseconds(0)


@frozen
class Resumed:
    """A later start of the bridge has taken the lease back, at this state."""

    at: str


@frozen
class Noticed:
    """The backend's word that it will take the machine away, 0 where it does not say when; the signed notice."""

    at: UtcMs
    detail: str
    notice: bytes
    hash: Fingerprint


@frozen
class Ending:
    """Why the machine is being ended."""

    reason: Reason


@frozen
class Ended:
    """The machine is gone, or never was: outcome facts for the usage log.

    ``evidence`` says how well ``ended_at`` is known; ``None`` where there was no machine.
    """

    outcome: str
    reason: Reason
    detail: str
    ended_at: UtcMs
    billable_ms: Milliseconds
    usage: UsageMetrics
    evidence: Reason | None = None


@frozen
class Logged:
    """The signed usage log, re-sent byte for byte, and its record hash."""

    log: bytes
    hash: Fingerprint


@frozen
class Settled:
    """Where the claim stands."""

    reason: Reason


@frozen
class ReapIntended:
    """A stray about to be ended: a machine that no open lease names, for ``age_ms`` by our count; ``detail`` is why.

    It may come after its lease is settled, and stands under no lease where the journal knows none.
    """

    token: Token
    backend: BackendName
    instance: InstanceId
    grant_hash: bytes
    age_ms: int
    detail: str


@frozen
class Reaped:
    """A stray that the backend has shown gone."""

    token: Token
    backend: BackendName
    instance: InstanceId


BODIES: dict[str, type[Any]] = {
    "granted": Granted,
    "opened": Opened,
    "routed": Routed,
    "provision-intended": ProvisionIntended,
    "terminate-intended": ProvisionIntended,
    "attempt-failed": AttemptFailed,
    "running": Running,
    "delivered": Delivered,
    "extended": Extended,
    "released": Released,
    "metered": Metered,
    "resumed": Resumed,
    "noticed": Noticed,
    "ending": Ending,
    "ended": Ended,
    "logged": Logged,
    "settled": Settled,
    "reap-intended": ReapIntended,
    "reaped": Reaped,
}
KIND_OF = {cls: kind for kind, cls in BODIES.items() if kind != "terminate-intended"}


def draft(
    lease: GrantId, body: object, *, state: LeaseState | None = None, kind: str = "", blob: bytes | None = None
) -> EventDraft:
    """Return the journal event that carries ``body`` for ``lease``."""
    return EventDraft(kind or KIND_OF[type(body)], lease, codec.encode(body), blob, state)


def read_body(event: JournalEvent) -> Any:
    """Return the facts of a lease's event.

    :raises JournalError: if the kind is unknown or the body does not fit it.
    """
    cls = BODIES.get(event.kind)
    if cls is None:
        raise JournalError(f"journal event {event.sequence} is of kind {event.kind!r}, which is not known")
    return codec.decode(event.body, cls, max_bytes=MAX_BODY, fill=True)


def routed(steps: tuple[str, ...]) -> Routed:
    """Return the steps of a route, of a long one the first and the last."""
    if len(steps) <= MAX_STEPS:
        return Routed(steps)
    half = MAX_STEPS // 2
    return Routed((*steps[:half], f"{Reason.ROUTED} {len(steps) - 2 * half} steps are left out", *steps[-half:]))


@define
class LeaseFacts:
    """What the journal knows of one lease: the latest body of each kind, and its state."""

    grant: GrantId
    state: LeaseState | None = None
    latest: dict[type[Any], Any] = field(factory=dict)
    _sequences: dict[type[Any], int] = field(factory=dict)

    @classmethod
    def fold(cls, grant: GrantId, events: tuple[JournalEvent, ...]) -> "LeaseFacts":
        """Return the facts after ``events``, in order.

        :raises JournalError: if a transition is illegal.
        """
        facts = cls(grant)
        for event in events:
            facts.apply(event)
        return facts

    def apply(self, event: JournalEvent) -> None:
        """Take in one event.

        :raises JournalError: if its transition is illegal.
        """
        if event.state is not None:
            self.state = next_state(self.state, LeaseState(event.state), self.grant)
        body = read_body(event)
        self.latest[type(body)] = body
        self._sequences[type(body)] = event.sequence

    def note(self, body: object) -> None:
        """Take in what could not be written: it holds for as long as this process lives."""
        self.latest[type(body)] = body

    def get(self, cls: type[T]) -> T | None:
        """Return the latest body of class ``cls``, or None."""
        return self.latest.get(cls)

    def sequence_of(self, cls: type[Any]) -> int:
        """Return the journal's sequence of the latest event with a body of class ``cls``, 0 where there is none."""
        return self._sequences.get(cls, 0)

    def require(self, cls: type[T]) -> T:
        """Return the latest body of class ``cls``.

        :raises JournalError: if the lease has none.
        """
        body = self.latest.get(cls)
        if body is None:
            raise JournalError(f"lease {self.grant.hex()[:12]} has no {KIND_OF[cls]} event in the journal")
        found: T = body
        return found


async def read_facts(journal: Journal, grant: GrantId) -> LeaseFacts:
    """Return what the journal knows of a lease, however many events it has.

    :raises JournalError: if a transition is illegal.
    """
    facts, after = LeaseFacts(grant), 0
    while events := await journal.events(lease=grant, after=after, limit=_PAGE):
        checkpoint = max((one.sequence for one in events if one.kind == KIND_OF[Metered]), default=0)
        for event in events:
            # Of a month of checkpoints the last says it all; to read every one would keep a start waiting.
            if event.kind != KIND_OF[Metered] or event.sequence == checkpoint:
                facts.apply(event)
        after = events[-1].sequence
    return facts


def next_state(state: LeaseState | None, wanted: LeaseState, grant: GrantId) -> LeaseState:
    """Return ``wanted`` if it may follow ``state``.

    :raises JournalError: if it may not.
    """
    if wanted not in TRANSITIONS[state]:
        raise JournalError(f"lease {grant.hex()[:12]}: {wanted} may not follow {state or 'nothing'}")
    return wanted
