"""Every released schema of the journal opens: led to today's whole or not at all, with a copy kept beside it."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from compute_bridge.adapters import sqlite_chain as chain
from compute_bridge.adapters.sqlite_file import create_file, open_file
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.adapters.sqlite_migration import migrate_file
from compute_bridge.host.lease_state import read_facts
from compute_bridge.model.ids import GrantId
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock

DUMPS = sorted((Path(__file__).parent / "journals").glob("v*.sql"))
NEWEST = chain.JOURNAL_FILE.version


def restore(dump: Path, path: Path) -> Path:
    """Make the journal that the release of ``dump`` wrote."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(dump.read_text())
    path.chmod(0o600)
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
    return int(number)


def content(path: Path) -> list[list[Any]]:
    with closing(sqlite3.connect(path)) as db:
        tables = ("SELECT * FROM events", "SELECT * FROM blobs", "SELECT * FROM leases ORDER BY lease")
        return [db.execute(table).fetchall() for table in tables]


def schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    return [(name, " ".join(sql.split())) for name, sql in rows]


def copies(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir() if ".v" in one.name or ".new" in one.name)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A journal as version 1 left it."""
    return restore(DUMPS[0], tmp_path / "bridge.journal")


def test_every_released_version_has_a_dump() -> None:
    assert [dump.stem for dump in DUMPS] == [f"v{number}" for number in range(1, NEWEST)]


@pytest.mark.anyio
@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
async def test_a_released_journal_opens_with_all_that_it_held(dump: Path, tmp_path: Path) -> None:
    path = restore(dump, tmp_path / "bridge.journal")
    before = content(path)
    async with open_sqlite_journal(path, VirtualClock()) as journal:
        await journal.verify()
        states = await journal.lease_states()
        facts = [await read_facts(journal, GrantId(row.lease)) for row in states]
        blobs = [
            (event.sequence, await journal.blob(event.sequence)) for event in await journal.events(kind="delivered")
        ]
        (added,) = await journal.record(EventDraft("note"))
        await journal.verify()

    assert NEWEST == version(path)
    assert [row.state for row in states] == [one.state for one in facts]
    assert before == [rows[: len(old)] for rows, old in zip(content(path), before, strict=True)]
    assert before[1] == blobs
    assert len(before[0]) + 1 == added.sequence


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_migrated_journal_has_the_schema_of_a_new_one(dump: Path, tmp_path: Path) -> None:
    path = restore(dump, tmp_path / "bridge.journal")
    migrate_file(path, chain.JOURNAL_FILE, busy_ms=100)
    create_file(tmp_path / "new", chain.JOURNAL_FILE)

    assert schema(tmp_path / "new") == schema(path)


def test_the_released_journals_hold_leases_in_several_states(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db:
        states = dict(db.execute("SELECT state, COUNT(*) FROM leases GROUP BY state").fetchall())
        (blobs,) = db.execute("SELECT COUNT(*) FROM blobs").fetchone()

    assert {"delivered": 1, "provisioning": 1, "settled": 3} == states
    assert 3 == blobs


def test_the_old_journal_is_kept_as_it_was_for_its_user_alone(old: Path) -> None:
    before = content(old)
    migrate_file(old, chain.JOURNAL_FILE, busy_ms=100)
    kept = old.with_name("bridge.journal.v1")

    assert ["bridge.journal.v1"] == copies(old)
    assert (before, 1) == (content(kept), version(kept))
    assert 0o600 == stat.S_IMODE(kept.stat().st_mode)
    with closing(open_file(kept, evolve(chain.JOURNAL_FILE, version=1), busy_ms=100, writes=True)) as db:
        assert chain.check_file(db)[0] == len(before[0])


def test_what_was_kept_is_never_replaced(old: Path) -> None:
    old.with_name("bridge.journal.v1").write_text("the operator's own")
    migrate_file(old, chain.JOURNAL_FILE, busy_ms=100)

    assert old.with_name("bridge.journal.v1").read_text() == "the operator's own"
    assert ["bridge.journal.v1", "bridge.journal.v1-2"] == copies(old)
    assert 1 == version(old.with_name("bridge.journal.v1-2"))


def test_a_journal_of_today_is_left_alone(old: Path) -> None:
    migrate_file(old, chain.JOURNAL_FILE, busy_ms=100)
    before = old.read_bytes()
    migrate_file(old, chain.JOURNAL_FILE, busy_ms=100)

    assert before == old.read_bytes()
    assert ["bridge.journal.v1"] == copies(old)


def test_a_statement_that_fails_leaves_the_old_version_whole(old: Path) -> None:
    before = content(old)
    broken = evolve(chain.JOURNAL_FILE, migrations={1: ("DELETE FROM blobs", "CREATE INDEX oops ON nowhere (x)")})
    with pytest.raises(JournalError, match="no such table"):
        migrate_file(old, broken, busy_ms=100)

    assert (before, 1) == (content(old), version(old))
    migrate_file(old, chain.JOURNAL_FILE, busy_ms=100)
    assert (before, NEWEST) == (content(old), version(old))


@pytest.mark.parametrize(
    "statement", ["DELETE FROM events WHERE sequence = (SELECT MAX(sequence) FROM events)", "DELETE FROM blobs"]
)
def test_a_migration_that_loses_something_is_undone(old: Path, statement: str) -> None:
    before = content(old)
    with pytest.raises(JournalError):
        migrate_file(old, evolve(chain.JOURNAL_FILE, migrations={1: (statement,)}), busy_ms=100)

    assert (before, 1) == (content(old), version(old))


def test_a_chain_that_does_not_hold_is_not_migrated(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as db:
        db.execute("UPDATE events SET body = x'00' WHERE sequence = 7")
    with pytest.raises(JournalError, match="journal event 7: its hash does not hold"):
        migrate_file(old, chain.JOURNAL_FILE, busy_ms=100)

    assert 1 == version(old)
    assert [] == copies(old)


_KILLED = """
import os, signal, sys
from pathlib import Path
from attrs import evolve
from compute_bridge.adapters import sqlite_chain as chain
from compute_bridge.adapters.sqlite_migration import migrate_file

