"""Strays are reaped beyond doubt only, and leases end only when their machine is gone beyond doubt."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio
import pytest
from attrs import define, evolve, field

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.explain import explain
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.identity import Identity
from compute_bridge.host.lease_state import (
    AttemptFailed,
    Granted,
    LeaseState,
    Opened,
    ProvisionIntended,
    ReapIntended,
    Running,
    draft,
    read_body,
    read_facts,
)
from compute_bridge.host.listing import MAX_MACHINES
from compute_bridge.host.market import Market
from compute_bridge.host.missing import ENDING_MS
from compute_bridge.host.reconcile import Reconciler
from compute_bridge.host.sweep import NotServingError, answer_sweep, gauges, plan
from compute_bridge.model import channels
from compute_bridge.model.boot import LeaseSettings
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import (
    BackendName,
    BandName,
    Fingerprint,
    GrantId,
    InstanceId,
    PublicKey,
    RequestId,
    Token,
)
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Posture
from compute_bridge.model.units import MicrosPerHour, Milliseconds, Tick, UtcMs
from compute_bridge.ports.backend import BackendContext, Instance, Offer, Ownership
from compute_bridge.ports.errors import BootError, NetworkError, NotYetTerminatedError, UnavailableError
from compute_bridge.ports.journal import EventDraft, JournalUnwritableError
from compute_bridge.ports.network import Entry
from compute_bridge.ports.remains import Remains
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.testing.memory import MemoryBackend
from compute_bridge.testing.memory_account import IMAGES, SHAPES, Account, connect, publish
from compute_bridge.testing.orders import make_order, needs_of
from compute_bridge.testing.puppet_market import PuppetMarket, puppet_handshake
from compute_bridge.wire import codec
from compute_bridge.wire.keys import instance_name, lease_mac
from compute_bridge.wire.signing import Signed
from compute_bridge_market.rule import LowestRate

pytestmark = pytest.mark.anyio

WINDOW_MS = 900_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
RACK = BackendName("rack")
CLOUD = BackendName("cloud")


class LeveredBackend(MemoryBackend):
    """The reference backend, with levers on what it tells of its account."""

    def __init__(self, context: BackendContext, account: Account, key: bytes) -> None:
        endpoint = f"memory:{token_hex(8)}"
        publish(endpoint, account)
        super().__init__(context, connect(endpoint, key))
        self.account = account
        self.window_ms = 0
        self.listings = 0
        self.hidden: set[str] = set()
        self.is_reached = True
        self.tells: Any = None
        self.remains: Any = None
        self.lies = False
        self.on_list: Callable[[], Awaitable[None]] | None = None
        self.on_find: Callable[[Token], Awaitable[Any]] | None = None
        self.on_terminate: Callable[[InstanceId], Awaitable[None]] | None = None

    @property
    def consistency_window_ms(self) -> Milliseconds:
        return Milliseconds(self.window_ms)

    def reaches(self, offer: Offer) -> bool:
        return self.is_reached

    async def list_owned(self) -> tuple[Instance, ...]:
        self.listings += 1
        if self.on_list is not None:
            await self.on_list()
        if self.tells is not None:
            told: tuple[Instance, ...] = self.tells()
            return told
        return tuple(one for one in await super().list_owned() if one.id not in self.hidden)

    async def list_remains(self) -> tuple[Remains, ...]:
        if self.remains is not None:
            told: tuple[Remains, ...] = self.remains()
            return told
        return await super().list_remains()

    async def find(self, token: Token) -> Instance | None:
        if self.on_find is not None:
            found: Instance | None = await self.on_find(token)
            return found
        return await super().find(token)

    async def terminate(self, instance: InstanceId) -> None:
        if self.on_terminate is not None:
            await self.on_terminate(instance)
        if not self.lies:
            await super().terminate(instance)

    @property
    def running(self) -> set[str]:
        return {machine.id for machine in self.account.machines.values() if not machine.is_gone}

    def silence(self, *, on: bool = True) -> None:
        self.account.ailment = "timeout" if on else ""


class DeafNetwork(MemoryNetwork):
    """A network that finds nothing out while it is deaf."""

    is_deaf = False
    asked = 0

    async def find(self, stream: str, record_id: bytes) -> Entry | None:
        if self.is_deaf:
            self.asked += 1
            raise NetworkError("nobody answers")
        return await super().find(stream, record_id)


@define
class Scene:
    """One provider with two backends, its journal, and a market on strings; time is the test's."""

    folder: Path
    journal: Any
    puppet: PuppetMarket
    market: Market
    clock: VirtualClock
    network: DeafNetwork
    rack: LeveredBackend
    cloud: LeveredBackend
    identity: Identity
    lost: list[GrantId] = field(factory=list)
    grants: int = 0

    def boot(self, *, identity: Identity | None = None, backends: Any = None, **settings: Any) -> Reconciler:
        """Return what a start of the bridge reconciles with; it has seen nothing yet."""
        fleet = Fleet(backends or [self.rack, self.cloud], self.clock, currency="EUR")
        return Reconciler(
            fleet,
            self.journal,
            identity or self.identity,
            self.market,
            self.clock,
            LeaseSettings(),
            end_lease=self.lost.append,
            **{"answer_s": 5.0, **settings},
        )

    async def grant(self, *, journalled: bool = True, published: bool = True) -> Signed[ComputeGrant]:
        """Return a grant of ours, as the market awards it and the journal has it."""
        self.grants += 1
        seed = sha256(f"grant {self.grants}".encode()).digest()
        needs = needs_of((await self.rack.offers())[0])
        grant = ComputeGrant(
            GrantId(seed), RequestId(seed), PublicKey(seed), self.identity.provider, Fingerprint(seed), 1, needs,
            needs.regions[0], Posture.NONE, BandName("small"), seed, seed, seed, MicrosPerHour(1000), "EUR",
            Tick(1), Tick(9), Milliseconds(HOUR_MS),
        )  # fmt: skip
        signed = self.puppet.sign(grant)
        if published:
            await self.network.append(channels.GRANT_STREAM, grant.id, signed.raw)
        if journalled:
            await self.journal.record(draft(grant.id, Granted(signed.raw, bytes(32)), state=LeaseState.GRANTED))
        return signed

    async def settle(self, grant: Signed[ComputeGrant]) -> None:
        """Let the market publish its settlement of the grant."""
        await self.puppet.settle(grant.value, None)

    async def machine(
        self,
        grant: Signed[ComputeGrant],
        *,
        on: LeveredBackend | None = None,
        attempt: int = 0,
        identity: Identity | None = None,
        name: str = "",
        token: Token | None = None,
    ) -> Instance:
        """Make a machine for the grant as a bridge would, unless told otherwise."""
        backend = on or self.rack
        token = token or Token(sha256(grant.value.id + bytes([attempt])).digest())
        offer = (await backend.offers())[0]
        now = UtcMs(self.clock.utc_ms())
        order = make_order(
            offer, token, needs=grant.value.requirements, image=ImageRef(f"vm:{IMAGES[0]}"), user="root", now=now
        )
        name = name or instance_name(token)
        mac = lease_mac((identity or self.identity).secret, name, grant.hash)
        order = evolve(order, ownership=Ownership(name, grant.hash, mac), ends_at=UtcMs(now + 10 * DAY_MS))
        return await backend.provision(order)

    async def intend(self, grant: Signed[ComputeGrant], *, attempt: int = 0, on: BackendName = RACK) -> Token:
        """Journal the intent of an attempt."""
        token = Token(sha256(grant.value.id + bytes([attempt])).digest())
        offer = codec.encode(self.rack._offer(SHAPES[0]))
        intent = ProvisionIntended(token, on, offer, attempt, UtcMs(1))
        drafts = [draft(grant.value.id, intent, state=LeaseState.PROVISIONING)]
        if (await read_facts(self.journal, grant.value.id)).state is LeaseState.GRANTED:
            drafts.insert(0, draft(grant.value.id, Opened(b"sealed"), state=LeaseState.OPENED))
        await self.journal.record(*drafts)
        return token

    async def lease(self) -> tuple[Signed[ComputeGrant], Instance]:
        """Return the grant and the machine of a lease that runs."""
        grant = await self.grant()
        await self.intend(grant)
        machine = await self.machine(grant)
        await self.journal.record(draft(grant.value.id, Running(machine, RACK), state=LeaseState.RUNNING))
        return grant, machine

    async def stray(self, *, settled: bool = True, **changes: Any) -> Instance:
        """Return a machine that belongs to no open lease."""
        grant = await self.grant()
        if settled:
            await self.settle(grant)
        return await self.machine(grant, **changes)

    async def kinds(self, lease: bytes) -> list[str]:
        return [event.kind for event in await self.journal.events(lease=lease)]


