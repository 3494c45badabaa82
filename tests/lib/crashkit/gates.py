"""What stands between one bridge and everything outside it: a network, a journal and backends that can be made to fail.

A gate belongs to one life of a bridge. Once it is shut nothing leaves that life any more, as after a kill: no call
reaches the outside, and no answer comes back, whatever a cancelled task still tries to clean up.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio
from attrs import define, field

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.sqlite_journal import SqliteJournal
from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.ports.backend import Instance, Offer, Order
from compute_bridge.ports.errors import NetworkError
from compute_bridge.ports.journal import EventDraft, JournalEvent
from compute_bridge.ports.network import Entry, Versioned
from compute_bridge.ports.remains import Remains
from compute_bridge.testing.memory import MemoryBackend
from compute_bridge.testing.memory_account import Machine

T = TypeVar("T")

WINDOW_MS = 5_000
"""How long a stale list may miss a machine: what the backends declare."""


@define
class Line:
    """The line of a bridge to the network, in all its lives. ``loses`` and ``doubles`` count writes to come."""

    is_up: bool = True
    loses: int = 0
    doubles: int = 0
    _up: anyio.Event = field(factory=anyio.Event, init=False)

    def cut(self) -> None:
        """Let nothing through."""
        self.is_up = False

    def mend(self) -> None:
        """Let everything through, and lose and double nothing any more."""
        self.is_up, self.loses, self.doubles = True, 0, 0
        up, self._up = self._up, anyio.Event()
        up.set()

    async def until_up(self) -> None:
        """Return when something may come through again."""
        while not self.is_up:
            await self._up.wait()


@define
class Gate:
    """The way out of one life of a bridge, and how many writes it has left, or None for no end.

    With ``is_after`` the last write takes effect, and its answer never comes.
    """

    left: int | None = None
    is_after: bool = False
    passed: list[str] = field(factory=list)
    shut: anyio.Event = field(factory=anyio.Event)

    def arm(self, left: int, *, is_after: bool) -> None:
        """Shut at the write that comes after ``left`` others."""
        self.left, self.is_after = left, is_after

    async def write(self, name: str, write: Callable[[], Awaitable[T]]) -> T:
        """Let a write out, unless the bridge is dead by then."""
        await self._stay_if_shut()
        self.passed.append(name)
        is_last = self._is_last()
        if is_last and not self.is_after:
            await self._die()
        result = await write()
        if is_last:
            await self._die()
        await self._stay_if_shut()
        return result

    async def read(self, read: Callable[[], Awaitable[T]]) -> T:
        """Let a question out, unless the bridge is dead by then."""
        await self._stay_if_shut()
        return await read()

    def _is_last(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0

    async def _die(self) -> None:
        self.shut.set()
        await self._stay_if_shut()

    async def _stay_if_shut(self) -> None:
        if self.shut.is_set():
            await anyio.sleep_forever()


class GatedNetwork(MemoryNetwork):
    """One bridge's client of a network in memory."""

    def __init__(self, network: MemoryNetwork, gate: Gate, line: Line) -> None:
        super().__init__()
        vars(self).update(vars(network))
        self._gate = gate
        self._line = line

    async def append(self, stream: str, record_id: bytes, record: bytes, *, expect_last: int | None = None) -> int:
        write = super().append
        name = "append shuffle/replies" if stream.startswith("shuffle/replies/") else f"append {stream}"
        return await self._write(name, lambda: write(stream, record_id, record, expect_last=expect_last))

    async def append_many(self, stream: str, records: Sequence[tuple[bytes, bytes]]) -> list[int]:
        write = super().append_many
        return await self._write(f"append {stream}", lambda: write(stream, records))

    async def put(self, collection: str, key: bytes, value: bytes, *, expect: int) -> int:
        write = super().put
        # Never doubled: a second put of one version is refused, which a client of a real network sees to.
        return await self._write(
            f"put {collection}", lambda: write(collection, key, value, expect=expect), may_double=False
        )

    async def save_cursor(self, consumer: str, stream: str, sequence: int) -> None:
        write = super().save_cursor
        await self._write(f"cursor {stream}", lambda: write(consumer, stream, sequence))

    async def fetch(self, stream: str, *, after: int = 0, limit: int = 256) -> tuple[Entry, ...]:
        read = super().fetch
        return await self._read(lambda: read(stream, after=after, limit=limit))

    async def tail(self, stream: str) -> int:
        read = super().tail
        return await self._read(lambda: read(stream))

    async def find(self, stream: str, record_id: bytes) -> Entry | None:
        read = super().find
        return await self._read(lambda: read(stream, record_id))

    async def get(self, collection: str, key: bytes) -> Versioned | None:
        read = super().get
        return await self._read(lambda: read(collection, key))

    async def entries(self, collection: str) -> tuple[Versioned, ...]:
        read = super().entries
        return await self._read(lambda: read(collection))

    async def cursor(self, consumer: str, stream: str) -> int:
        read = super().cursor
        return await self._read(lambda: read(consumer, stream))

    async def _follow(self, stream: str, topic: str, after: int) -> AsyncGenerator[Entry, None]:
        while True:
            changed = self._signals.next_change(topic)
            page = await self._page(stream, after)
            for entry in page:
                yield entry
                after = entry.sequence
            if not page:
                await changed.wait()

    async def _page(self, stream: str, after: int) -> tuple[Entry, ...]:
        # A lost connection is resumed inside.
        await self._line.until_up()
        return await super().fetch(stream, after=after)

    async def _changes(self, topic: str, after: int) -> tuple[list[Versioned], int]:
        await self._line.until_up()
        return await super()._changes(topic, after)

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        self._require_line()
        return await self._gate.read(read)

    async def _write(self, name: str, write: Callable[[], Awaitable[T]], *, may_double: bool = True) -> T:
        self._require_line()
        result = await self._gate.write(name, write)
        if may_double and self._line.doubles:
            self._line.doubles -= 1
            result = await write()
        if self._line.loses:
            self._line.loses -= 1
            raise NetworkError(f"{name}: the answer is lost")
        return result

    def _require_line(self) -> None:
        if not self._line.is_up:
            raise NetworkError("the line is cut")


