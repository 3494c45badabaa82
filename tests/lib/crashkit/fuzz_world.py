"""A coalition whose every part can fail, under virtual time: what the fault fuzz pulls its levers on."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from attrs import define, evolve, field

from compute_bridge.adapters.sqlite_journal import SqliteJournal
from compute_bridge.host.bridge import Bridge, BridgeParts
from compute_bridge.host.requester import Requester
from compute_bridge.host.requester_state import RequestHandle
from compute_bridge.model.control import ControlAction
from compute_bridge.model.ids import BackendName, PublicKey
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.errors import ComputeBridgeError
from compute_bridge.ports.journal import EventDraft, JournalUnwritableError
from compute_bridge_market.book import Book
from compute_bridge_market.config import LimitSettings
from crashkit.coalition import SSH_KEY, Coalition, found
from crashkit.fuzz_cloud import FuzzCloud
from crashkit.gates import Gate, GatedJournal, GatedNetwork, Line
from crashkit.truth import Truth
from crashkit.virtual_loop import LoopClock
from crashkit.witnesses import Witnesses

logger = logging.getLogger(__name__)

T = TypeVar("T")

BORN_MS = 1_800_000_000_000
MAX_RATE = MicrosPerHour(10**9)
CADENCE_MS = 10_000
GRACE_TICKS = 60
TICK_PATIENCE_S = 60
RESTART_MS = 30_000
"""How soon whoever watches over the bridge starts it again after it ended by itself."""
SETTLE_MS = 60_000
LONGEST_SETTLE_MS = 3 * 3_600_000
HASTE_MS = 120_000
"""What may pass between the moment at which a machine should end and its end, where nothing is in the way."""


@define
class FuzzCoalition(Coalition):
    """The coalition as one life of the bridge meets it."""

    skewed: LoopClock = field(kw_only=True)
    gate: Gate = field(factory=Gate, kw_only=True)
    clouds: tuple[FuzzCloud, ...] = field(default=(), kw_only=True)

    @property
    def bridge_clock(self) -> LoopClock:
        return self.skewed

    async def open_backends(self, stack: AsyncExitStack) -> list[Backend]:
        return [cloud.open(self.skewed, self.gate) for cloud in self.clouds]


@define
class Config:
    """What an operator changes between two lives of a bridge."""

    margin_bps: int = 2000
    max_leases: int = 3
    clouds: int = 1


@define
class Ask:
    """One request and what came of it."""

    handle: RequestHandle | None = None
    is_over: bool = False


@define
class FuzzWorld:
    """Everything that one run of the fuzz plays with. All methods run on one virtual loop."""

    folder: Path
    attester: Path
    clock: LoopClock = field(factory=lambda: LoopClock(utc_ms=BORN_MS))
    bridge_clock: LoopClock = field(factory=lambda: LoopClock(utc_ms=BORN_MS))
    config: Config = field(factory=Config)
    line: Line = field(factory=Line)
    clouds: tuple[FuzzCloud, ...] = field(init=False)
    coalition: FuzzCoalition = field(init=False)
    requester: Requester = field(init=False)
    asks: list[Ask] = field(factory=list)
    faults: list[BaseException] = field(factory=list)
    lives: int = 0
    is_killed: bool = False
    gate: Gate | None = None
    bridge: Bridge | None = None
    parts: BridgeParts | None = None
    keys: set[PublicKey] = field(factory=set)
    book: Book | None = None
    is_disk_full: bool = False
    blind_ms: int = 0
    _tasks: TaskGroup = field(init=False)
    _life: anyio.CancelScope | None = field(default=None, init=False)
    _buried: anyio.Event = field(init=False)
    _died_ms: int = field(default=0, init=False)
    _market: anyio.CancelScope | None = field(default=None, init=False)
    _market_gone: anyio.Event = field(init=False)

    # --- the whole ----------------------------------------------------------------------------

    async def live(self, ready: anyio.Event, over: anyio.Event) -> None:
        """Hold every task of this world, until ``over``."""
        names = (BackendName("first"), BackendName("second"))
        self.clouds = tuple(FuzzCloud(name, self.clock) for name in names)
        limits = LimitSettings(grace_ticks=GRACE_TICKS)
        made = partial(FuzzCoalition, skewed=self.bridge_clock)
        self.coalition = await found(
            self.folder,
            self.clouds[0],
            made=made,
            cadence_ms=CADENCE_MS,
            limits=limits,
            attester=self.attester,
        )
        self.requester = self.coalition.requester()
        async with anyio.create_task_group() as self._tasks:
            ready.set()
            await over.wait()
            self._tasks.cancel_scope.cancel()

    async def pass_time(self, ms: int) -> None:
        """Let time pass, start a bridge again that ended by itself, and count the time in which nobody could end
        a machine as blind.
        """
        until = self.clock.monotonic_ms() + ms
        while (left := until - self.clock.monotonic_ms()) > 0:
            step = min(left, 1000)
            self.blind_ms += step if self.is_blind else 0
            await self.clock.sleep_ms(step)
            if self._life is None and not self.is_killed and self.clock.monotonic_ms() - self._died_ms >= RESTART_MS:
                await self.start_bridge()

    @property
    def is_blind(self) -> bool:
        """Whether a machine may go on beyond its end just now, because its bridge is dead or its cloud is silent."""
        return self._life is None or any(cloud.account.ailment for cloud in self.clouds)

    # --- the market -----------------------------------------------------------------------------

    async def start_market(self) -> None:
        """Start the market, unless it runs."""
        if self._market is None:
            self._market, self._market_gone = anyio.CancelScope(), anyio.Event()
            self._tasks.start_soon(self._run_market, self._market, self._market_gone)
            await self.clock.sleep_ms(10)

    async def stop_market(self) -> None:
        """Stop the market at once."""
        if self._market is not None:
            self._market.cancel()
            await self._market_gone.wait()
            self._market = None

    async def tick(self, times: int) -> int:
        """Let the almanac leap, and return by how much it did."""
        leader = self.coalition.leader
        assert leader is not None
        before = leader.almanac.now
        for _ in range(times):
            await leader.tick()
        return leader.almanac.now - before

    async def _run_market(self, scope: anyio.CancelScope, gone: anyio.Event) -> None:
        with scope:
            async with self.coalition.market() as self.book:
                await anyio.sleep_forever()
        gone.set()

    # --- the bridge -----------------------------------------------------------------------------

    async def start_bridge(self) -> None:
        """Start the bridge, unless it runs."""
        self.is_killed = False
        if self._life is None:
            self.lives += 1
            self.gate = Gate()
            self._life, self._buried = anyio.CancelScope(), anyio.Event()
            self._tasks.start_soon(self._run_bridge, self._life, self.gate, self._buried)
            await self.clock.sleep_ms(10)

    async def kill_bridge(self) -> None:
        """Kill the bridge where it stands; it stays dead until it is started."""
        self.is_killed = True
        if self._life is not None and self.gate is not None:
            self.gate.shut.set()
            await self._buried.wait()

    def kill_at(self, writes: int, *, is_after: bool) -> None:
        """Let the bridge, if one lives, die at the write that comes after so many others."""
        if self.gate is not None:
            self.gate.arm(writes, is_after=is_after)

    def stop_selling(self, *, stop: bool) -> None:
        """Let the bridge, if it has booted, take no new grants, or take them again."""
        if self.bridge is not None:
            self.bridge.stop_selling(stop=stop)

    async def lease_states(self) -> list[str]:
        """Return where the leases of the bridge stand."""
        return [row.state for row in await self.parts.journal.lease_states()] if self.parts is not None else []

    async def _run_bridge(self, scope: anyio.CancelScope, gate: Gate, buried: anyio.Event) -> None:
        try:
            with scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._die_with, gate, tasks.cancel_scope)
                    await self._serve(gate)
        except ComputeBridgeError as error:
            logger.warning("life %d of the bridge ended: %s", self.lives, error)
        except BaseExceptionGroup as group:
            _, other = group.split(ComputeBridgeError)
            logger.warning("life %d of the bridge ended: %r", self.lives, group.exceptions)
            if other is not None:
                self.faults.append(other)
        finally:
            gate.shut.set()
            self._life = self.bridge = self.parts = None
            self._died_ms = self.clock.monotonic_ms()
            buried.set()

    async def _die_with(self, gate: Gate, scope: anyio.CancelScope) -> None:
        await gate.shut.wait()
        scope.cancel()

    async def _serve(self, gate: Gate) -> None:
        network = GatedNetwork(self.coalition.network, gate, self.line)  # type: ignore[arg-type]
        clouds = self.clouds[: self.config.clouds]
        met = evolve(self.coalition, network=network, gate=gate, clouds=clouds, skewed=self.bridge_clock)
        async with AsyncExitStack() as stack:
            parts = await met.parts(
                stack,
                "bridge",
                margin_bps=self.config.margin_bps,
                max_leases=self.config.max_leases,
                journal_bytes=1 if self.is_disk_full else None,
            )
            parts = evolve(parts, journal=GatedJournal(parts.journal, gate))  # type: ignore[arg-type]
            self.parts = parts
            self.keys |= set(parts.boots)
            await self._boot(Bridge(parts))

    async def _boot(self, bridge: Bridge) -> None:
        # As the boot does it, without its signals and its socket.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bridge.parts.market.follow_almanac)
            with anyio.move_on_after(TICK_PATIENCE_S):
                await bridge.prove()
            await bridge.look()
            await bridge.reconcile()
            await bridge.enter()
            tasks.start_soon(bridge.serve)
            self.bridge = bridge
            await bridge.admitted()
            await anyio.sleep_forever()

    # --- the disk -------------------------------------------------------------------------------

    async def fill_disk(self) -> None:
        """Leave the journal not a byte more than it has."""
        self.is_disk_full = True
        if self.parts is not None:
            journal = self.parts.journal
            assert isinstance(journal, SqliteJournal)
            await journal._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
            for size in (2000, 200, 20, 0):
                await _fill(journal, size)

    async def empty_disk(self) -> None:
        """Give the journal all the room there is."""
        self.is_disk_full = False
        if self.parts is not None:
            journal = self.parts.journal
            assert isinstance(journal, SqliteJournal)
            await journal._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1073741823").fetchone())

    # --- the requester --------------------------------------------------------------------------

    async def ask(self, duration_ms: int, *, comes: bool, makes_key: bool) -> None:
        """Ask for a machine; who does not come never sends its envelope."""
        one = Ask()
        self.asks.append(one)
        self._tasks.start_soon(self._ask, one, duration_ms, comes, makes_key)
        await self.clock.sleep_ms(10)

    async def _ask(self, one: Ask, duration_ms: int, comes: bool, makes_key: bool) -> None:
        manifest = self.coalition.manifest(duration_ms=duration_ms)
        try:
            one.handle = await self.requester.submit(
                manifest, MAX_RATE, SSH_KEY if makes_key else None, open_ms=Milliseconds(300_000)
            )
            if comes:
                await self.requester.serve_until_receipt(one.handle)
        except ComputeBridgeError as error:
            logger.info("a request came to nothing: %s", error)
        one.is_over = True

    async def control(self, index: int, action: ControlAction, *, extend_ms: int = 0) -> None:
        """Release or extend one lease, if it is one by now."""
        asked = [one for one in self.asks if one.handle is not None]
        if asked:
            handle = asked[index % len(asked)].handle
            self._tasks.start_soon(self._control, handle, action, extend_ms)
            await self.clock.sleep_ms(10)

    async def _control(self, handle: RequestHandle | None, action: ControlAction, extend_ms: int) -> None:
        if handle is None:
            return
        try:
            await self.requester.control(handle, action, extend_ms=Milliseconds(extend_ms))
        except ComputeBridgeError as error:
            logger.info("a control came to nothing: %s", error)

    # --- the end --------------------------------------------------------------------------------

    async def mend_everything(self) -> None:
        """Undo every fault and start what is stopped, the bridge anew and with every backend."""
        for cloud in self.clouds:
            cloud.mend()
        self.line.mend()
        await self.kill_bridge()
        self.is_disk_full = False
        self.config = evolve(self.config, clouds=len(self.clouds))
        await self.start_market()
        await self.start_bridge()

    async def settle(self) -> None:
        """Let time pass until every grant is over and what follows from it is booked."""
        for _ in range(LONGEST_SETTLE_MS // SETTLE_MS):
            await self.pass_time(SETTLE_MS)
            if await self._is_quiet():
                await self.pass_time(SETTLE_MS)
                return

    async def _is_quiet(self) -> bool:
        assert self.book is not None
        if self.parts is None or not all(one.is_over for one in self.asks):
            return False
        (waiting,) = await self.book.run(lambda db: db.execute(_WAITING).fetchone())
        states = {row.state for row in await self.parts.journal.lease_states()}
        machines = [one for cloud in self.clouds for one in cloud.account.machines.values()]
        return not waiting and states <= {"settled"} and all(one.is_gone for one in machines)

    async def truth(self) -> Truth:
        """Return what everybody but the bridge's memory says of this world."""
        assert self.book is not None
        assert self.parts is not None
        witnesses = Witnesses(
            network=self.coalition.network,
            module=self.coalition.module,
            book=self.book,
            accounts=tuple(cloud.account for cloud in self.clouds),
            journal=self.parts.journal,
            settlement=self.parts.settlement,
            keys=tuple(sorted(self.keys)),
        )
        return await witnesses.truth(grace_ms=self.blind_ms + HASTE_MS, tolerance_ms=0)


_WAITING = (
    "SELECT (SELECT count(*) FROM award WHERE log_hash IS NULL) + (SELECT count(*) FROM request WHERE is_open = 1)"
)


async def _fill(journal: Any, size: int) -> None:
    try:
        while True:
            # Past the gate, for it is not the bridge who fills the disk.
            await SqliteJournal.record(journal, EventDraft("filler", body=bytes(size)))
    except JournalUnwritableError:
        return


@asynccontextmanager
async def open_world(folder: Path, attester: Path) -> AsyncIterator[FuzzWorld]:
    """Run a world for as long as the context is open, its market and its bridge started."""
    world = FuzzWorld(folder, attester)
    ready, over = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.live, ready, over)
        await ready.wait()
        await world.start_market()
        await world.start_bridge()
        await world.clock.sleep_ms(2 * CADENCE_MS)
        yield world
        over.set()