@asynccontextmanager
async def open_scene(folder: Path, *, ticked: bool = True, max_bytes: int | None = None) -> AsyncIterator[Scene]:
    clock, network = VirtualClock(), DeafNetwork()
    puppet = PuppetMarket(network, LowestRate(), puppet_handshake(LowestRate()))
    market = Market(network, puppet.handshake)
    identity = Identity.from_root_seed(b"\1" * 32, market.domain)
    backends = [
        LeveredBackend(BackendContext(name, clock, lambda _: b""), Account(clock, b"key"), b"key")
        for name in (RACK, CLOUD)
    ]
    path = folder / "journal"
    async with (
        open_sqlite_journal(path, clock, create=True, max_bytes=max_bytes) as journal,
        anyio.create_task_group() as tasks,
    ):
        if ticked:
            await puppet.tick(3)
            tasks.start_soon(market.follow_almanac)
            await market.tick()
        rack, cloud = backends
        yield Scene(folder, journal, puppet, market, clock, network, rack, cloud, identity)
        tasks.cancel_scope.cancel()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


async def look_beyond_the_window(scene: Scene, reconciler: Reconciler, *, act: bool = True) -> Any:
    """Look once, and again when whatever was seen then is old enough; return what was found at last."""
    await reconciler.sweep(act=act)
    await scene.clock.advance(WINDOW_MS + 1)
    return await reconciler.sweep(act=act)


def reasons(findings: Any) -> list[Reason]:
    return [one.reason for one in findings.strays]


# --- a machine that belongs to no lease -----------------------------------------------------------


async def test_a_stray_whose_grant_is_settled_is_reaped_beyond_the_window(scene: Scene) -> None:
    await scene.stray()
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.REAPED] == reasons(findings)
    assert set() == scene.rack.running


async def test_a_machine_of_an_open_lease_is_no_stray(scene: Scene) -> None:
    grant, machine = await scene.lease()
    await scene.settle(grant)
    findings = await look_beyond_the_window(scene, scene.boot())

    assert () == findings.strays
    assert (machine.token,) == findings.adopted
    assert {machine.id} == scene.rack.running


async def test_the_machine_of_a_lease_s_next_attempt_is_no_stray(scene: Scene) -> None:
    grant = await scene.grant()
    await scene.intend(grant)
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.intend(grant, attempt=1)
    await scene.machine(grant, attempt=1)
    findings = await reconciler.sweep(act=True)

    assert () == findings.strays


async def test_a_young_stray_is_left(scene: Scene) -> None:
    machine = await scene.stray()
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.clock.advance(WINDOW_MS)
    findings = await reconciler.sweep(act=True)

    assert [Reason.NOT_REAPED_YOUNG] == reasons(findings)
    assert {machine.id} == scene.rack.running


