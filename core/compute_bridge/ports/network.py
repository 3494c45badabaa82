"""The network: append-only streams and keyed collections, the whole transport contract.

Streams and collections are two name spaces: a stream and a collection of one name share nothing.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from attrs import field, frozen
from attrs.validators import ge

#: What a network carries unless its operator set another limit.
DEFAULT_MAX_RECORD_BYTES: Final = 262_144

#: The longest record id and the longest key of a collection.
MAX_ID_BYTES: Final = 128

_NAME = re.compile(r"[a-z0-9][a-z0-9./-]{0,99}")


@frozen
class Entry:
    """One record of a stream. ``sequence`` counts from 1 and leaves no gaps."""

    sequence: int = field(validator=ge(1))
    record_id: bytes
    record: bytes


@frozen
class Versioned:
    """The latest value of one key. ``version`` counts the values that the key has had, from 1."""

    key: bytes
    version: int = field(validator=ge(1))
    value: bytes


def check_name(name: str) -> str:
    """Return ``name`` when a stream, a collection or a consumer may be called so.

    :raises ValueError: if it is not one to a hundred of ``a-z 0-9 . / -``, the first a letter or digit.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"network name {name[:120]!r}: must match [a-z0-9][a-z0-9./-]{{0,99}}; rename it")
    return name


def check_id(label: str, value: bytes) -> bytes:
    """Return ``value`` when it may serve as a record id or as a key.

    :raises ValueError: if it is empty or longer than ``MAX_ID_BYTES``.
    """
    if not 1 <= len(value) <= MAX_ID_BYTES:
        raise ValueError(f"{label} of {len(value)} bytes: must have 1 to {MAX_ID_BYTES}; hash it")
    return value


class Network(ABC):
    """How records travel between the roles. One object is one client; it is safe to share between tasks.

    A single :meth:`append` is the only atomic step that anything may rely on. Every write is durable when
    it returns. A caller that is cancelled, or gets a plain ``NetworkError``, does not know whether its write
    arrived: it repeats it with the same id or the same ``expect`` and learns that from the answer.

    Every method raises ``ValueError`` for a name, id or key outside the limits, and ``NetworkError`` when
    the network cannot be reached or is closed. Generators wait without polling, may be cancelled at any
    time, and should be closed (``contextlib.aclosing``) by who stops reading early.
    """

    @property
    @abstractmethod
    def max_record_bytes(self) -> int:
        """The largest record or value, in bytes; the same for every client of one network."""

    @abstractmethod
    async def append(self, stream: str, record_id: bytes, record: bytes, *, expect_last: int | None = None) -> int:
        """Append once and return the record's sequence.

        A repeated id with the same bytes returns the first sequence, whatever ``expect_last`` says.
        ``expect_last=0`` asks for an empty stream.

        :raises RecordConflictError: if the id was used in this stream for other bytes.
        :raises TailMovedError: if ``expect_last`` is given and is not the tail.
        :raises RecordTooLargeError: if the record exceeds ``max_record_bytes``.
        """

    @abstractmethod
    async def fetch(self, stream: str, *, after: int = 0, limit: int = 256) -> tuple[Entry, ...]:
        """Return the entries that follow sequence ``after``, in order, at most ``limit``.

        It may return fewer than there are; only an empty answer means that the tail was reached.
        A stream that nobody wrote to is empty.
        """

    @abstractmethod
    async def tail(self, stream: str) -> int:
        """Return the last sequence of the stream, 0 when it is empty."""

    @abstractmethod
    async def find(self, stream: str, record_id: bytes) -> Entry | None:
        """Return the entry with this id, or ``None`` when the stream has none."""

    @abstractmethod
    def follow(self, stream: str, *, after: int = 0) -> AsyncGenerator[Entry, None]:
        """Yield every entry after ``after``, then each new one, for ever: in order, none lost, none doubled.

        A lost connection is resumed inside; only a closed network or a lasting failure raises.
        """

    @abstractmethod
    async def get(self, collection: str, key: bytes) -> Versioned | None:
        """Return the key's latest value, or ``None`` when it never had one."""

    @abstractmethod
    async def put(self, collection: str, key: bytes, value: bytes, *, expect: int) -> int:
        """Replace the value whose version is ``expect`` and return the new version.

        ``expect=0`` creates the key. Nothing is deleted, ever: a value that says so is the deletion.

        :raises StaleVersionError: if the key's version is another one.
        :raises RecordTooLargeError: if the value exceeds ``max_record_bytes``.
        """

    @abstractmethod
    async def entries(self, collection: str) -> tuple[Versioned, ...]:
        """Return the latest value of every key as of one moment, ordered by key."""

    @abstractmethod
    def watch(self, collection: str) -> AsyncGenerator[Versioned, None]:
        """Yield the current value of every key, then later values, for ever.

        A key's versions only rise. Values that were replaced before they were read may be skipped; the
        last value of each key never is.
        """

    @abstractmethod
    async def cursor(self, consumer: str, stream: str) -> int:
        """Return the sequence up to which ``consumer`` has read the stream, 0 at first; durable."""

    @abstractmethod
    async def save_cursor(self, consumer: str, stream: str, sequence: int) -> None:
        """Remember that ``consumer`` is done with everything up to ``sequence``.

        Saving the same sequence again is harmless.

        :raises StaleVersionError: if the saved cursor is already further: another consumer of that name runs.
        """


class SupportsBatches(ABC):
    """The power to append several records in one atomic step."""

    @abstractmethod
    async def append_many(self, stream: str, records: Sequence[tuple[bytes, bytes]]) -> list[int]:
        """Append (id, record) pairs all or none, in order, and return their sequences.

        Each pair is deduplicated as in ``append``, also against an earlier one of the batch.

        :raises RecordConflictError: if one id was used for other bytes; then none is appended.
        :raises RecordTooLargeError: if one record is too large; then none is appended.
        """
