"""The keeper of catalogs: handed over at the start, renewed in time, and the last good one stays through anything."""

import logging
from typing import Any

import anyio
import pytest
from attrs import evolve

from compute_bridge.host.catalogs import RETRY_MS, Catalogs, fetch
from compute_bridge.model.boot import BackendSettings, CatalogSettings
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Region, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge.ports.catalog import CatalogError, CatalogStore, SupportsCatalog
from compute_bridge.ports.errors import CredentialsError, ThrottledError, UnavailableError
from compute_bridge.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio

NAME = BackendName("frankfurt")
REFRESH_MS = 3_600_000
SETTINGS = CatalogSettings(refresh_s=REFRESH_MS // 1000, fetch_s=5)


class MemoryStore(CatalogStore):
    """A store whose file can be damaged, and whose disk can be full."""

    def __init__(self, *kept):
        self.kept = {one.backend: one for one in kept}
        self.damage = ""
        self.is_full = False

    async def load(self, backend, kind):
        if self.damage:
            raise CatalogError(self.damage)
        return self.kept.get(backend)

    async def save(self, catalog):
        if self.damage or self.is_full:
            raise CatalogError(self.damage or "the disk is full")
        self.kept[catalog.backend] = catalog


class Cloud(SupportsCatalog):
    """A backend's catalog power: answers what a test says, and remembers what it was handed."""

    def __init__(self, clock):
        self.clock = clock
        self.answer = None
        self.prices = {"a": 10**8}
        self.used = []
        self.asked = 0
        self.refuses = None
        self.says = None

    def catalog(self):
        now = UtcMs(self.clock.utc_ms())
        rows = [
            CatalogRow(
                Region("eu"),
                Zone("z"),
                shape,
                Resources(2000, 8192, 100),
                CostBasis("USD", UnitNanos(machine=NanosPerHour(nanos)), now, "test"),
            )
            for shape, nanos in sorted(self.prices.items())
        ]
        return Catalog(NAME, "aws", now, tuple(rows))

    async def fetch_catalog(self):
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.catalog() if self.answer is None else self.answer

    def use_catalog(self, catalog):
        if self.refuses is not None:
            raise self.refuses
        self.used.append(catalog)
        return self.says


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def cloud(clock):
    return Cloud(clock)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def catalogs(clock, cloud, store):
    table = BackendSettings(name=NAME, kind="aws")
    return Catalogs([(table, cloud)], store, clock, settings=SETTINGS, currency="USD")


def state(catalogs):
    return catalogs.state()[NAME]


async def start(catalogs):
    await catalogs.load()
    await catalogs.fetch_missing()


class Running:
    """A keeper that runs beside a test, which moves the clock."""

    def __init__(self, catalogs, clock):
        self.catalogs = catalogs
        self.clock = clock
        self.changes = 0

    def _changed(self):
        self.changes += 1

    async def __aenter__(self):
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self.catalogs.run, self._changed)
        await self.clock.advance(0)
        return self

    async def __aexit__(self, *error):
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(*error)


# --- the start ------------------------------------------------------------------------------------


async def test_a_stored_catalog_is_handed_over_without_asking_the_cloud(catalogs, cloud, store):
    store.kept[NAME] = cloud.catalog()
    cloud.answer = UnavailableError("no answer")
    await start(catalogs)

    assert ([store.kept[NAME]], 0) == (cloud.used, cloud.asked)


async def test_where_none_is_stored_it_is_fetched_handed_over_and_kept(catalogs, cloud, store):
    await start(catalogs)

    assert [cloud.catalog()] == cloud.used == list(store.kept.values())


@pytest.mark.parametrize("error", [UnavailableError("x"), CredentialsError("x"), ThrottledError("x"), KeyError("x")])
async def test_a_fetch_that_fails_stops_no_start_and_says_that_nothing_is_sold(catalogs, cloud, error, caplog):
    cloud.answer = error
    await start(catalogs)

    assert [] == cloud.used
    assert "age_ms" not in state(catalogs)
    assert "sells nothing yet" in caplog.text


async def test_the_message_of_a_foreign_error_is_told_nowhere(catalogs, cloud, caplog):
    cloud.answer = RuntimeError("s3cret")
    await start(catalogs)

    assert "s3cret" not in caplog.text + str(catalogs.state())
    assert "backend-fault" == state(catalogs)["reason"]


async def test_a_stored_catalog_that_cannot_be_used_is_raised_and_never_fetched_over(catalogs, cloud, store):
    store.damage = "catalog /x: is damaged"
    with pytest.raises(CatalogError, match="is damaged"):
        await catalogs.load()
    await catalogs.fetch_missing()

    assert ([], 0) == (cloud.used, cloud.asked)