async def test_a_backend_that_may_be_behind_for_longer_than_the_window_has_that_time(scene: Scene) -> None:
    scene.rack.window_ms = 2 * WINDOW_MS
    await scene.stray()
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_YOUNG] == reasons(findings)


@pytest.mark.parametrize("jump_ms", [5 * HOUR_MS, -5 * HOUR_MS])
async def test_a_jump_of_the_wall_clock_makes_no_stray_old_and_none_young(scene: Scene, jump_ms: int) -> None:
    await scene.stray()
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    scene.clock.jump_utc(jump_ms)
    early = await reconciler.sweep(act=True)
    await scene.clock.advance(WINDOW_MS + 1)
    late = await reconciler.sweep(act=True)

    assert [Reason.NOT_REAPED_YOUNG] == reasons(early)
    assert [Reason.REAPED] == reasons(late)


async def test_a_restart_makes_no_stray_old(scene: Scene) -> None:
    await scene.stray()
    await scene.boot().sweep(act=True)
    await scene.clock.advance(10 * WINDOW_MS)
    findings = await scene.boot().sweep(act=True)

    assert [Reason.NOT_REAPED_YOUNG] == reasons(findings)


async def test_a_machine_of_another_bridge_is_left(scene: Scene) -> None:
    other = Identity.from_root_seed(b"\2" * 32, scene.market.domain)
    machine = await scene.stray(identity=other)
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_MAC] == reasons(findings)
    assert {machine.id} == scene.rack.running


async def test_of_two_bridges_in_one_account_each_reaps_its_own(scene: Scene) -> None:
    other = Identity.from_root_seed(b"\2" * 32, scene.market.domain)
    ours = await scene.stray()
    theirs = await scene.stray(identity=other)
    mine, yours = scene.boot(), scene.boot(identity=other)
    await mine.sweep(act=True)
    await yours.sweep(act=True)
    await scene.clock.advance(WINDOW_MS + 1)
    await mine.sweep(act=True)
    after_ours = scene.rack.running
    await yours.sweep(act=True)

    assert {theirs.id} == after_ours
    assert set() == scene.rack.running
    assert ours.id != theirs.id


async def test_a_mac_copied_to_a_machine_of_another_token_proves_nothing(scene: Scene) -> None:
    original = await scene.stray()
    scene.rack.hidden.add(original.id)
    copy = evolve(original, id=InstanceId("copy"), token=Token(b"x" * 32))
    scene.rack.tells = lambda: (copy,)
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_MAC] == reasons(findings)


async def test_a_stray_whose_grant_the_market_shows_open_is_left(scene: Scene) -> None:
    machine = await scene.stray(settled=False)
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_GRANT_OPEN] == reasons(findings)
    assert {machine.id} == scene.rack.running


async def test_an_earlier_attempt_of_an_open_lease_is_left_until_the_market_has_settled(scene: Scene) -> None:
    grant = await scene.grant()
    token = await scene.intend(grant)
    await scene.journal.record(draft(grant.value.id, AttemptFailed(token, Reason.NO_CAPACITY, "none")))
    await scene.intend(grant, attempt=1)
    await scene.machine(grant)
    reconciler = scene.boot()
    open_ = await look_beyond_the_window(scene, reconciler)
    await scene.settle(grant)
    settled = await reconciler.sweep(act=True)

    assert [Reason.NOT_REAPED_GRANT_OPEN] == reasons(open_)
    assert [Reason.REAPED] == reasons(settled)


async def test_nothing_is_reaped_before_the_market_s_first_tick(tmp_path: Path) -> None:
    async with open_scene(tmp_path, ticked=False) as scene:
        machine = await scene.stray()
        findings = await look_beyond_the_window(scene, scene.boot())

        assert [Reason.NOT_REAPED_MARKET_SILENT] == reasons(findings)
        assert {machine.id} == scene.rack.running


async def test_nothing_is_reaped_while_the_market_is_silent(scene: Scene) -> None:
    await scene.stray()
    scene.network.is_deaf = True
    reconciler = scene.boot()
    silent = await look_beyond_the_window(scene, reconciler)
    scene.network.is_deaf = False
    heard = await reconciler.sweep(act=True)

    assert [Reason.NOT_REAPED_MARKET_SILENT] == reasons(silent)
    assert [Reason.REAPED] == reasons(heard)


async def test_a_market_that_was_silent_is_asked_once_a_sweep(scene: Scene) -> None:
    for _ in range(3):
        await scene.stray()
    scene.network.is_deaf = True
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_MARKET_SILENT] * 3 == reasons(findings)
    assert 1 == scene.network.asked


async def test_a_machine_for_a_grant_that_nobody_awarded_is_reaped(scene: Scene) -> None:
    grant = await scene.grant(journalled=False, published=False)
    await scene.machine(grant)
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.REAPED] == reasons(findings)


async def test_a_grant_that_the_journal_does_not_know_is_looked_for_in_the_market(scene: Scene) -> None:
    grant = await scene.grant(journalled=False)
    await scene.machine(grant)
    reconciler = scene.boot()
    open_ = await look_beyond_the_window(scene, reconciler)
    await scene.settle(grant)
    settled = await reconciler.sweep(act=True)

    assert [Reason.NOT_REAPED_GRANT_OPEN] == reasons(open_)
    assert [Reason.REAPED] == reasons(settled)
    assert ["reap-intended", "reaped"] == await scene.kinds(b"")


async def test_one_sweep_ends_so_many_and_the_next_one_the_rest(scene: Scene) -> None:
    grant = await scene.grant()
    await scene.settle(grant)
    for attempt in range(40):
        await scene.machine(grant, attempt=attempt)
    reconciler = scene.boot()
    first = reasons(await look_beyond_the_window(scene, reconciler))
    second = reasons(await reconciler.sweep(act=True))

    assert (32, 8) == (first.count(Reason.REAPED), first.count(Reason.REAPABLE))
    assert [Reason.REAPED] * 8 == second


