"""A journal that cannot be written says so, says why, and finds out by itself when it can be again."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.ports.journal import EventDraft, JournalUnwritableError
from compute_bridge.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio

LIMIT = 2_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "bridge.journal"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(utc_ms=1_000)


async def fill(journal) -> None:
    """Record until not even one more byte has room."""
    for size in (100_000, 4_000, 100, 0):
        while await is_recorded(journal, size):
            pass


async def is_recorded(journal, size: int) -> bool:
    try:
        await journal.record(EventDraft("filler", body=bytes(size)))
    except JournalUnwritableError:
        return False
    return True


def limit(pages: int):
    return lambda db: db.execute(f"PRAGMA max_page_count={pages}").fetchall()


def query_only(word: str):
    return lambda db: db.execute(f"PRAGMA query_only={word}").fetchall()


async def test_a_journal_that_can_be_written_says_so_with_the_room_for_it(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True, max_bytes=LIMIT) as journal:
        new = journal.health
        await clock.advance(10)
        await journal.record(EventDraft("note", body=bytes(200_000)), EventDraft("note"))
        later = journal.health

    assert (True, "", 1_000, 0) == (new.is_writable, new.reason, new.since_ms, new.sequence)
    assert (True, "", 1_000, 2) == (later.is_writable, later.reason, later.since_ms, later.sequence)
    assert later.file_bytes - new.file_bytes > 200_000
    assert 190_000 < new.room_bytes - later.room_bytes < 300_000
    assert later.room_bytes < LIMIT


async def test_the_room_of_a_journal_without_a_limit_is_that_of_its_disk(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True) as journal:
        disk = await anyio.to_thread.run_sync(os.statvfs, path.parent)

        assert abs(journal.health.room_bytes - disk.f_bavail * disk.f_frsize) < 10**9


async def test_a_reopened_journal_knows_where_it_stands(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True) as journal:
        await journal.record(EventDraft("note"), EventDraft("note"))
    async with open_sqlite_journal(path, clock) as journal:
        assert 2 == journal.health.sequence


async def test_a_full_journal_says_so_once_and_since_when(path, clock, caplog) -> None:
    async with open_sqlite_journal(path, clock, create=True, max_bytes=LIMIT) as journal:
        await fill(journal)
        full = journal.health
        await clock.advance(500)
        await is_recorded(journal, 0)
        later = journal.health

    assert (False, "full", 1_000) == (full.is_writable, full.reason, full.since_ms)
    assert full.room_bytes < 4096
    assert full == later
    assert 1 == sum("no event can be recorded" in record.getMessage() for record in caplog.records)


async def test_a_full_journal_that_takes_one_small_event_is_still_full(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True, max_bytes=LIMIT) as journal:
        while await is_recorded(journal, 100_000):
            pass
        told = journal.health.sequence
        small = await is_recorded(journal, 0)

        assert small
        assert (told + 1, False, "full") == (
            journal.health.sequence,
            journal.health.is_writable,
            journal.health.reason,
        )


async def test_a_probe_takes_none_of_the_last_room(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True, max_bytes=LIMIT) as journal:
        await fill(journal)
        told = journal.health.sequence
        await journal._writer.run(limit(LIMIT // 4096 + 2))
        await journal.probe()

        assert (told, False) == (journal.health.sequence, journal.health.is_writable)


async def test_a_read_only_journal_is_named_and_then_well_again(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True) as journal:
        await journal._writer.run(query_only("ON"))
        with pytest.raises(JournalUnwritableError, match="see that the file is there and that this user may write"):
            await journal.record(EventDraft("note"))
        during = await journal.probe()
        await journal.verify()
        await journal._reader.run(lambda _db: journal._writer._connection.execute("PRAGMA query_only=OFF"))
        after = await journal.probe()

    assert (False, "read-only") == (during.is_writable, during.reason)
    assert (True, 1) == (after.is_writable, after.sequence)


async def test_a_locked_journal_is_named_and_then_well_again(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True, busy_ms=50) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await is_recorded(journal, 0)
            during = await journal.probe()
            other.execute("ROLLBACK")
        after = await journal.probe()

    assert (False, "locked") == (during.is_writable, during.reason)
    assert after.is_writable


async def test_nothing_recorded_says_nothing_of_the_disk(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True, max_bytes=LIMIT) as journal:
        await fill(journal)
        await journal.record()

        assert not journal.health.is_writable


_ON_A_SMALL_DISK = """
import json, logging, sys
from pathlib import Path
import anyio
from attrs import asdict
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.ports.journal import WRITABLE, EventDraft, JournalUnwritableError, Outage
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.wire import codec

async def fill(journal):
    for size in (20_000, 0):
        try:
            while True:
                await journal.record(EventDraft("filler", body=bytes(size)))
        except JournalUnwritableError:
            pass

async def main(folder):
    logging.basicConfig(level=logging.INFO)
    (folder / "ballast").write_bytes(bytes(8_000_000))
    clock = VirtualClock(utc_ms=1_000)
    async with open_sqlite_journal(folder / "bridge.journal", clock, create=True) as journal:
        await fill(journal)
        found = [asdict(journal.health), asdict(await journal.probe())]
        (folder / "ballast").unlink()
        await clock.advance(500)
        found += [asdict(await journal.probe()), asdict(await journal.probe())]
        found += [asdict(codec.decode(one.body, Outage, max_bytes=99)) for one in await journal.events(kind=WRITABLE)]
        await journal.verify()
    print(json.dumps(found))