async def test_the_other_backends_are_handed_theirs_where_one_cannot_be_used(clock, cloud):
    class OneDamaged(MemoryStore):
        async def load(self, backend, kind):
            if backend == "dublin":
                raise CatalogError("catalog dublin: is damaged")
            return await super().load(backend, kind)

    tables = [BackendSettings(name=BackendName(name), kind="aws") for name in ("dublin", NAME)]
    store = OneDamaged(cloud.catalog())
    backends: list[Any] = [(tables[0], Cloud(clock)), (tables[1], cloud)]
    catalogs = Catalogs(backends, store, clock, settings=SETTINGS, currency="USD")
    with pytest.raises(CatalogError, match="dublin"):
        await catalogs.load()

    assert 1 == len(cloud.used)


async def test_a_row_that_is_not_believed_any_more_is_left_out_of_what_was_stored(catalogs, cloud, store):
    cloud.prices = {"a": 10**8, "b": 1}
    store.kept[NAME] = cloud.catalog()
    await catalogs.load()

    assert ["a"] == [row.shape for row in cloud.used[0].rows]


async def test_a_backend_without_the_power_has_no_part_in_it(clock, store):
    table = BackendSettings(name=NAME, kind="baremetal")
    rack: Any = object()
    catalogs = Catalogs([(table, rack)], store, clock, settings=SETTINGS, currency="USD")
    await start(catalogs)

    assert {} == catalogs.state()


async def test_a_fetch_has_its_time(cloud):
    class Silent(Cloud):
        async def fetch_catalog(self):
            await anyio.sleep_forever()

    with pytest.raises(UnavailableError, match=r"no catalog within 0\.01 s"):
        await fetch(NAME, "aws", Silent(cloud.clock), within_s=0.01)


# --- while running --------------------------------------------------------------------------------


async def test_a_catalog_is_renewed_in_time_and_the_change_told(catalogs, cloud, clock, store):
    await start(catalogs)
    async with Running(catalogs, clock) as running:
        await clock.advance(REFRESH_MS - 1)
        before = running.changes
        cloud.prices["b"] = 10**8
        await clock.advance(1)

    assert (0, 1) == (before, running.changes)
    assert ["a", "b"] == [row.shape for row in cloud.used[-1].rows]
    assert store.kept[NAME] == cloud.used[-1]


async def test_a_stored_catalog_is_renewed_when_its_own_time_has_come(catalogs, cloud, clock, store):
    store.kept[NAME] = cloud.catalog()
    await clock.advance(REFRESH_MS - 1000)
    await catalogs.load()
    async with Running(catalogs, clock):
        await clock.advance(999)
        early = cloud.asked
        await clock.advance(1)

    assert (0, 1) == (early, cloud.asked)


async def test_a_backend_without_one_is_asked_at_once(catalogs, cloud, clock):
    await catalogs.load()
    async with Running(catalogs, clock) as running:
        pass

    assert (1, 1) == (cloud.asked, running.changes)


async def test_after_a_failure_it_is_asked_again_sooner_and_ever_less_often(catalogs, cloud, clock):
    cloud.answer = UnavailableError("no answer")
    await start(catalogs)
    asked = []
    async with Running(catalogs, clock) as running:
        for _ in range(8):
            await clock.advance(RETRY_MS)
            asked.append(cloud.asked)

    assert [2, 2, 3, 3, 3, 3, 4, 4] == asked
    assert 0 == running.changes


async def test_the_first_answer_after_failures_is_used(catalogs, cloud, clock, caplog):
    caplog.set_level(logging.INFO)
    cloud.answer = UnavailableError("no answer")
    await start(catalogs)
    async with Running(catalogs, clock) as running:
        cloud.answer = None
        await clock.advance(RETRY_MS)

    assert (1, 1, 0) == (len(cloud.used), running.changes, state(catalogs)["failures"])
    assert "well again" in caplog.text


async def test_a_failed_renewal_keeps_the_last_good_one_and_says_how_old_it_is(catalogs, cloud, clock, caplog):
    await start(catalogs)
    cloud.answer = UnavailableError("no answer")
    async with Running(catalogs, clock) as running:
        await clock.advance(REFRESH_MS)

    assert (1, 0) == (len(cloud.used), running.changes)
    assert "the one of 3600 s ago stays: unavailable: no answer" in caplog.text
    assert {"age_ms": REFRESH_MS, "reason": "unavailable", "failures": 1}.items() <= state(catalogs).items()


async def test_a_failure_is_logged_once_until_it_is_another(catalogs, cloud, clock, caplog):
    await start(catalogs)
    cloud.answer = UnavailableError("no answer")
    async with Running(catalogs, clock):
        await clock.advance(2 * REFRESH_MS)
        times = caplog.text.count("no new catalog")
        cloud.answer = CredentialsError("refused")
        await clock.advance(REFRESH_MS)

    assert (1, 2) == (times, caplog.text.count("no new catalog"))


