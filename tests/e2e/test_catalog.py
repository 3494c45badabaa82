"""A bridge whose backend sells from a catalog: started without an answer of the cloud, renewed while it runs."""

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from attrs import asdict, define, evolve, field

from compute_bridge.adapters.catalog_file import FileCatalogStore
from compute_bridge.boot import _prepare as prepare
from compute_bridge.cli.metrics import exposition
from compute_bridge.host.bridge import Bridge
from compute_bridge.host.costs import CostBook, CostLimits
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.ledger import Ledger
from compute_bridge.host.status import status
from compute_bridge.model.boot import CatalogSettings
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import BootError, UnavailableError
from compute_bridge.testing.memory import MemoryBackend
from compute_bridge.testing.memory_account import SHAPES
from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit.coalition import SSH_KEY, Coalition, found

pytestmark = pytest.mark.anyio

KIND = "memory"
MAX_RATE = MicrosPerHour(10**9)


def stocked(backend, book):
    """The backend with the catalog power: it offers nothing but what stands in the catalog that it was handed."""

    class Stocked(MemoryBackend, SupportsCatalog):
        used: Any = None

        def __init__(self):
            self.__dict__.update(vars(backend))

        def _sells(self, offer):
            return self.used is not None and any(row.shape == offer.shape for row in self.used.rows)

        def capabilities(self):
            ours = tuple(self._offer(shape) for shape in SHAPES)
            return tuple(offer.capability for offer in ours if self._sells(offer))

        async def offers(self):
            found = [offer for offer in await super().offers() if self._sells(offer)]
            return tuple(evolve(offer, cost=self._cost(offer)) for offer in found)

        def _cost(self, offer):
            return next(row.cost for row in self.used.rows if (row.zone, row.shape) == (offer.zone, offer.shape))

        async def fetch_catalog(self):
            if book.is_away:
                raise UnavailableError("the price list does not answer")
            return catalog_of(await super().offers(), book)

        def use_catalog(self, catalog):
            self.used = catalog

    return Stocked()


def catalog_of(offers, book):
    best = {(one.region, one.zone, one.shape): one for one in offers if one.shape not in book.unpriced}
    rows = [
        CatalogRow(one.region, one.zone, one.shape, one.resources, times(one.cost, book.factor), one.posture)
        for _, one in sorted(best.items())
    ]
    return Catalog(BackendName(offers[0].backend), KIND, offers[0].cost.observed_at, tuple(rows))


def times(cost, factor):
    nanos = {name: factor * value for name, value in asdict(cost.units).items()}
    return evolve(cost, units=UnitNanos(**nanos))


@define
class Book:
    """What the price list says: which shapes have no price, how dear all are, and whether it answers."""

    is_away: bool = False
    unpriced: set[str] = field(factory=set)
    factor: int = 1


@define
class Stocked(Coalition):
    """A coalition whose bridges sell from catalogs."""

    book: Book = field(factory=Book)

    async def open_backends(self, stack):
        return [stocked(backend, self.book) for backend in await super().open_backends(stack)]


@pytest.fixture
async def coalition(tmp_path: Path) -> Stocked:
    return await found(tmp_path, MemoryCloud(), made=Stocked)


@asynccontextmanager
async def prepared(coalition, **changes):
    """A bridge that has taken the steps of its boot up to the control socket."""
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        parts = await coalition.parts(stack, "one")
        bridge = Bridge(evolve(parts, **changes))
        tasks.start_soon(bridge.parts.market.follow_almanac)
        await prepare(bridge)
        yield bridge
        tasks.cancel_scope.cancel()


def store_of(coalition):
    return FileCatalogStore(coalition.folder / "one" / "catalog")


async def fetched_once(coalition):
    """Let a first bridge fetch and store a catalog."""
    async with prepared(coalition) as bridge:
        return bridge.parts.fleet.offers()


async def test_the_first_start_fetches_stores_and_sells(coalition):
    async with coalition.market():
        offers = await fetched_once(coalition)

    assert offers
    assert await store_of(coalition).load(offers[0].backend, KIND) is not None


async def test_a_start_without_an_answer_sells_on_the_stored_catalog(coalition):
    async with coalition.market():
        before = await fetched_once(coalition)
        coalition.book.is_away = True
        async with prepared(coalition) as bridge:
            after = bridge.parts.fleet.offers()

    assert [one.id for one in before] == [one.id for one in after]


async def test_a_start_that_never_had_one_and_gets_none_goes_on_and_sells_nothing(coalition, caplog):
    coalition.book.is_away = True
    async with coalition.market(), prepared(coalition) as bridge:
        told = await status(bridge)

    assert ((), ()) == (bridge.parts.fleet.offers(), bridge.parts.fleet.capabilities())
    assert ["unavailable"] == [one["reason"] for one in told["fleet"]["catalogs"].values()]
    assert "sells nothing yet" in caplog.text