class GatedJournal(SqliteJournal):
    """The bridge's own journal, as it is; only a dead bridge writes nothing to it."""

    def __init__(self, journal: SqliteJournal, gate: Gate) -> None:
        vars(self).update(vars(journal))
        self._gate = gate

    async def record(self, *drafts: EventDraft) -> tuple[JournalEvent, ...]:
        write = super().record
        return await self._gate.write(f"record {drafts[0].kind}", lambda: write(*drafts))


@define
class Slowness:
    """How an account lists: ``slow_ms`` late, and as it was ``stale_ms`` ago."""

    slow_ms: int = 0
    stale_ms: int = 0


class GatedBackend(MemoryBackend):
    """The reference backend, whose lists may be slow, and stale within the window that it declares."""

    def __init__(self, context: Any, client: Any, gate: Gate, slowness: Slowness) -> None:
        super().__init__(context, client)
        self._gate = gate
        self._slowness = slowness

    @property
    def consistency_window_ms(self) -> Milliseconds:
        return Milliseconds(WINDOW_MS)

    async def offers(self) -> tuple[Offer, ...]:
        return await self._gate.read(super().offers)

    async def provision(self, order: Order) -> Instance:
        write = super().provision
        return await self._gate.write("provision", lambda: write(order))

    async def find(self, token: Token) -> Instance | None:
        return next((one for one in await self.list_owned() if one.token == token), None)

    async def list_owned(self) -> tuple[Instance, ...]:
        await self._context.clock.sleep_ms(self._slowness.slow_ms)
        fresh = await self._gate.read(super().list_owned)
        if not self._slowness.stale_ms:
            return fresh
        seen = await self._gate.read(lambda: self._client.list(self._is_seen))
        return tuple(_instance_of(machine) for machine in seen)

    def _is_seen(self, machine: Machine) -> bool:
        seen_at = self._client._account.clock.utc_ms() - self._slowness.stale_ms
        was_made, was_gone = machine.started_ms <= seen_at, 0 < machine.ended_ms <= seen_at
        return "cb-token" in machine.tags and was_made and not was_gone

    async def list_remains(self) -> tuple[Remains, ...]:
        return await self._gate.read(super().list_remains)

    async def terminate(self, instance: InstanceId) -> None:
        write = super().terminate
        await self._gate.write("terminate", lambda: write(instance))

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        write = super().extend
        await self._gate.write("extend", lambda: write(instance, ends_at))


def _instance_of(machine: Machine) -> Instance:
    from compute_bridge.testing import memory

    return memory._instance(machine)