async def test_rows_that_are_left_out_are_logged_once_until_they_are_others(catalogs, cloud, clock, caplog):
    cloud.prices = {"a": 10**8, "b": 1}
    await start(catalogs)
    async with Running(catalogs, clock):
        await clock.advance(REFRESH_MS)
        times = caplog.text.count("left out")
        cloud.prices["c"] = 2
        await clock.advance(REFRESH_MS)

    assert (1, 2) == (times, caplog.text.count("left out"))
    assert 2 == state(catalogs)["left_out"]
    assert state(catalogs)["left_out_rows"][0].startswith("z/b: catalog-unit: ")


async def test_a_catalog_that_is_refused_whole_leaves_the_last_good_one(catalogs, cloud, clock, store):
    cloud.prices = dict.fromkeys("abcde", 10**8)
    await start(catalogs)
    cloud.prices = {"a": 10**8}
    async with Running(catalogs, clock) as running:
        await clock.advance(REFRESH_MS)

    assert (1, 0, 5) == (len(cloud.used), running.changes, len(store.kept[NAME].rows))
    assert "catalog-shrunk" == state(catalogs)["reason"]


async def test_a_file_that_is_damaged_meanwhile_is_told_while_the_new_catalog_is_used(catalogs, cloud, clock, store):
    await start(catalogs)
    store.damage = "catalog /x: is damaged"
    async with Running(catalogs, clock) as running:
        await clock.advance(REFRESH_MS)

    assert (2, 1, "catalog-file") == (len(cloud.used), running.changes, state(catalogs)["reason"])


async def test_a_file_that_was_mended_is_taken_without_a_new_start(catalogs, cloud, clock, store):
    store.damage = "catalog /x: is damaged"
    with pytest.raises(CatalogError):
        await catalogs.load()
    store.kept[NAME] = cloud.catalog()
    store.damage = ""
    cloud.answer = UnavailableError("no answer")
    async with Running(catalogs, clock) as running:
        await clock.advance(RETRY_MS)

    assert ([store.kept[NAME]], 1) == (cloud.used, running.changes)


async def test_a_disk_that_is_full_stops_no_sale(catalogs, cloud, clock, store):
    store.is_full = True
    await start(catalogs)

    assert (1, "catalog-file") == (len(cloud.used), state(catalogs)["reason"])


# --- what a plugin may do -------------------------------------------------------------------------


async def test_an_answer_that_is_no_catalog_of_ours_leaves_the_last_good_one(catalogs, cloud, clock, store):
    await start(catalogs)
    async with Running(catalogs, clock) as running:
        for answer in ((), evolve(cloud.catalog(), backend=BackendName("dublin")), evolve(cloud.catalog(), kind="gcp")):
            cloud.answer = answer
            await clock.advance(REFRESH_MS)

    assert (1, 0, "plugin-result") == (len(cloud.used), running.changes, state(catalogs)["reason"])
    assert store.kept[NAME] == cloud.used[0]


async def test_a_catalog_that_the_backend_does_not_take_is_not_kept(catalogs, cloud, store):
    cloud.refuses = RuntimeError("s3cret")
    await start(catalogs)

    assert {} == store.kept
    assert "backend-fault" == state(catalogs)["reason"]


async def test_a_stored_catalog_that_the_backend_does_not_take_is_fetched_anew(catalogs, cloud, store):
    store.kept[NAME] = cloud.catalog()
    cloud.refuses = RuntimeError("too old")
    await catalogs.load()
    cloud.refuses = None
    cloud.prices["b"] = 10**8
    await catalogs.fetch_missing()

    assert ["a", "b"] == [row.shape for row in cloud.used[-1].rows]
    assert (0, store.kept[NAME]) == (state(catalogs)["failures"], cloud.used[-1])


async def test_a_backend_that_answers_to_use_catalog_is_told_of(catalogs, cloud):
    cloud.says = "later"
    await start(catalogs)

    assert "use_catalog returned str, not None" in state(catalogs)["detail"]


async def test_an_old_answer_is_not_asked_for_without_pause(catalogs, cloud, clock):
    old = cloud.catalog()
    await clock.advance(10 * REFRESH_MS)
    cloud.answer = old
    await start(catalogs)
    async with Running(catalogs, clock):
        await clock.advance(REFRESH_MS)

    assert cloud.asked <= 3


async def test_a_wall_clock_that_leaps_delays_no_renewal_beyond_its_time(catalogs, cloud, clock, store):
    store.kept[NAME] = cloud.catalog()
    await catalogs.load()
    clock.jump_utc(-(10**9))
    async with Running(catalogs, clock):
        await clock.advance(REFRESH_MS)

    assert 1 == cloud.asked


async def test_a_large_catalog_stalls_nothing(catalogs, cloud):
    cloud.prices = {f"s{number:04}": 10**8 for number in range(1500)}
    await start(catalogs)

    assert 1500 == state(catalogs)["rows"]
