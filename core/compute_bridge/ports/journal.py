"""The journal: what the bridge intended and what came of it, durable before it acts."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, Final

from attrs import field, frozen
from attrs.validators import ge, instance_of, max_len, min_len, optional
from blake3 import blake3

from compute_bridge.ports.errors import JournalError

#: What stands as ``previous`` in the first event.
GENESIS: Final = bytes(32)

#: The event by which a journal that could not be written says that it can; its body is an :class:`Outage`.
WRITABLE: Final = "journal-writable"

_DOMAIN: Final = b"compute-bridge/journal-event/1"


class JournalUnwritableError(JournalError):
    """An event was not recorded: accept no grant, keep watching and terminating what runs, try again.

    ``reason`` is ``full``, ``read-only``, ``locked`` or ``io``. What was recorded before stands.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@frozen
class EventDraft:
    """One event to record.

    ``lease`` is the grant id, or empty for what concerns the whole bridge. ``state`` is the lease's new
    state, or ``None`` when the event changes none. ``blob`` holds bytes that must come back as they are
    (a sealed receipt); the chain covers it by its hash. Nothing here may hold a secret.
    """

    kind: str = field(validator=[min_len(1), max_len(64)])
    lease: bytes = field(default=b"", validator=max_len(64))
    body: bytes = b""
    blob: bytes | None = None
    state: str | None = field(default=None)

    @state.validator
    def _belongs_to_a_lease(self, _attribute: object, value: str | None) -> None:
        if value is not None and not (value and self.lease):
            raise ValueError(f"event {self.kind!r} sets state {value!r}: needs a lease and a word; give both")


@frozen
class JournalEvent:
    """One recorded event. ``previous`` is the hash of the event before it, ``at_ms`` advisory UTC."""

    sequence: int = field(validator=ge(1))
    previous: bytes = field()
    at_ms: int = field(validator=ge(0))
    kind: str = field(validator=instance_of(str))
    lease: bytes = field(validator=instance_of(bytes))
    body: bytes = field(validator=instance_of(bytes))
    state: str | None = field(default=None, validator=optional(instance_of(str)))
    blob_hash: bytes = field(default=b"", validator=instance_of(bytes))

    @previous.validator
    def _is_a_hash(self, _attribute: object, value: Any) -> None:
        if not isinstance(value, bytes) or len(value) != 32:
            raise ValueError(f"event {self.sequence}: previous must be the 32 bytes of a hash")

    @property
    def hash(self) -> bytes:
        """Return the 32-byte blake3 of this event.

        Layout: ``previous`` (32), sequence and at_ms (8 each, big-endian), then domain, kind, lease,
        body, state and blob hash, each as length (8, big-endian) and bytes; no state is the empty one.
        """
        fields = (
            _DOMAIN,
            self.kind.encode(),
            self.lease,
            self.body,
            (self.state or "").encode(),
            self.blob_hash,
        )
        hasher = blake3(self.previous)
        hasher.update(self.sequence.to_bytes(8, "big") + self.at_ms.to_bytes(8, "big"))
        for part in fields:
            hasher.update(len(part).to_bytes(8, "big"))
            hasher.update(part)
        return hasher.digest()


@frozen
class Mended:
    """A lease whose row was not what its events say: the state in the row and the right one; ``None`` is no row."""

    lease: bytes
    before: str | None
    after: str | None


@frozen
class JournalHealth:
    """Whether events can be recorded, and the room for them.

    ``reason`` is that of :class:`JournalUnwritableError`, empty while it is writable; ``since_ms`` is the advisory
    UTC of the last change of that. ``sequence`` is the last event's. ``file_bytes`` counts the journal's files,
    ``room_bytes`` is what they may still grow: the room on the disk, or less where a limit is set.
    """

    is_writable: bool
    reason: str
    since_ms: int
    sequence: int
    file_bytes: int
    room_bytes: int


@frozen
class Outage:
    """Why and since when (advisory UTC) no event could be recorded, told by the first that could."""

    reason: str
    since_ms: int


@frozen
class LeaseRow:
    """Where one lease stands: its latest state and the event that set it."""

    lease: bytes
    state: str
    updated_sequence: int


class Journal(ABC):
    """An append-only chain of events, with the state of every lease as its projection.

    One bridge has one journal. It stores no secret: that is the duty of who writes to it. Failures are
    ``JournalError``; a failure to write is ``JournalUnwritableError``.
    """

    @property
    @abstractmethod
    def health(self) -> JournalHealth:
        """How the journal is, as the last :meth:`record` or :meth:`probe` found it; never blocks."""

    @abstractmethod
    async def probe(self) -> JournalHealth:
        """Measure the room again and return the health; an unwritable journal is tried with an event of its own.

        Ask it now and then while nothing else is recorded: nobody else would find out that there is room again.
        The event is ``journal-writable``; it tells in the chain that the journal was not.
        """

    @abstractmethod
    async def record(self, *drafts: EventDraft) -> tuple[JournalEvent, ...]:
        """Append the drafts, all or none, and return them as recorded; durable when it returns.

        What must be undone is written together with what will be done, in one call. A caller that is
        cancelled meanwhile is held until the outcome is known, so an event is never in doubt.

        :raises JournalUnwritableError: if there is no room, no permission or no disk.
        """

    @abstractmethod
    async def events(
        self, *, after: int = 0, lease: bytes | None = None, kind: str | None = None, limit: int = 1000
    ) -> tuple[JournalEvent, ...]:
        """Return events that follow sequence ``after``, in order, at most ``limit``; of one lease, of one kind."""

    @abstractmethod
    async def blob(self, sequence: int) -> bytes | None:
        """Return the blob that was recorded with that event, ``None`` when it had none.

        :raises JournalError: if the blob does not match the hash in the chain.
        """

    @abstractmethod
    async def head(self) -> tuple[int, bytes]:
        """Return the last event's sequence and hash; ``(0, GENESIS)`` at first."""

    @abstractmethod
    async def verify(self) -> None:
        """Walk the whole chain and compare the projection with it.

        :raises JournalError: naming the first bad sequence, or the lease that differs, and the mend.
        """

    @abstractmethod
    async def rebuild(self) -> tuple[Mended, ...]:
        """Make the projection anew from the events; return what differed."""

    @abstractmethod
    async def lease_states(self, *, excluding: Collection[str] = ()) -> tuple[LeaseRow, ...]:
        """Return every lease that stands in a state other than those excluded, oldest change first."""