async def test_a_bridge_whose_epoch_is_not_raised_shows_the_plan_and_refuses_to_act(scene: Scene) -> None:
    reconciler = scene.boot()
    planned = await answer_sweep(reconciler, act=False, is_serving=False)

    assert not planned["acted"]
    with pytest.raises(NotServingError, match="has not raised its epoch"):
        await answer_sweep(reconciler, act=True, is_serving=False)


async def test_a_plan_touches_nothing(scene: Scene) -> None:
    machine = await scene.stray()
    findings = await look_beyond_the_window(scene, scene.boot(), act=False)

    assert [Reason.REAPABLE] == reasons(findings)
    assert {machine.id} == scene.rack.running
    assert ["granted"] == await scene.kinds(plan_grant(findings))


def plan_grant(findings: Any) -> bytes:
    return bytes.fromhex(plan(findings)["strays"][0]["grant"])


async def test_a_machine_made_while_the_backends_are_listed_is_no_stray(scene: Scene) -> None:
    grant = await scene.grant()

    async def make() -> None:
        await scene.intend(grant)
        await scene.machine(grant)

    scene.rack.on_list = make
    findings = await scene.boot().sweep(act=True)

    assert () == findings.strays
    assert 1 == len(findings.adopted)


async def test_a_bridge_sweeps_in_every_period(scene: Scene) -> None:
    machine = await scene.stray()
    reconciler = scene.boot()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reconciler.run)
        with anyio.fail_after(60):
            while machine.id in scene.rack.running:
                await scene.clock.advance(60_000)
        tasks.cancel_scope.cancel()

    assert 2 <= scene.rack.listings <= scene.clock.monotonic_ms() // 60_000


async def test_while_the_journal_cannot_be_read_nothing_is_touched_and_sweeps_go_on(
    scene: Scene, tmp_path: Path
) -> None:
    machine = await scene.stray()
    async with open_sqlite_journal(tmp_path / "closed", scene.clock, create=True) as journal:
        pass
    reconciler = evolve(scene, journal=journal).boot()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reconciler.run)
        with anyio.fail_after(60):
            while scene.rack.listings < 3:
                await scene.clock.advance(WINDOW_MS)
        tasks.cancel_scope.cancel()

    assert {machine.id} == scene.rack.running


async def test_a_backend_is_listed_once_a_sweep_however_many_leases_it_has(scene: Scene) -> None:
    for _ in range(3):
        await scene.lease()
    await scene.boot().sweep(act=True)

    assert (1, 1) == (scene.rack.listings, scene.cloud.listings)


# --- how it is reaped -----------------------------------------------------------------------------


async def test_the_intent_is_in_the_journal_before_the_backend_is_called(scene: Scene) -> None:
    machine = await scene.stray()
    seen: list[list[str]] = []

    async def note(_instance: InstanceId) -> None:
        seen.append([event.kind for event in await scene.journal.events(kind="reap-intended")])

    scene.rack.on_terminate = note
    await look_beyond_the_window(scene, scene.boot())
    [intent] = [read_body(event) for event in await scene.journal.events(kind="reap-intended")]

    assert [["reap-intended"]] == seen
    assert isinstance(intent, ReapIntended)
    assert (machine.token, RACK, machine.id) == (intent.token, intent.backend, intent.instance)


async def killed_as_it_terminates(scene: Scene, effect: Callable[[], object] = lambda: None) -> None:
    """Let a bridge die within its call of terminate, once that has had its ``effect``."""
    reached = anyio.Event()

    async def hang(_instance: InstanceId) -> None:
        effect()
        reached.set()
        await anyio.sleep_forever()

    scene.rack.on_terminate = hang
    first = scene.boot()
    await first.sweep(act=True)
    await scene.clock.advance(WINDOW_MS + 1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: first.sweep(act=True))
        await reached.wait()
        tasks.cancel_scope.cancel()
    scene.rack.on_terminate = None


async def test_a_bridge_killed_between_intent_and_end_finishes_at_its_next_start(scene: Scene) -> None:
    machine = await scene.stray()
    await killed_as_it_terminates(scene)
    before = scene.rack.running
    findings = await look_beyond_the_window(scene, scene.boot())

    assert {machine.id} == before
    assert [Reason.REAPED] == reasons(findings)
    assert ["granted", "reap-intended", "reaped"] == await scene.kinds(plan_grant(findings))


async def test_a_bridge_killed_between_end_and_reaped_writes_it_down_at_its_next_start(scene: Scene) -> None:
    machine = await scene.stray()
    await killed_as_it_terminates(scene, lambda: scene.rack.account.end(machine.id, "deleted"))
    [intent] = await scene.journal.events(kind="reap-intended")
    again = scene.boot()
    await again.sweep(act=False)
    planned = await scene.kinds(intent.lease)
    await again.sweep(act=True)
    await scene.boot().sweep(act=True)

    assert ["granted", "reap-intended"] == planned
    assert ["granted", "reap-intended", "reaped"] == await scene.kinds(intent.lease)
    assert 1 == again.reaped


@pytest.mark.parametrize("error", [NotYetTerminatedError, UnavailableError])
async def test_what_is_not_gone_yet_is_gone_on_with_by_the_next_sweep(scene: Scene, error: type[Exception]) -> None:
    await scene.stray()

    async def refuse(_instance: InstanceId) -> None:
        raise error("still going")

    scene.rack.on_terminate = refuse
    reconciler = scene.boot()
    first = await look_beyond_the_window(scene, reconciler)
    scene.rack.on_terminate = None
    second = await reconciler.sweep(act=True)

    assert [Reason.REAP_UNFINISHED] == reasons(first)
    assert [Reason.REAPED] == reasons(second)
    assert ["granted", "reap-intended", "reaped"] == await scene.kinds(plan_grant(second))