async def test_a_damaged_file_stops_the_start_with_its_name(coalition):
    async with coalition.market():
        await fetched_once(coalition)
        path = damage(coalition)
        with pytest.raises(BaseException) as caught:
            async with prepared(coalition):
                pass

    [told] = leaves(caught.value)
    assert isinstance(told, BootError)
    assert str(told).startswith(f"boot step 7 (build the fleet): catalog {path}: is damaged")
    assert b"{" == path.read_bytes()


async def test_with_open_leases_a_damaged_file_stops_nothing_and_is_not_fetched_over(coalition, caplog):
    async with coalition.market():
        await leased(coalition)
        path = damage(coalition)
        async with prepared(coalition) as bridge:
            offers = bridge.parts.fleet.offers()

    assert () == offers
    assert b"{" == path.read_bytes()
    assert "open leases are served" in caplog.text


async def test_with_open_leases_no_start_waits_for_a_fetch(coalition):
    async with coalition.market():
        await leased(coalition)
        [path] = (coalition.folder / "one" / "catalog").iterdir()
        path.unlink()
        async with prepared(coalition):
            is_fetched = path.exists()
        async with serving(coalition) as bridge:
            await poll(bridge.parts.clock, 10, lambda: sells(bridge))

    assert not is_fetched
    assert path.exists()


async def test_a_new_catalog_is_offered_and_on_the_card_at_once(coalition):
    coalition.book.unpriced = {shape.name for shape in SHAPES[1:]}
    async with coalition.market(), serving(coalition, refresh_s=60) as bridge:
        await poll(bridge.parts.clock, 10, lambda: sells(bridge))
        before, few = bridge.publisher.card.value.version, len(bridge.parts.fleet.capabilities())
        coalition.book.unpriced = set()
        await poll(bridge.parts.clock, 10, lambda: has_more(bridge, few))
        await poll(bridge.parts.clock, 10, lambda: is_above(bridge, before))
        card = bridge.publisher.card.value

    assert card.capabilities == bridge.parts.fleet.capabilities()


async def test_a_price_that_jumps_in_a_new_catalog_waits_where_costs_are_judged(coalition):
    clock = coalition.bridge_clock
    async with AsyncExitStack() as stack:
        [backend] = await coalition.open_backends(stack)
        costs = CostBook(clock, CostLimits(settle_ms=2000), Ledger())
        fleet = Fleet([backend], clock, currency="EUR", costs=costs)
        told = []
        for factor, pause_ms in ((1, 0), (10, 0), (10, 2000)):
            coalition.book.factor = factor
            backend.use_catalog(await backend.fetch_catalog())
            await clock.sleep_ms(pause_ms)
            await fleet.refresh()
            told.append((bool(fleet.offers()), {one.reason for one in costs.quarantined}))

    assert [(True, set()), (False, {Reason.COST_JUMP}), (True, set())] == told


async def test_status_and_metrics_say_how_old_the_catalog_is(coalition):
    async with coalition.market(), prepared(coalition) as bridge:
        told = await status(bridge)
    [(name, one)] = told["fleet"]["catalogs"].items()
    figures = await anyio.to_thread.run_sync(exposition, told)

    assert one["age_ms"] >= 0
    assert f'compute_bridge_catalog_age_seconds{{backend="{name}"}}' in figures
    assert f'compute_bridge_catalog_rows{{backend="{name}"}} {float(one["rows"])}' in figures


# --- helpers --------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(coalition, **settings):
    wrap = lambda parts: with_catalog(parts, settings)  # noqa: E731
    async with coalition.bridge("one", wrap=wrap) as bridge:
        yield bridge


def with_catalog(parts, settings):
    object.__setattr__(parts.catalogs, "_settings", CatalogSettings(**settings))
    return evolve(parts, boot=evolve(parts.boot, bridge=evolve(parts.boot.bridge, refresh_s=3600)))


async def sells(bridge):
    return bridge.parts.fleet.offers() or None


async def has_more(bridge, few):
    return len(bridge.parts.fleet.capabilities()) > few or None


async def is_above(bridge, version):
    card = bridge.publisher.card
    return (card.value.version > version and card.value.capabilities == bridge.parts.fleet.capabilities()) or None


async def leased(coalition):
    """Leave an open lease in the journal of bridge one, whose catalog is stored."""
    async with coalition.bridge("one"):
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=10**7), MAX_RATE, SSH_KEY)
        await requester.serve_until_receipt(handle)


def damage(coalition):
    [path] = (coalition.folder / "one" / "catalog").iterdir()
    path.write_bytes(b"{")
    return path


def leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
