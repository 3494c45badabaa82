"""What is sold out or used up stays benched across a restart, for no longer than it was, whatever the clocks say."""

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.bench import LIMIT_MS, MOST_REMEMBERED, BenchBook
from compute_bridge.host.bench_log import MOST_AN_HOUR
from compute_bridge.host.journal_events import Benched, BenchLifted, read_event
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import HOUR_MS, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.errors import Scope
from compute_bridge.ports.journal import JournalUnwritableError
from compute_bridge.testing.clock import VirtualClock

CLOUD = BackendName("cloud")
EPOCH = VirtualClock().utc_ms()


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def journal(clock, tmp_path):
    async with open_sqlite_journal(tmp_path / "journal", clock, create=True) as opened:
        yield opened


def bench(book, place="eu/a", *, reason=Reason.NO_CAPACITY, scope=Scope.ZONE, backend=CLOUD):
    return book.bench(backend, scope, place, reason=reason, detail="sold out")


async def written(clock, journal, *reasons, times=1):
    """Return a book with a bench for each reason, ``times`` in a row, and all of it in the journal."""
    book = BenchBook(clock)
    for reason in reasons:
        for at in range(times):
            one = bench(book, reason.value, reason=reason)
            if at < times - 1:
                await clock.advance(one.until_ms - clock.monotonic_ms())
    await book.write(journal)
    return book


async def after_restart(journal, *, wall_ms=0, backends=(CLOUD,)):
    """Return the book of a process whose wall clock stands ``wall_ms`` after the test's epoch."""
    clock = VirtualClock(utc_ms=EPOCH + wall_ms)
    book = BenchBook(clock)
    await book.restore(journal, backends)
    return book, clock


async def told(journal):
    bodies = [read_event(event) for event in await journal.events()]
    return [body for body in bodies if isinstance(body, Benched | BenchLifted)]


def left_ms(book, clock):
    return [one.until_ms - clock.monotonic_ms() for one in book.state()]


# --- what a restart takes up ----------------------------------------------------------------------


@pytest.mark.anyio
async def test_what_is_left_of_a_bench_is_taken_up_after_a_restart(clock, journal):
    book = await written(clock, journal, Reason.QUOTA)
    (before,) = book.state()
    again, later = await after_restart(journal, wall_ms=100_000)
    (after,) = again.state()

    assert [200_000] == left_ms(again, later)
    assert (before.scope, before.place, before.reason, before.detail) == (
        after.scope,
        after.place,
        after.reason,
        after.detail,
    )


@pytest.mark.anyio
async def test_a_bench_that_ended_meanwhile_is_over(clock, journal):
    await written(clock, journal, Reason.QUOTA)
    again, _ = await after_restart(journal, wall_ms=300_000)

    assert () == again.state()


@pytest.mark.anyio
async def test_failures_in_a_row_go_on_doubling_after_a_restart(clock, journal):
    await written(clock, journal, Reason.NO_CAPACITY)
    again, later = await after_restart(journal, wall_ms=20_000)

    assert 2 == bench(again, "no-capacity").times
    assert [30_000] == left_ms(again, later)


@pytest.mark.anyio
async def test_what_was_lifted_stays_lifted_and_what_was_benched_after_that_holds(clock, journal):
    book = BenchBook(clock)
    bench(book)
    await book.write(journal)
    book.absolve(offer())
    await book.write(journal)
    lifted, _ = await after_restart(journal)
    bench(book)
    await book.write(journal)
    held, _ = await after_restart(journal)

    assert ([], ["eu/a"]) == ([one.place for one in lifted.state()], [one.place for one in held.state()])


@pytest.mark.anyio
async def test_what_was_taken_up_and_then_lifted_is_lifted_for_the_next_restart_too(clock, journal):
    book = BenchBook(clock)
    bench(book, reason=Reason.QUOTA)
    await book.write(journal)
    again, _ = await after_restart(journal)
    again.absolve(offer())
    await again.write(journal)
    third, _ = await after_restart(journal)

    assert [Benched, BenchLifted] == [type(body) for body in await told(journal)]
    assert () == third.state()


@pytest.mark.anyio
@pytest.mark.parametrize("reason", [Reason.CREDENTIALS, Reason.PLUGIN_RESULT, Reason.BACKEND_FAULT, Reason.UNAVAILABLE])
async def test_what_a_restart_may_have_mended_is_tried_again_at_once(clock, journal, reason):
    await written(clock, journal, reason)
    again, _ = await after_restart(journal)

    assert ((), []) == (again.state(), await told(journal))


@pytest.mark.anyio
async def test_a_backend_that_left_the_boot_file_leaves_no_bench(clock, journal):
    await written(clock, journal, Reason.QUOTA)
    again, _ = await after_restart(journal, backends=(BackendName("rack"),))

    assert () == again.state()