async def test_what_went_without_an_answer_is_written_down_as_reaped(scene: Scene) -> None:
    machine = await scene.stray()

    async def cut(_instance: InstanceId) -> None:
        scene.rack.account.end(machine.id, "deleted")
        raise UnavailableError("connection reset")

    scene.rack.on_terminate = cut
    reconciler = scene.boot()
    unfinished = await look_beyond_the_window(scene, reconciler)
    await reconciler.sweep(act=True)

    assert ["granted", "reap-intended", "reaped"] == await scene.kinds(plan_grant(unfinished))
    assert 1 == reconciler.reaped


# --- what stands of a machine that does not run ----------------------------------------------------


async def test_what_stands_of_a_machine_that_was_powered_off_is_reaped_as_a_stray(scene: Scene) -> None:
    machine = await scene.stray()
    scene.rack.account.end(machine.id, "off")
    reconciler = scene.boot()
    shown = plan(await reconciler.sweep(act=True))["strays"]
    await scene.clock.advance(WINDOW_MS + 1)
    findings = await reconciler.sweep(act=True)

    assert [("was powered off by its guest", "not-reaped-young")] == [(one["remains"], one["reason"]) for one in shown]
    assert [Reason.REAPED] == reasons(findings)
    assert set() == scene.rack.running
    assert ["granted", "reap-intended", "reaped"] == await scene.kinds(plan_grant(findings))


async def test_what_stands_is_judged_by_the_same_rule(scene: Scene) -> None:
    other = Identity.from_root_seed(b"\2" * 32, scene.market.domain)
    left = [await scene.stray(identity=other), await scene.stray(settled=False)]
    for machine in left:
        scene.rack.account.end(machine.id, "off")
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_MAC, Reason.NOT_REAPED_GRANT_OPEN] == reasons(findings)
    assert {machine.id for machine in left} == scene.rack.running


async def test_what_stands_of_an_open_lease_s_machine_is_left_to_the_lease(scene: Scene) -> None:
    grant, machine = await scene.lease()
    await scene.settle(grant)
    scene.rack.account.end(machine.id, "off")
    findings = await look_beyond_the_window(scene, scene.boot())

    assert () == findings.strays
    assert {machine.id} == scene.rack.running


async def test_a_stray_that_only_stopped_is_not_written_down_as_reaped(scene: Scene) -> None:
    machine = await scene.stray()

    async def stop(_instance: InstanceId) -> None:
        scene.rack.account.end(machine.id, "off")
        raise NotYetTerminatedError("still going")

    scene.rack.on_terminate = stop
    reconciler = scene.boot()
    grant = plan_grant(await look_beyond_the_window(scene, reconciler))
    await reconciler.sweep(act=True)
    stopped = await scene.kinds(grant)
    scene.rack.on_terminate = None
    await reconciler.sweep(act=True)

    assert ["granted", "reap-intended"] == stopped
    assert ["granted", "reap-intended", "reaped"] == await scene.kinds(grant)
    assert set() == scene.rack.running


def silent() -> Any:
    raise UnavailableError("half an answer")


async def test_a_backend_that_does_not_tell_what_remains_tells_what_runs(scene: Scene) -> None:
    stray = await scene.stray()
    grant, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")
    scene.rack.remains = silent
    findings = await look_beyond_the_window(scene, scene.boot())

    assert (RACK,) == findings.silent
    assert [(stray.id, Reason.REAP_UNFINISHED)] == [(one.machine.id, one.reason) for one in findings.strays]
    assert [grant.value.id] == scene.lost
    assert set() == scene.rack.running


async def test_a_stray_that_ended_is_written_down_once_what_remains_is_told_again(scene: Scene) -> None:
    await scene.stray()
    scene.rack.remains = silent
    reconciler = scene.boot()
    grant = plan_grant(await look_beyond_the_window(scene, reconciler))
    await reconciler.sweep(act=True)
    before = await scene.kinds(grant)
    scene.rack.remains = None
    await reconciler.sweep(act=True)

    assert ["granted", "reap-intended"] == before
    assert ["granted", "reap-intended", "reaped"] == await scene.kinds(grant)


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "raises what no port names"])
async def test_no_backend_can_hold_a_sweep_up_by_what_remains(scene: Scene, hangs: bool) -> None:
    machine = await scene.stray()

    async def broken() -> tuple[Remains, ...]:
        if hangs:
            await anyio.sleep_forever()
        raise RuntimeError("bug")

    scene.rack.list_remains = broken  # type: ignore[method-assign]
    findings = await scene.boot(answer_s=0.05).sweep(act=False)

    assert [Reason.UNAVAILABLE if hangs else Reason.BACKEND_FAULT] == [one.reason for one in findings.silences]
    assert [machine] == [one.machine for one in findings.strays]


async def test_after_the_first_silence_no_more_is_asked_of_what_was_ended(scene: Scene) -> None:
    for _ in range(3):
        await scene.stray()
    scene.rack.remains = silent
    reconciler = scene.boot()
    await look_beyond_the_window(scene, reconciler)
    asked: list[Token] = []

    async def deaf(token: Token) -> Any:
        asked.append(token)
        raise UnavailableError("down")

    scene.rack.on_find = deaf
    await reconciler.sweep(act=True)

    assert 1 == len(asked)


async def test_a_backend_is_not_taken_at_its_word_that_a_stray_is_gone(scene: Scene) -> None:
    machine = await scene.stray()
    scene.rack.account.end(machine.id, "off")
    scene.rack.lies = True
    reconciler = scene.boot()
    findings = [await look_beyond_the_window(scene, reconciler) for _ in range(3)][-1]

    assert [Reason.REAP_UNFINISHED] == reasons(findings)
    assert ["granted", "reap-intended"] == await scene.kinds(plan_grant(findings))


