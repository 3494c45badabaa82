"""A bridge killed before and after each of its writes, and started again: the lease comes out the same."""

from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from attrs import define, evolve, field

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.host.log_checks import find_log
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.clock import poll
from compute_bridge.ports.journal import Journal
from compute_bridge.testing.memory_cloud import MemoryCloud
from compute_bridge_market.book import open_book
from compute_bridge_market.ledger import trial_balance

pytestmark = pytest.mark.anyio

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)

POINTS = (
    "record cost-accepted",
    "put epochs",
    "append card-submissions",
    "record granted",
    "cursor grant-stream",
    "record opened",
    "record provision-intended",
    "provision",
    "record routed",
    "record delivered",
    "append shuffle/replies",
    "record released",
    "cursor control-verdicts",
    "record ending",
    "terminate",
    "record ended",
    "record logged",
    "append logs",
    "append claims",
    "cursor settlements",
    "record settled",
)
"""Every write of a bridge that serves one lease."""


@define
class Fuse:
    """Stops whoever comes to ``point`` for the first time, before or after the write, until the bridge is killed."""

    point: str
    is_after: bool
    met: list[str] = field(factory=list)
    blown: anyio.Event = field(factory=anyio.Event)

    async def around(self, point, write):
        is_here = point == self.point and not self.blown.is_set() and point not in self.met
        self.met.append(point)
        if is_here and not self.is_after:
            await self._blow()
        result = await write()
        if is_here:
            await self._blow()
        return result

    async def _blow(self) -> None:
        self.blown.set()
        await anyio.sleep_forever()


class FusedNetwork(MemoryNetwork):
    """Another client of a network in memory."""

    def __init__(self, network: MemoryNetwork, fuse: Fuse) -> None:
        super().__init__()
        vars(self).update(vars(network))
        self._fuse = fuse

    async def append(self, stream, record_id, record, *, expect_last=None):
        write = super().append
        point = "append shuffle/replies" if stream.startswith("shuffle/replies/") else f"append {stream}"
        return await self._fuse.around(point, lambda: write(stream, record_id, record, expect_last=expect_last))

    async def put(self, collection, key, value, *, expect):
        write = super().put
        return await self._fuse.around(f"put {collection}", lambda: write(collection, key, value, expect=expect))

    async def save_cursor(self, consumer, stream, sequence):
        write = super().save_cursor
        return await self._fuse.around(f"cursor {stream}", lambda: write(consumer, stream, sequence))


class FusedJournal(Journal):
    """A journal that passes everything on."""

    def __init__(self, journal: Journal, fuse: Fuse) -> None:
        self._journal = journal
        self._fuse = fuse

    async def record(self, *drafts):
        return await self._fuse.around(f"record {drafts[0].kind}", lambda: self._journal.record(*drafts))

    @property
    def health(self):
        return self._journal.health

    async def probe(self):
        return await self._journal.probe()

    async def events(self, *, after=0, lease=None, kind=None, limit=1000):
        return await self._journal.events(after=after, lease=lease, kind=kind, limit=limit)

    async def blob(self, sequence):
        return await self._journal.blob(sequence)

    async def head(self):
        return await self._journal.head()

    async def verify(self):
        await self._journal.verify()

    async def rebuild(self):
        return await self._journal.rebuild()

    async def lease_states(self, *, excluding=()):
        return await self._journal.lease_states(excluding=excluding)


class FusedBackend(Backend):
    """A backend that passes everything on."""

    def __init__(self, backend: Backend, fuse: Fuse) -> None:
        self._backend = backend
        self._fuse = fuse

    @property
    def name(self):
        return self._backend.name

    @property
    def consistency_window_ms(self):
        return self._backend.consistency_window_ms

    def capabilities(self):
        return self._backend.capabilities()

    def can_satisfy(self, needs):
        return self._backend.can_satisfy(needs)

    async def offers(self):
        return await self._backend.offers()

    async def provision(self, order):
        return await self._fuse.around("provision", lambda: self._backend.provision(order))

    async def find(self, token):
        return await self._backend.find(token)

    async def list_owned(self):
        return await self._backend.list_owned()

    async def watch_until_exit(self, instance):
        return await self._backend.watch_until_exit(instance)

    async def usage(self, instance):
        return await self._backend.usage(instance)

    async def terminate(self, instance):
        return await self._fuse.around("terminate", lambda: self._backend.terminate(instance))