# --- clocks that jump -----------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("wall_ms", [-1, -60_000, -LIMIT_MS])
async def test_a_wall_clock_that_was_set_back_makes_no_bench_longer(clock, journal, wall_ms):
    await written(clock, journal, Reason.QUOTA)
    again, later = await after_restart(journal, wall_ms=wall_ms)

    assert [300_000] == left_ms(again, later)


@pytest.mark.anyio
@pytest.mark.parametrize("wall_ms", [-LIMIT_MS - 1, -30 * 24 * HOUR_MS, LIMIT_MS + 1, 30 * 24 * HOUR_MS])
async def test_a_wall_clock_that_jumped_beyond_the_longest_bench_is_not_believed(clock, journal, wall_ms):
    await written(clock, journal, Reason.NO_CAPACITY, times=10)
    again, _ = await after_restart(journal, wall_ms=wall_ms + clock.monotonic_ms())

    assert () == again.state()


@pytest.mark.anyio
async def test_a_bench_taken_up_ends_by_the_monotonic_clock_though_the_wall_clock_leaps(clock, journal):
    await written(clock, journal, Reason.QUOTA)
    again, later = await after_restart(journal)
    await later.advance(299_999)
    before = again.state()
    await later.advance(1)

    assert (1, ()) == (len(before), again.state())


# --- the journal ----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_journal_that_takes_nothing_stops_no_bench_and_is_written_later(clock, journal):
    book = BenchBook(clock)
    full: Any = Full(journal)
    bench(book)
    await book.write(full)
    held = book.state()
    full.is_full = False
    await book.write(full)
    await book.write(full)

    assert (1, 1) == (len(held), len(await told(journal)))


@pytest.mark.anyio
async def test_a_bench_that_was_lifted_before_it_was_written_is_never_written(clock, journal):
    book = BenchBook(clock)
    bench(book)
    book.absolve(offer())
    await book.write(journal)

    assert [] == await told(journal)


@pytest.mark.anyio
async def test_a_scope_that_fails_all_day_is_journalled_once_an_hour_at_last(clock, journal):
    book = BenchBook(clock)
    while clock.monotonic_ms() < 24 * HOUR_MS:
        one = bench(book)
        await book.write(journal)
        await clock.advance(one.until_ms - clock.monotonic_ms())

    assert 8 + 24 >= len(await told(journal))


@pytest.mark.anyio
async def test_a_thousand_scopes_that_fail_and_serve_in_turn_fill_no_disk(clock, journal):
    book = BenchBook(clock)
    for _ in range(4):
        for at in range(1000):
            bench(book, f"eu/{at}")
        await book.write(journal)
        for at in range(1000):
            book.absolve(offer(str(at)))
        await book.write(journal)
    within_the_hour = len(await told(journal))
    await clock.advance(HOUR_MS)
    await book.write(journal)

    assert (MOST_AN_HOUR, 2 * MOST_AN_HOUR) >= (within_the_hour, len(await told(journal)))
    assert 0 < within_the_hour


@pytest.mark.anyio
async def test_scopes_without_end_are_not_remembered_without_end(clock):
    book = BenchBook(clock)
    for at in range(MOST_REMEMBERED):
        bench(book, f"eu/{at}")
    before = book.remembered
    await clock.advance(30_000)
    bench(book)

    assert (MOST_REMEMBERED, 1) == (before, book.remembered)


@pytest.mark.anyio
async def test_who_waits_for_something_to_write_is_woken(clock, journal):
    book = BenchBook(clock)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(book.changed)
            bench(book)
    await book.write(journal)
    with anyio.move_on_after(0) as waits:
        await book.changed()

    assert waits.cancelled_caught


# --- lately ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_scope_counts_as_benched_lately_for_as_long_again_as_it_was_benched(clock):
    book = BenchBook(clock)
    bench(book)
    seen = [book.lately(offer())]
    for _ in range(2):
        await clock.advance(15_000)
        seen.append(book.lately(offer()))

    assert [1, 1, 0] == seen
    assert 0 == book.lately(offer("b"))


def offer(zone="a"):
    return Offer(
        id=OfferId("small"),
        backend=CLOUD,
        region=Region("eu"),
        zone=Zone(zone),
        shape="small",
        resources=Resources(4000, 8192),
        posture=Posture.NONE,
        networks=(NetworkPolicy.ISOLATED,),
        cost=CostBasis("EUR", UnitNanos(), UtcMs(EPOCH), "test"),
    )


class Full:
    """A journal whose disk is full for as long as a test says."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.is_full = True

    async def record(self, *drafts):
        await anyio.lowlevel.checkpoint()
        if self.is_full:
            raise JournalUnwritableError("no room", reason="full")
        return await self._journal.record(*drafts)