async def test_remains_that_cannot_be_ended_shield_no_others_of_their_token(scene: Scene) -> None:
    machine = await scene.stray()
    scene.rack.account.end(machine.id, "off")
    [one] = await scene.rack.list_remains()
    other = evolve(one, id=InstanceId("m-99"))
    scene.rack.remains = lambda: (other, *([one] if machine.id in scene.rack.running else []))
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [(other.id, Reason.REAP_UNFINISHED), (one.id, Reason.REAPED)] == [
        (stray.machine.id, stray.reason) for stray in findings.strays
    ]


async def test_what_remains_is_asked_for_after_what_runs(scene: Scene) -> None:
    machine = await scene.stray()

    async def end() -> None:
        scene.rack.account.end(machine.id, "off")

    scene.rack.on_list = end
    [stray] = (await scene.boot().sweep(act=False)).strays

    assert machine.id == stray.machine.id


async def test_the_watch_has_the_first_word_on_a_machine_that_stands_and_has_ended(scene: Scene) -> None:
    grant, machine = await scene.lease()
    scene.rack.account.end(machine.id, "off")
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.clock.advance(ENDING_MS)
    findings = await reconciler.sweep(act=True)
    before = list(scene.lost)
    await scene.clock.advance(1)
    await reconciler.sweep(act=True)

    assert ["it has ended and still stands"] == [one.detail for one in findings.missing]
    assert ([], [grant.value.id]) == (before, scene.lost)


async def test_what_remains_of_a_twin_is_told(scene: Scene) -> None:
    grant, machine = await scene.lease()
    scene.rack.remains = lambda: (Remains(InstanceId("m-99"), machine.token, machine.ownership, "stopped"),)
    [twins] = (await scene.boot().sweep(act=True)).twins

    assert (grant.value.id, (machine.id, "m-99")) == (twins.grant, twins.instances)


@pytest.mark.parametrize("told", [None, [], (None,), ("i-1",)])
async def test_what_is_no_tuple_of_remains_is_used_for_nothing(scene: Scene, told: Any) -> None:
    scene.rack.remains = lambda: told
    [silence] = (await scene.boot().sweep(act=True)).silences

    assert Reason.PLUGIN_RESULT is silence.reason
    assert "list_remains" in silence.detail


async def test_what_ends_between_the_two_questions_is_one_stray(scene: Scene) -> None:
    machine = await scene.stray()
    scene.rack.remains = lambda: (Remains(machine.id, machine.token, machine.ownership, "ended just now"),)
    [stray] = (await scene.boot().sweep(act=False)).strays

    assert machine == stray.machine


# --- reaped beyond doubt only ----------------------------------------------------------------------


async def test_a_machine_whose_tags_are_others_when_it_is_asked_for_again_is_left(scene: Scene) -> None:
    machine = await scene.stray()

    async def retagged(_token: Token) -> Instance:
        return evolve(machine, ownership=evolve(machine.ownership, grant_hash=bytes(32)))

    scene.rack.on_find = retagged
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_UNCONFIRMED] == reasons(findings)
    assert {machine.id} == scene.rack.running


async def test_a_machine_that_the_backend_shows_no_more_under_its_token_is_left(scene: Scene) -> None:
    machine = await scene.stray()
    other = await scene.stray()

    async def other_one(_token: Token) -> Instance:
        return evolve(other, token=machine.token)

    scene.rack.on_find = other_one
    scene.rack.hidden.add(other.id)
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_UNCONFIRMED] == reasons(findings)
    assert {machine.id, other.id} == scene.rack.running


async def test_without_room_for_the_intent_nothing_is_reaped(tmp_path: Path) -> None:
    async with open_scene(tmp_path, max_bytes=200_000) as scene:
        machine = await scene.stray()
        await fill(scene.journal)
        findings = await look_beyond_the_window(scene, scene.boot())

        assert [Reason.NOT_REAPED_JOURNAL] == reasons(findings)
        assert {machine.id} == scene.rack.running


async def fill(journal: Any) -> None:
    for size in (4000, 100, 0):
        try:
            while True:
                await journal.record(EventDraft("filler", body=bytes(size)))
        except JournalUnwritableError:
            continue


async def test_a_settled_lease_with_a_reap_is_read_and_told_as_before(scene: Scene) -> None:
    await scene.stray()
    findings = await look_beyond_the_window(scene, scene.boot())
    grant = GrantId(plan_grant(findings))
    facts = await read_facts(scene.journal, grant)
    key = scene.market.config.signing_key
    [story] = await explain(scene.journal, grant.hex()[:12], domain=scene.market.domain, module_key=key)

    assert LeaseState.GRANTED is facts.state
    assert ["won", "reapable", "reaped"] == [line.reason for line in story.lines]


async def test_a_reap_that_belongs_to_no_lease_is_told_by_its_token(scene: Scene) -> None:
    grant = await scene.grant(journalled=False, published=False)
    machine = await scene.machine(grant)
    await look_beyond_the_window(scene, scene.boot())
    key = scene.market.config.signing_key
    [story] = await explain(scene.journal, machine.token.hex()[:12], domain=scene.market.domain, module_key=key)

    assert (machine.id, "", "reaped") == (story.instance, story.grant_id, story.state)
    assert ["reapable", "reaped"] == [line.reason for line in story.lines]


# --- backends that are silent, or lie ---------------------------------------------------------------


async def test_a_silent_backend_leaves_its_machines_and_the_others_go_on(scene: Scene) -> None:
    machine = await scene.stray()
    await scene.stray(on=scene.cloud)
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.clock.advance(WINDOW_MS + 1)
    scene.rack.silence()
    findings = await reconciler.sweep(act=True)

    assert (RACK,) == findings.silent
    assert [Reason.REAPED] == reasons(findings)
    assert ({machine.id}, set()) == (scene.rack.running, scene.cloud.running)