@define
class FusedCloud:
    """A cloud whose backends are fused."""

    cloud: MemoryCloud
    fuse: Fuse

    @property
    def clock(self):
        return self.cloud.clock

    @asynccontextmanager
    async def open(self):
        async with self.cloud.open() as backend:
            yield FusedBackend(backend, self.fuse)


async def serve(coalition, fuse, *, is_retired=False) -> None:
    fused = evolve(coalition, network=FusedNetwork(coalition.network, fuse), cloud=FusedCloud(coalition.cloud, fuse))
    wrap = lambda parts: evolve(parts, journal=FusedJournal(parts.journal, fuse))  # noqa: E731 - one expression
    async with fused.bridge("one", meter_every_s=3600, wrap=wrap) as bridge:
        bridge.provider.retired = is_retired
        await anyio.sleep_forever()


async def serve_until_killed(coalition, fuse, **changes) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(serve, coalition, fuse, **changes))
        with anyio.fail_after(60):
            await fuse.blown.wait()
        tasks.cancel_scope.cancel()


async def use(requester, manifest, accesses) -> None:
    handle = await requester.submit(manifest, MAX_RATE, SSH_KEY, open_ms=Milliseconds(600_000))
    accesses.append(await requester.serve_until_receipt(handle))
    await requester.control(handle, ControlAction.RELEASE)


async def is_settled(bridge, network):
    states = {row.state for row in await bridge.parts.journal.lease_states()}
    return True if states == {"settled"} and await network.tail(channels.SETTLEMENTS) else None


async def is_paid(bridge, owed):
    return True if await bridge.parts.settlement.balance() == owed else None


async def books(coalition):
    async with open_book(coalition.folder / "market.db", coalition.module.domain.coalition) as book:
        return await book.run(trial_balance)


async def all_records(network, stream):
    return [entry.record for entry in await network.fetch(stream)]


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_bridge_killed_at_a_write_serves_logs_and_settles_once(open_coalition, point, is_after) -> None:
    async with open_coalition() as coalition, anyio.create_task_group() as tasks:
        accesses: list[Any] = []
        fuse, network = Fuse(point, is_after), coalition.network
        requester = coalition.requester()
        tasks.start_soon(use, requester, coalition.manifest(duration_ms=600_000), accesses)
        await serve_until_killed(coalition, fuse)
        async with coalition.bridge("one") as again:
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, lambda: is_settled(again, network))
            grant = accesses[0].grant.value
            statement = (await requester.market.statement(grant.id)).value
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, lambda: is_paid(again, statement.charge - statement.provider_fee))
            log = (await find_log(requester.market, grant)).value
        replies = await all_records(network, f"shuffle/replies/{grant.bearer_pointer.hex()}")
        balance = await books(coalition)

        assert frozenset() == await coalition.cloud.running()
        assert 1 == len(coalition.cloud.account.machines)
        assert (Outcome.SERVED, "released") == (log.outcome, log.reason)
        assert (1, 1, 1) == tuple([await network.tail(one) for one in ("logs", "settlements", "claims")])
        assert 1 == len(replies)
        assert 0 == balance.total
        assert {0} == {amount for account, amount in balance.balances if account.startswith(("held", "holds"))}
        assert 0 < statement.charge


async def test_a_grant_that_was_refused_as_the_bridge_died_is_not_served_by_the_next(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        await_grant = Fuse("record granted", is_after=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use, requester, coalition.manifest(), [])
            await serve_until_killed(coalition, await_grant, is_retired=True)
            tasks.cancel_scope.cancel()
        async with coalition.bridge("one") as again:
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, lambda: is_settled(again, coalition.network))

        assert {Reason.RETIRED: 1} == dict(again.provider.refused)
        assert 0 == len(coalition.cloud.account.machines)


async def test_the_points_are_all_the_writes_of_a_lease(open_coalition) -> None:
    async with open_coalition() as coalition, anyio.create_task_group() as tasks:
        fuse = Fuse("record settled", is_after=True)
        requester = coalition.requester()
        tasks.start_soon(use, requester, coalition.manifest(duration_ms=600_000), [])
        await serve_until_killed(coalition, fuse)

    assert set(POINTS) - {"cursor settlements"} == set(fuse.met) - {"cursor settlements"}
