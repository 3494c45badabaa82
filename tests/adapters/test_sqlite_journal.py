"""The SQLite journal is durable, chained, exclusive, and never made anew behind the operator's back."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing

import anyio
import pytest
from blake3 import blake3

from compute_bridge.adapters.sqlite_chain import JOURNAL_FILE
from compute_bridge.adapters.sqlite_file import create_file, open_file
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import GENESIS, EventDraft, JournalEvent, JournalUnwritableError, LeaseRow
from compute_bridge.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio

LEASE = b"L" * 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def clock():
    return VirtualClock(utc_ms=1_000)


@pytest.fixture
async def journal(path, clock):
    async with open_sqlite_journal(path, clock, create=True) as journal:
        yield journal


@pytest.fixture
def tamper(path):
    def change(statement, *parameters):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(statement, parameters)

    return change


async def three_events(path, clock):
    async with open_sqlite_journal(path, clock, create=True) as journal:
        await journal.record(EventDraft("boot", body=b"first"))
        await journal.record(
            EventDraft("provision", LEASE, b"order", state="provisioning"),
            EventDraft("receipt", LEASE, b"", blob=b"sealed", state="delivered"),
        )


# --- events -----------------------------------------------------------------------------------


async def test_events_are_chained_in_the_documented_layout(journal):
    recorded = await journal.record(EventDraft("boot"), EventDraft("grant", LEASE, b"body", b"blob", "granted"))

    def part(value):
        return len(value).to_bytes(8, "big") + value

    layout = (
        recorded[0].hash
        + (2).to_bytes(8, "big")
        + (1_000).to_bytes(8, "big")
        + part(b"compute-bridge/journal-event/1")
        + part(b"grant")
        + part(LEASE)
        + part(b"body")
        + part(b"granted")
        + part(blake3(b"blob").digest())
    )
    assert recorded[0].previous == GENESIS
    assert recorded[1].previous == recorded[0].hash
    assert recorded[1].hash == blake3(layout).digest()
    assert await journal.head() == (2, recorded[1].hash)


async def test_an_empty_journal_has_the_genesis_for_a_head(journal):
    assert await journal.head() == (0, GENESIS)
    assert await journal.events() == ()
    await journal.verify()


async def test_events_are_read_back_as_recorded(journal, clock):
    first = await journal.record(EventDraft("boot", body=b"\0"))
    await clock.advance(5)
    second = await journal.record(EventDraft("grant", LEASE, state="granted"), EventDraft("note", b"other"))

    assert await journal.events() == first + second
    assert await journal.events(after=1, limit=1) == second[:1]
    assert await journal.events(lease=LEASE) == second[:1]
    assert await journal.events(lease=b"") == first
    assert [event.at_ms for event in first + second] == [1_000, 1_005, 1_005]


async def test_a_blob_comes_back_byte_for_byte(journal):
    first, second, third = await journal.record(
        EventDraft("receipt", LEASE, blob=bytes(range(256))), EventDraft("note"), EventDraft("empty", blob=b"")
    )

    assert await journal.blob(first.sequence) == bytes(range(256))
    assert await journal.blob(second.sequence) is None
    assert await journal.blob(third.sequence) == b""
    assert await journal.blob(99) is None


async def test_a_lease_stands_where_its_latest_state_left_it(journal):
    await journal.record(EventDraft("grant", LEASE, state="granted"), EventDraft("grant", b"two", state="granted"))
    await journal.record(EventDraft("end", LEASE, state="closed"), EventDraft("note", b"two"))

    assert await journal.lease_states() == (LeaseRow(b"two", "granted", 2), LeaseRow(LEASE, "closed", 3))
    assert await journal.lease_states(excluding=("closed",)) == (LeaseRow(b"two", "granted", 2),)


async def test_nothing_recorded_is_no_event(journal):
    assert await journal.record() == ()
    assert await journal.head() == (0, GENESIS)


@pytest.mark.parametrize(
    "wrong",
    [{"kind": ""}, {"kind": "k" * 65}, {"kind": "k", "lease": bytes(65)}, {"kind": "k", "state": "closed"}],
)
async def test_a_draft_is_checked_at_birth(wrong):
    with pytest.raises(ValueError):
        EventDraft(**wrong)


# --- durability -------------------------------------------------------------------------------


async def test_events_outlive_the_process(path, clock):
    await three_events(path, clock)
    async with open_sqlite_journal(path, clock) as journal:
        await journal.verify()

        assert [event.kind for event in await journal.events()] == ["boot", "provision", "receipt"]
        assert await journal.blob(3) == b"sealed"


async def test_waiting_tasks_share_a_commit(journal):
    async with anyio.create_task_group() as group:
        for number in range(64):
            group.start_soon(journal.record, EventDraft("note", b"%d" % number, bytes(400)))

    assert journal.commits <= 8
    assert (await journal.head())[0] == 64
    await journal.verify()


async def test_drafts_of_one_call_stand_together_among_many(journal):
    async def record(number):
        await journal.record(*(EventDraft("note", b"%d" % number) for _ in range(3)))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(record, number)
    leases = [event.lease for event in await journal.events()]

    assert all(len(set(leases[start : start + 3])) == 1 for start in range(0, 60, 3))


async def test_a_call_that_fails_halfway_records_nothing_and_spares_its_neighbours(journal):
    failed = []

    async def record_wrong():
        try:
            await journal.record(EventDraft("first"), EventDraft("second", body="text"))  # type: ignore[arg-type]
        except TypeError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(journal.record, EventDraft("before"))
        group.start_soon(record_wrong)
        group.start_soon(journal.record, EventDraft("after"))

    assert len(failed) == 1
    assert [event.kind for event in await journal.events()] == ["before", "after"]
    await journal.verify()


async def test_a_cancelled_caller_learns_the_outcome_first(journal):
    recorded = []

    async def record():
        recorded.extend(await journal.record(EventDraft("intent", LEASE)))

    async with anyio.create_task_group() as group:
        group.start_soon(record)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert recorded == list(await journal.events())
    assert len(recorded) == 1


_WRITER = """
import sys
from pathlib import Path
import anyio
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock

async def main(path):
    async with open_sqlite_journal(Path(path), VirtualClock(), create=True) as journal:
        while True:
            for event in await journal.record(EventDraft("note"), EventDraft("note", blob=bytes(1000))):
                print(event.sequence, event.hash.hex(), flush=True)

anyio.run(main, sys.argv[1])
"""


def start_writer(path):
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    return process


async def test_what_a_killed_process_was_told_is_there_and_whole(path, clock):
    def kill_after_some():
        process = start_writer(path)
        told = [process.stdout.readline() for _ in range(60)]
        process.send_signal(signal.SIGKILL)
        return told + [line for line in process.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]

    told = await anyio.to_thread.run_sync(kill_after_some)
    async with open_sqlite_journal(path, clock) as journal:
        await journal.verify()
        events = await journal.events(limit=100_000)

    found = {f"{event.sequence} {event.hash.hex()}\n" for event in events}
    assert set(told) <= found
    assert len(events) % 2 == 0


_OPEN = """
import sys
from pathlib import Path
import anyio
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.testing.clock import VirtualClock

async def main():
    async with open_sqlite_journal(Path(sys.argv[1]), VirtualClock()):
        pass

anyio.run(main)
"""


# --- one bridge -------------------------------------------------------------------------------


async def test_a_second_process_is_refused_and_told_who_holds_it(path, clock):
    process = await anyio.to_thread.run_sync(start_writer, path)
    try:
        told = rf"journal {path}: is held by process {process.pid}; two bridges .* its own bridge.state_dir"
        with pytest.raises(JournalError, match=told):
            async with open_sqlite_journal(path, clock):
                pass
    finally:
        process.kill()
        await anyio.to_thread.run_sync(process.communicate)
    async with open_sqlite_journal(path, clock) as journal:
        await journal.verify()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
async def test_a_journal_on_a_read_only_disk_is_refused_with_the_mend(path, clock):
    async with open_sqlite_journal(path, clock, create=True):
        pass
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$1" -c "$2" "$3"'
    command = ["unshare", "--mount", "sh", "-c", mount, path.parent, sys.executable, _OPEN, path]
    done = await anyio.to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, text=True))

    assert f"JournalError: journal {path}: cannot be locked" in done.stderr
    assert "keep it on a local disk that is writable" in done.stderr


async def test_a_second_opening_in_one_process_is_refused(journal, path, clock):
    with pytest.raises(JournalError, match="is held by process"):
        async with open_sqlite_journal(path, clock):
            pass
    assert await journal.record(EventDraft("still"))


async def test_a_closed_journal_says_so(path, clock):
    async with open_sqlite_journal(path, clock, create=True) as journal:
        pass

    with pytest.raises(JournalError, match="is closed"):
        await journal.record(EventDraft("late"))


async def test_file_and_folder_belong_to_the_user_alone(journal, path):
    await journal.record(EventDraft("boot"))

    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_no_thread_is_left_behind(path, clock):
    before = threading.active_count()
    async with open_sqlite_journal(path, clock, create=True) as journal:
        await journal.record(EventDraft("boot"))
        during = threading.active_count()

    assert during - threading.active_count() >= 2
    assert threading.active_count() <= before + 1  # anyio keeps an idle worker


# --- no room ----------------------------------------------------------------------------------


async def fill(journal):
    for _ in range(100):
        await journal.record(EventDraft("note", LEASE, bytes(10_000)))


async def test_a_full_disk_is_named_and_loses_nothing(path, clock):
    async with open_sqlite_journal(path, clock, create=True, max_bytes=200_000) as journal:
        with pytest.raises(JournalUnwritableError, match=r"journal\.db: database or disk is full; make room") as caught:
            await fill(journal)
        told, _ = await journal.head()

        assert caught.value.reason == "full"
        assert told > 5
        await journal.verify()
    async with open_sqlite_journal(path, clock) as journal:
        await journal.verify()
        (event,) = await journal.record(EventDraft("room again"))

        assert event.sequence == told + 1


async def test_a_locked_journal_is_unwritable_and_then_well_again(path, clock):
    async with open_sqlite_journal(path, clock, create=True, busy_ms=50) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalUnwritableError) as caught:
                await journal.record(EventDraft("note"))
            other.execute("ROLLBACK")

        assert caught.value.reason == "locked"
        assert await journal.record(EventDraft("note"))


# --- what does not hold -----------------------------------------------------------------------


def test_a_commit_is_on_the_disk_when_it_returns(path) -> None:
    create_file(path, JOURNAL_FILE)
    with closing(open_file(path, JOURNAL_FILE, busy_ms=0, writes=True)) as db:
        (mode,), (synchronous,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous"))

    full = 2
    assert ("wal", full) == (mode, synchronous)


async def test_a_missing_journal_is_made_only_on_demand(path, clock):
    with pytest.raises(JournalError, match=rf"journal {path}: is missing"):
        async with open_sqlite_journal(path, clock):
            pass
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("beside", "mend"),
    [
        ((), "name the boot file of a bridge that has run"),
        (("catalog",), "name the boot file of a bridge that has run"),
        (("catalog", "ledger.db"), "put it back, or name an empty folder"),
    ],
    ids=["an empty folder", "a folder with catalogs alone", "a folder that was in use"],
)
async def test_what_to_do_about_a_missing_journal_is_told_by_whether_there_was_one(path, clock, beside, mend):
    path.parent.mkdir()
    for name in beside:
        (path.parent / name).touch()
    with pytest.raises(JournalError, match=mend):
        async with open_sqlite_journal(path, clock):
            pass


@pytest.mark.parametrize("content", [b"", b"not a database " * 100])
@pytest.mark.parametrize("create", [False, True])
async def test_a_file_that_is_no_journal_is_refused_and_kept(path, clock, content, create):
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(JournalError, match=rf"journal {path}: "):
        async with open_sqlite_journal(path, clock, create=create):
            pass
    assert path.read_bytes() == content


async def test_a_newer_journal_is_refused(path, clock, tamper):
    await three_events(path, clock)
    tamper("PRAGMA user_version=3")

    with pytest.raises(JournalError, match="has schema version 3, this release knows 2; upgrade compute-bridge"):
        async with open_sqlite_journal(path, clock, create=True):
            pass


async def test_a_damaged_page_stops_the_opening(path, clock):
    await three_events(path, clock)
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = bytes(64)
    path.write_bytes(content)

    with pytest.raises(JournalError, match=r"damaged.*keep it for inspection"):
        async with open_sqlite_journal(path, clock, create=True):
            pass
    assert path.read_bytes() == bytes(content)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE events SET body = x'00' WHERE sequence = 2", "journal event 2: its hash does not hold"),
        ("UPDATE events SET at_ms = 7 WHERE sequence = 3", "journal event 3: its hash does not hold"),
        ("UPDATE events SET state = NULL WHERE sequence = 3", "journal event 3: its hash does not hold"),
        ("UPDATE events SET previous = zeroblob(32) WHERE sequence = 2", "journal event 2: its hash does not hold"),
        ("UPDATE events SET lease = 'text' WHERE sequence = 2", "journal event 2: is not an event any more"),
        ("DELETE FROM events WHERE sequence = 2", "journal event 2: is missing"),
        ("DELETE FROM events WHERE sequence = 1", "journal event 1: is missing"),
        ("UPDATE blobs SET content = x'00'", "journal event 3: its blob is not the one"),
        ("DELETE FROM blobs", "journal event 3: its blob is not the one"),
        ("INSERT INTO blobs VALUES (1, x'00')", "journal event 1: its blob is not the one"),
        ("INSERT INTO blobs VALUES (4, x'00')", "journal event 4: is missing, and its blob is there"),
        ("DELETE FROM leases", f"journal lease {LEASE.hex()}: its state is not what its events say; .*journal rebuild"),
        ("UPDATE leases SET state = 'closed'", f"journal lease {LEASE.hex()}: its state"),
        ("INSERT INTO leases VALUES (x'01', 'granted', 1)", "journal lease 01: its state"),
    ],
)
async def test_a_changed_journal_is_told_by_its_first_wrong_event(path, clock, tamper, statement, message):
    await three_events(path, clock)
    tamper(statement)

    async with open_sqlite_journal(path, clock) as journal:
        with pytest.raises(JournalError, match=message):
            await journal.verify()


async def test_a_changed_event_with_a_hash_to_match_breaks_the_next(path, clock, tamper):
    await three_events(path, clock)
    forged = JournalEvent(1, GENESIS, 1_000, "boot", b"", b"forged")
    tamper("UPDATE events SET body = ?, hash = ? WHERE sequence = 1", forged.body, forged.hash)

    async with open_sqlite_journal(path, clock) as journal:
        with pytest.raises(JournalError, match="journal event 2: its hash does not hold"):
            await journal.verify()


async def test_a_changed_blob_is_not_handed_out(path, clock, tamper):
    await three_events(path, clock)
    tamper("UPDATE blobs SET content = x'00'")

    async with open_sqlite_journal(path, clock) as journal:
        with pytest.raises(JournalError, match="its blob is not the one that was recorded"):
            await journal.blob(3)


async def test_rebuilding_makes_the_projection_from_the_events(path, clock, tamper):
    await three_events(path, clock)
    tamper("UPDATE leases SET state = 'closed', updated_sequence = 1")

    async with open_sqlite_journal(path, clock) as journal:
        await journal.rebuild()
        await journal.verify()

        assert await journal.lease_states() == (LeaseRow(LEASE, "delivered", 3),)


async def test_a_long_chain_is_verified_page_by_page(journal, tamper):
    for _ in range(3):
        await journal.record(*(EventDraft("note") for _ in range(900)))
    await journal.verify()
    tamper("UPDATE events SET body = x'00' WHERE sequence = 2222")

    with pytest.raises(JournalError, match="journal event 2222"):
        await journal.verify()