async def test_a_stray_grows_old_while_its_backend_is_silent(scene: Scene) -> None:
    await scene.stray()
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    scene.rack.silence()
    await scene.clock.advance(WINDOW_MS + 1)
    await reconciler.sweep(act=True)
    orphan_ms = reconciler.gauges()[0].oldest_orphan_ms
    scene.rack.silence(on=False)
    findings = await reconciler.sweep(act=True)

    assert WINDOW_MS + 1 == orphan_ms
    assert [Reason.REAPED] == reasons(findings)


async def test_a_backend_that_never_answers_holds_nobody_up(scene: Scene) -> None:
    await scene.stray(on=scene.cloud)
    scene.rack.on_list = anyio.sleep_forever
    findings = await look_beyond_the_window(scene, scene.boot(answer_s=0.05))

    assert (RACK,) == findings.silent
    assert [Reason.REAPED] == reasons(findings)


def no_such_thing() -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (lambda: None, Reason.PLUGIN_RESULT),
        (lambda: "machines", Reason.PLUGIN_RESULT),
        (lambda: [], Reason.PLUGIN_RESULT),
        (lambda: (1, 2), Reason.PLUGIN_RESULT),
        (lambda: (Instance.__new__(Instance),), Reason.PLUGIN_RESULT),
        (no_such_thing, Reason.BACKEND_FAULT),
    ],
)
async def test_of_a_backend_that_tells_nonsense_nothing_is_believed(scene: Scene, told: Any, reason: Reason) -> None:
    machine = await scene.stray()
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.clock.advance(WINDOW_MS + 1)
    scene.rack.tells = told
    findings = await reconciler.sweep(act=True)

    assert [(RACK, reason)] == [(one.backend, one.reason) for one in findings.silences]
    assert {machine.id} == scene.rack.running


async def test_of_a_listing_longer_than_any_account_nothing_is_believed(scene: Scene) -> None:
    machine = await scene.stray()
    told = tuple(evolve(machine, id=InstanceId(f"m-{number}")) for number in range(MAX_MACHINES + 1))
    scene.rack.tells = lambda: told
    findings = await scene.boot().sweep(act=True)

    assert (RACK,) == findings.silent


async def test_a_sweep_over_thousands_of_strays_is_told_in_a_few_lines(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    machine = await scene.stray()
    told = tuple(evolve(machine, id=InstanceId(f"m-{number}")) for number in range(5000))
    scene.rack.tells = lambda: told
    findings = await look_beyond_the_window(scene, scene.boot())

    assert {Reason.NOT_REAPED_UNCONFIRMED, Reason.REAPABLE, Reason.REAPED} >= set(reasons(findings))
    assert len(caplog.records) < 150


async def test_of_a_listing_with_one_id_twice_nothing_is_believed(scene: Scene) -> None:
    machine, other = await scene.stray(), await scene.stray()
    scene.rack.tells = lambda: (machine, evolve(other, id=machine.id))
    findings = await look_beyond_the_window(scene, scene.boot())

    assert (RACK,) == findings.silent
    assert {machine.id, other.id} == scene.rack.running


@pytest.mark.parametrize("field", ["id", "token", "ownership"])
async def test_of_a_listing_with_an_instance_that_no_constructor_made_nothing_is_believed(
    scene: Scene, field: str
) -> None:
    machine = await scene.stray()
    broken = evolve(machine)
    object.__setattr__(broken, field, machine)
    scene.rack.tells = lambda: (broken,)
    findings = await scene.boot().sweep(act=True)

    assert [(RACK, Reason.PLUGIN_RESULT)] == [(one.backend, one.reason) for one in findings.silences]


async def test_a_find_that_tells_half_an_instance_ends_nothing(scene: Scene) -> None:
    machine = await scene.stray()

    async def half(_token: Token) -> Any:
        return Instance.__new__(Instance)

    scene.rack.on_find = half
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_UNCONFIRMED] == reasons(findings)
    assert {machine.id} == scene.rack.running


@pytest.mark.parametrize("window", [-1, None, True, 1.5])
async def test_a_backend_with_an_impossible_window_is_not_believed(scene: Scene, window: Any) -> None:
    scene.rack.window_ms = window
    findings = await scene.boot().sweep(act=True)

    assert (RACK,) == findings.silent


async def test_the_id_of_a_leased_machine_under_a_stray_s_token_is_left(scene: Scene) -> None:
    _, leased = await scene.lease()
    stray = await scene.stray()
    lie = evolve(stray, id=leased.id)

    async def found(_token: Token) -> Instance:
        return lie

    scene.rack.tells = lambda: (lie,)
    scene.rack.on_find = found
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.NOT_REAPED_IN_USE] == reasons(findings)
    assert {leased.id, stray.id} == scene.rack.running