wanted = int(sys.argv[2])
calls = 0

def check(db):
    global calls
    calls += 1
    if calls == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    return chain.check_file(db)

migrate_file(Path(sys.argv[1]), evolve(chain.JOURNAL_FILE, check=check), busy_ms=100)
"""


@pytest.mark.anyio
@pytest.mark.parametrize("check", [1, 2], ids=["before the copy", "before the commit"])
async def test_a_migration_killed_in_the_middle_leaves_the_old_version_whole(old: Path, check: int) -> None:
    before = content(old)
    killed = subprocess.run([sys.executable, "-c", _KILLED, old, str(check)], env=os.environ)  # noqa: ASYNC221
    after = content(old), version(old)
    async with open_sqlite_journal(old, VirtualClock()) as journal:
        await journal.verify()

    assert -signal.SIGKILL == killed.returncode
    assert (before, 1) == after
    assert before == content(old)
    assert ["bridge.journal.v1"] == copies(old)


def test_a_version_before_the_first_is_refused(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db:
        db.execute("PRAGMA user_version=0")
    with pytest.raises(JournalError, match="has schema version 0, this release needs 2; open it once with"):
        migrate_file(old, chain.JOURNAL_FILE, busy_ms=100)


@pytest.mark.anyio
async def test_events_of_one_kind_are_found_by_their_index(old: Path) -> None:
    async with open_sqlite_journal(old, VirtualClock()) as journal:
        all_of_them = await journal.events(limit=10_000)
        booted = await journal.events(kind="booted")
        later = await journal.events(kind="granted", after=booted[0].sequence + 1, limit=2)
        lease = later[0].lease
        of_lease = await journal.events(kind="granted", lease=lease)
    with closing(sqlite3.connect(old)) as db:
        plan = db.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM chain WHERE sequence > 0 AND kind = 'booted' ORDER BY sequence LIMIT 9"
        ).fetchall()

    assert tuple(event for event in all_of_them if event.kind == "booted") == booted
    assert ["granted", "granted"] == [event.kind for event in later]
    assert [lease] == [event.lease for event in of_lease]
    assert "USING INDEX events_by_kind" in plan[0][3]
    assert len(plan) == 1


_NO_ROOM = """
import os, sqlite3, sys
from contextlib import closing
from pathlib import Path
from compute_bridge.adapters import sqlite_chain as chain
from compute_bridge.adapters.sqlite_migration import migrate_file
from compute_bridge.ports.errors import JournalError

path = Path(sys.argv[1]) / "bridge.journal"
holder = sqlite3.connect(path)
holder.executescript(Path(sys.argv[2]).read_text())
ballast = os.open(path.with_name("ballast"), os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(ballast, bytes(4096))
except OSError:
    pass
try:
    migrate_file(path, chain.JOURNAL_FILE, busy_ms=100)
except JournalError as error:
    print(error)
os.ftruncate(ballast, 0)
with closing(sqlite3.connect(path)) as db:
    print(db.execute("PRAGMA user_version").fetchone()[0], chain.check_file(db)[0] > 0)
print(*sorted(one.name for one in path.parent.iterdir()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
def test_a_migration_without_room_for_the_copy_leaves_the_old_version_and_no_rest(tmp_path: Path) -> None:
    command = f'mount -t tmpfs -o size=4m tmpfs "$0" && exec "{sys.executable}" -c "$1" "$0" "$2"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, tmp_path, _NO_ROOM, DUMPS[0]], capture_output=True, text=True
    )
    told, version, files = done.stdout.splitlines()

    assert "room" in told, done.stderr
    assert "1 True" == version
    assert "ballast bridge.journal bridge.journal-shm bridge.journal-wal" == files
