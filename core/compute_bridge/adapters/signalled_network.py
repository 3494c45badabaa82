"""What the embedded networks share: waiting for changes without polling, and the words of their refusals."""

import logging
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import anyio

from compute_bridge.ports.errors import (
    NetworkError,
    RecordConflictError,
    RecordTooLargeError,
    StaleVersionError,
    TailMovedError,
)
from compute_bridge.ports.network import Entry, Network, Versioned, check_id, check_name

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Real seconds between two tries of a follower to read.
AGAIN_S: Final = 1


class Signals:
    """One event per topic that somebody waits for. Used on the event loop only."""

    def __init__(self) -> None:
        # Weak, since pointers make new topics for ever: an event lives as long as somebody waits for it.
        self._events: WeakValueDictionary[str, anyio.Event] = WeakValueDictionary()

    def next_change(self, topic: str) -> anyio.Event:
        """Return the event of the topic's next change; take it before reading, wait for it after."""
        event = self._events.get(topic)
        if event is None:
            event = self._events[topic] = anyio.Event()
        return event

    def wake(self, topics: Iterable[str]) -> None:
        """Wake who waits for one of ``topics``."""
        for topic in topics:
            event = self._events.pop(topic, None)
            if event is not None:
                event.set()

    def wake_all(self) -> None:
        """Wake everybody, so that each looks for itself."""
        self.wake(list(self._events))


def stream_topic(stream: str) -> str:
    """Return the topic of a stream; no collection has the same."""
    return "s/" + check_name(stream)


def collection_topic(collection: str) -> str:
    """Return the topic of a collection; no stream has the same."""
    return "c/" + check_name(collection)


class SignalledNetwork(Network):
    """A network whose clients learn by signal that a topic changed, and then read it."""

    def __init__(self, max_record_bytes: int) -> None:
        self._max_record_bytes = max_record_bytes
        self._signals = Signals()

    @property
    def max_record_bytes(self) -> int:
        """The limit that this network was made with."""
        return self._max_record_bytes

    @abstractmethod
    async def _changes(self, topic: str, after: int) -> tuple[list[Versioned], int]:
        """Return values whose last change came after ``after``, oldest change first, and the last one's change."""

    def follow(self, stream: str, *, after: int = 0) -> AsyncGenerator[Entry, None]:
        """Yield entries in order, reading anew after each signal."""
        return self._follow(stream, stream_topic(stream), check_after(after))

    async def _follow(self, stream: str, topic: str, after: int) -> AsyncGenerator[Entry, None]:
        while True:
            changed = self._signals.next_change(topic)
            page = await self._insist(partial(self.fetch, stream, after=after))
            for entry in page:
                yield entry
                after = entry.sequence
            if not page:
                await changed.wait()

    def watch(self, collection: str) -> AsyncGenerator[Versioned, None]:
        """Yield values in the order of their last changes, reading anew after each signal."""
        return self._watch(collection_topic(collection))

    async def _watch(self, topic: str) -> AsyncGenerator[Versioned, None]:
        after = 0
        while True:
            changed = self._signals.next_change(topic)
            page, after = await self._insist(partial(self._changes, topic, after))
            for value in page:
                yield value
            if not page:
                await changed.wait()

    async def _insist(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what ``read`` returns, however often it fails: who follows outlives what cannot be read just now."""
        while True:
            try:
                return await read()
            except NetworkError as error:
                if self._is_closed:
                    raise
                logger.warning("reading again in %d s: %s", AGAIN_S, error)
            await anyio.sleep(AGAIN_S)

    @property
    def _is_closed(self) -> bool:
        """Whether it was closed, after which nothing can be read again."""
        return False

    def _check_record(self, where: str, record_id: bytes, record: bytes) -> None:
        check_id("record id", record_id)
        self._check_size(where, record)

    def _check_size(self, where: str, record: bytes) -> None:
        if len(record) > self._max_record_bytes:
            raise RecordTooLargeError(
                f"{where}: {len(record)} bytes exceed the network's {self._max_record_bytes}; send less"
            )


def check_after(after: int) -> int:
    """Return ``after`` when it may be a position.

    :raises ValueError: if it is negative.
    """
    if after < 0:
        raise ValueError(f"position {after}: must be 0 or a sequence")
    return after


def check_limit(limit: int) -> int:
    """Return ``limit`` when it admits an entry.

    :raises ValueError: if it is less than 1.
    """
    if limit < 1:
        raise ValueError(f"limit {limit}: must be at least 1")
    return limit


def conflict(stream: str, record_id: bytes) -> RecordConflictError:
    """Return the refusal of an id that was used for other bytes."""
    return RecordConflictError(
        f"stream {stream!r}: record id {record_id.hex()} stands for other bytes; never use an id twice"
    )


def tail_moved(stream: str, expected: int, tail: int) -> TailMovedError:
    """Return the refusal of an append behind a tail that is not the tail."""
    return TailMovedError(f"stream {stream!r}: the tail is {tail}, not {expected}; read on and decide again")


def stale_version(collection: str, key: bytes, expected: int, version: int) -> StaleVersionError:
    """Return the refusal of a put that saw another version."""
    return StaleVersionError(
        f"collection {collection!r}: key {key.hex()} has version {version}, not {expected}; read it and decide again"
    )


def stale_cursor(consumer: str, stream: str, sequence: int, saved: int) -> StaleVersionError:
    """Return the refusal of a cursor that would move back."""
    return StaleVersionError(
        f"consumer {consumer!r}: its cursor on {stream!r} is {saved}, beyond {sequence}; "
        "another consumer of this name runs, stop one"
    )