async def test_two_machines_under_one_lease_s_token_are_an_incident_and_nobody_ends(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    grant, machine = await scene.lease()
    twin = evolve(machine, id=InstanceId("twin"))
    scene.rack.tells = lambda: (machine, twin)
    with caplog.at_level(logging.ERROR):
        findings = await look_beyond_the_window(scene, scene.boot())

    assert [(grant.value.id, (machine.id, "twin"))] == [(one.grant, one.instances) for one in findings.twins]
    assert () == findings.strays
    assert "incident" in caplog.text
    assert {machine.id} == scene.rack.running


async def test_a_bridge_without_the_backend_of_an_open_lease_does_not_start(scene: Scene) -> None:
    await scene.lease()

    with pytest.raises(BootError, match="backend 'rack', which the boot file does not name"):
        await scene.boot(backends=[scene.cloud]).sweep(act=False)


async def test_a_bridge_whose_table_no_longer_reaches_an_open_lease_does_not_start(scene: Scene) -> None:
    await scene.lease()
    scene.rack.is_reached = False

    with pytest.raises(BootError, match="which its table in the boot file no longer reaches; put back what it names"):
        await scene.boot().sweep(act=False)


# --- a lease that has no machine --------------------------------------------------------------------


async def test_a_machine_that_is_missing_once_is_not_lost(scene: Scene) -> None:
    _, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")
    findings = await scene.boot().sweep(act=True)

    assert [Reason.MISSING] == [one.reason for one in findings.missing]
    assert [] == scene.lost


async def test_a_machine_that_is_missing_twice_ends_its_lease(scene: Scene) -> None:
    grant, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.clock.advance(1)
    findings = await reconciler.sweep(act=True)

    assert [Reason.LOST] == [one.reason for one in findings.missing]
    assert [grant.value.id] == scene.lost


async def test_a_plan_ends_no_lease(scene: Scene) -> None:
    _, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")
    reconciler = scene.boot()
    await reconciler.sweep(act=False)
    await scene.clock.advance(1)
    findings = await reconciler.sweep(act=False)

    assert ["end"] == [one["action"] for one in plan(findings)["missing"]]
    assert [] == scene.lost


async def test_a_machine_is_not_lost_within_the_backend_s_window(scene: Scene) -> None:
    _, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")
    scene.rack.window_ms = 30_000
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.clock.advance(30_000)
    within = await reconciler.sweep(act=True)
    before = list(scene.lost)
    await scene.clock.advance(1)
    beyond = await reconciler.sweep(act=True)

    assert [Reason.MISSING] == [one.reason for one in within.missing]
    assert [] == before
    assert [Reason.LOST] == [one.reason for one in beyond.missing]


async def test_a_listing_that_shows_the_machine_forgets_that_it_was_missing(scene: Scene) -> None:
    async def nothing(_token: Token) -> None:
        return None

    _, machine = await scene.lease()
    scene.rack.on_find = nothing
    reconciler = scene.boot()
    for is_hidden in (True, False, True):
        scene.rack.hidden = {machine.id} if is_hidden else set()
        findings = await reconciler.sweep(act=True)
        await scene.clock.advance(1)

    assert [Reason.MISSING] == [one.reason for one in findings.missing]
    assert [] == scene.lost


async def test_a_machine_that_find_shows_is_not_lost(scene: Scene) -> None:
    _, machine = await scene.lease()
    scene.rack.hidden = {machine.id}
    reconciler = scene.boot()
    for _ in range(4):
        await reconciler.sweep(act=True)
        await scene.clock.advance(60_000)

    assert [] == scene.lost


async def test_a_find_without_an_answer_loses_nothing(scene: Scene) -> None:
    _, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")

    async def silent(_token: Token) -> Any:
        raise UnavailableError("no answer")

    scene.rack.on_find = silent
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.MISSING] == [one.reason for one in findings.missing]
    assert [] == scene.lost


async def test_a_backend_that_does_not_find_is_asked_once_a_sweep(scene: Scene) -> None:
    asked = []

    async def silent(token: Token) -> Any:
        asked.append(token)
        raise UnavailableError("no answer")

    for _ in range(3):
        _, machine = await scene.lease()
        scene.rack.account.end(machine.id, "crashed")
    scene.rack.on_find = silent
    findings = await look_beyond_the_window(scene, scene.boot())

    assert [Reason.MISSING] * 3 == [one.reason for one in findings.missing]
    assert 1 == len(asked)


async def test_a_lease_whose_machine_is_gone_is_told_once(scene: Scene) -> None:
    grant, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")
    reconciler = scene.boot()
    for _ in range(4):
        await reconciler.sweep(act=True)
        await scene.clock.advance(60_000)

    assert [grant.value.id] == scene.lost
    assert 1 == reconciler.lost


async def test_a_silent_backend_loses_no_lease(scene: Scene) -> None:
    _, machine = await scene.lease()
    scene.rack.account.end(machine.id, "crashed")
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    scene.rack.silence()
    for _ in range(3):
        await scene.clock.advance(HOUR_MS)
        await reconciler.sweep(act=True)

    assert [] == scene.lost


async def test_a_machine_that_is_still_being_made_is_not_missing(scene: Scene) -> None:
    grant = await scene.grant()
    await scene.intend(grant)
    findings = await look_beyond_the_window(scene, scene.boot())

    assert () == findings.missing
    assert [] == scene.lost


# --- what status shows ------------------------------------------------------------------------------


async def test_the_gauges_tell_the_age_of_the_oldest_orphan(scene: Scene) -> None:
    await scene.stray(settled=False)
    reconciler = scene.boot()
    await reconciler.sweep(act=True)
    await scene.clock.advance(HOUR_MS)
    await scene.stray(settled=False)
    await reconciler.sweep(act=True)
    await scene.clock.advance(5000)
    shown = gauges(reconciler)

    assert (5000, 0, 0) == (shown["age_ms"], shown["reaped"], shown["lost"])
    assert (2, HOUR_MS + 5000) == (shown["backends"]["rack"]["strays"], shown["backends"]["rack"]["oldest_orphan_ms"])
    assert 0 == shown["backends"]["cloud"]["strays"]


async def test_the_gauges_tell_for_how_long_a_backend_is_silent(scene: Scene) -> None:
    reconciler = scene.boot()
    scene.rack.silence()
    await reconciler.sweep(act=True)
    await scene.clock.advance(HOUR_MS)
    await reconciler.sweep(act=True)
    silent = reconciler.gauges()[0]
    scene.rack.silence(on=False)
    await reconciler.sweep(act=True)

    assert (HOUR_MS, "unavailable") == (silent.silent_ms, silent.silence)
    assert (0, "") == (reconciler.gauges()[0].silent_ms, reconciler.gauges()[0].silence)


async def test_before_the_first_sweep_there_is_nothing_to_tell(scene: Scene) -> None:
    shown = gauges(scene.boot())

    assert -1 == shown["age_ms"]
    assert {"rack", "cloud"} == set(shown["backends"])