anyio.run(main, Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
async def test_a_disk_that_is_really_full_is_told_and_room_on_it_is_found(tmp_path: Path) -> None:
    command = f'mount -t tmpfs -o size=16m tmpfs "$0" && exec "{sys.executable}" -c "$1" "$0"'
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            ["unshare", "--mount", "sh", "-c", command, tmp_path, _ON_A_SMALL_DISK], capture_output=True, text=True
        )
    )
    assert 0 == done.returncode, done.stderr
    full, still, again, later, *outages = json.loads(done.stdout)

    assert (False, "full", 1_000) == (full["is_writable"], full["reason"], full["since_ms"])
    assert full["is_writable"] is still["is_writable"] is False
    assert full["room_bytes"] < 1_000_000 < again["room_bytes"]
    assert (True, "", 1_500) == (again["is_writable"], again["reason"], again["since_ms"])
    assert again == later
    assert [{"reason": "full", "since_ms": 1_000}] == outages
    assert 1 == done.stderr.count("no event can be recorded")
    assert 1 == done.stderr.count("events are recorded again")


_AFTER_A_STOP = """
import json, os, sys
from pathlib import Path
import anyio
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock

async def write(path):
    async with open_sqlite_journal(path, VirtualClock(), create=True) as journal:
        await journal.record(EventDraft("first"))

async def go_on(path, ballast):
    async with open_sqlite_journal(path, VirtualClock()) as journal:
        await journal.verify()
        found = [journal.health.is_writable, journal.health.reason]
        await journal.record(EventDraft("ended"))
        found.append((await journal.probe()).is_writable)
        ballast.unlink()
        found.append((await journal.probe()).is_writable)
    print(json.dumps(found))

folder = Path(sys.argv[1])
anyio.run(write, folder / "bridge.journal")
ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(ballast, bytes(4096))
except OSError:
    os.close(ballast)
anyio.run(go_on, folder / "bridge.journal", folder / "ballast")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
async def test_a_journal_opens_on_a_disk_that_is_really_full_and_is_unwritable_until_there_is_room(tmp_path) -> None:
    command = f'mount -t tmpfs -o size=16m tmpfs "$0" && exec "{sys.executable}" -c "$1" "$0"'
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            ["unshare", "--mount", "sh", "-c", command, tmp_path, _AFTER_A_STOP], capture_output=True, text=True
        )
    )

    assert 0 == done.returncode, done.stderr
    assert [False, "full", False, True] == json.loads(done.stdout)
    assert "the disk is full; opened with the room that was kept" in done.stderr


_AFTER_A_KILL = """
import json, os, sys
from pathlib import Path
import anyio
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock

async def write(path):
    async with open_sqlite_journal(path, VirtualClock(), create=True) as journal:
        for _ in range(50):
            await journal.record(EventDraft("first", body=bytes(4_000)))
        os._exit(0)

async def go_on(path, ballast):
    async with open_sqlite_journal(path, VirtualClock()) as journal:
        await journal.record(EventDraft("booted"))
        found = [(await journal.probe()).is_writable, journal.health.room_bytes > 1_048_576]
    async with open_sqlite_journal(path, VirtualClock()) as journal:
        await journal.record(EventDraft("booted"))
        found.append((await journal.probe()).is_writable)
        ballast.unlink()
        found.append((await journal.probe()).is_writable)
    found.append(path.with_name("bridge.journal.reserve").exists())
    print(json.dumps(found))

folder = Path(sys.argv[1])
if not (child := os.fork()):
    anyio.run(write, folder / "bridge.journal")
os.waitpid(child, 0)
ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(ballast, bytes(4096))
except OSError:
    os.close(ballast)
anyio.run(go_on, folder / "bridge.journal", folder / "ballast")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
async def test_room_that_was_kept_for_a_start_is_no_room_to_sell_by_until_it_is_kept_again(tmp_path) -> None:
    command = f'mount -t tmpfs -o size=16m tmpfs "$0" && exec "{sys.executable}" -c "$1" "$0"'
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            ["unshare", "--mount", "sh", "-c", command, tmp_path, _AFTER_A_KILL], capture_output=True, text=True
        )
    )

    assert 0 == done.returncode, done.stderr
    assert [False, True, False, True, True] == json.loads(done.stdout)


class Slow(bytes):
    """Bytes that keep the thread that measures them, as a disk does that hangs."""

    begun: threading.Event
    go: threading.Event

    @classmethod
    def made(cls) -> "Slow":
        slow = cls(b"slow")
        slow.begun, slow.go = threading.Event(), threading.Event()
        return slow

    def __len__(self) -> int:
        self.begun.set()
        assert self.go.wait(10)
        return 4


async def test_what_was_given_up_before_it_was_begun_is_never_recorded(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True, patience_s=0.2) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalUnwritableError, match="did not answer"):
                await journal.record(EventDraft("given-up"))
            other.execute("ROLLBACK")
        await journal.record(EventDraft("next"))
        events = await journal.events()

    assert ["next"] == [event.kind for event in events]


async def test_what_landed_though_it_was_given_up_is_the_last_until_the_journal_is_opened_again(path, clock) -> None:
    async with open_sqlite_journal(path, clock, create=True, patience_s=0.2) as journal:
        slow = Slow.made()
        with pytest.raises(JournalUnwritableError, match="did not answer"):
            await journal.record(EventDraft("given-up", b"lease", slow, state="running"))
        assert slow.begun.is_set()
        slow.go.set()
        # Its caller was told that it was not recorded, so it would record it again.
        with pytest.raises(JournalUnwritableError, match="start the bridge again") as caught:
            await journal.record(EventDraft("again", b"lease", state="running"))
        during = await journal.probe()
    async with open_sqlite_journal(path, clock) as again:
        await again.record(EventDraft("next"))
        events = await again.events()

    assert "io" == caught.value.reason == during.reason
    assert ["given-up", "next"] == [event.kind for event in events]
