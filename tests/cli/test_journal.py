"""``compute-bridge journal``: what it shows, checks, mends and exports, and what it never does."""

import json
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from compute_bridge.adapters.journal_file import Filter, read_journal
from compute_bridge.adapters.sqlite_journal import JOURNAL, open_sqlite_journal
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock

FILE = """\
[bridge]
name = "north"
state_dir = "state"
root_key = "file:root.key"
max_leases = 4
[coalition]
handshake = "beta.handshake"
fingerprint = "{}"
[network]
kind = "nobody-installed-it"
[attestation]
source = "tsm"
[rate]
policy = "fixed"
[routing]
policy = "first-fit"
[settlement]
kind = "ledger"
[[band]]
name = "small"
floor = {{ cpu_millis = 100, mem_mib = 64 }}
ceiling = {{ cpu_millis = 4000, mem_mib = 8192 }}
slots = 2
[[backend]]
name = "rack"
kind = "nobody-installed-it"
""".format("00" * 32)
PAGE = Path(__file__).parents[2] / "docs" / "operator" / "journal.md"
DUMP = Path(__file__).parents[1] / "adapters" / "journals" / "v1.sql"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of a real bridge, its leases settled, refused, delivered and provisioning."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bridge.toml").write_text(FILE)
    (tmp_path / "state").mkdir(mode=0o700)
    path = tmp_path / "state" / JOURNAL
    with closing(sqlite3.connect(path)) as db:
        db.executescript(DUMP.read_text())
    path.chmod(0o600)
    return path


@pytest.fixture
def migrated(path: Path) -> Path:
    """The same, after a boot."""

    async def open_once() -> None:
        async with open_sqlite_journal(path, VirtualClock()):
            pass

    anyio.run(open_once)
    return path


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement, values)


def ask(path: Path, statement: str):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(statement).fetchall()


def show(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert dispatch(["journal", "show", "--json", *arguments]) == Exit.OK
    events: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return events


# --- show -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("path")
def test_show_ends_with_the_newest_event(path: Path, capsys):
    ((last,),) = ask(path, "SELECT MAX(sequence) FROM events")
    shown = [event["sequence"] for event in show(capsys, "--limit", "5")]

    assert list(range(last - 4, last + 1)) == shown


@pytest.mark.usefixtures("path")
def test_show_goes_on_after_a_sequence(capsys):
    assert [3, 4] == [event["sequence"] for event in show(capsys, "--after", "2", "--limit", "2")]


@pytest.mark.parametrize("digits", [3, 4, 12, 64])
def test_show_finds_a_lease_by_the_first_digits_of_its_id(path: Path, capsys, digits: int):
    leases = [row[0] for row in ask(path, "SELECT lease FROM leases")]
    for lease in leases:
        shown = show(capsys, "--lease", lease.hex()[:digits], "--limit", "1000")
        expected = ask(path, f"SELECT sequence FROM events WHERE lease = x'{lease.hex()}' ORDER BY sequence")

        assert [sequence for (sequence,) in expected] == [event["sequence"] for event in shown]


@pytest.mark.usefixtures("path")
def test_show_finds_events_of_one_kind(capsys):
    assert {"settled"} == {event["kind"] for event in show(capsys, "--kind", "settled")}
    assert [] == show(capsys, "--kind", "nothing-of-the-kind")


@pytest.mark.usefixtures("path")
def test_show_decodes_what_is_known_and_withholds_where_the_machine_is(capsys):
    (*_, running) = show(capsys, "--kind", "running")
    (*_, delivered) = show(capsys, "--kind", "delivered")
    (*_, opened) = show(capsys, "--kind", "opened")

    assert "memory" == running["body"]["backend"]
    assert {"withheld"} == {running["body"]["instance"][name] for name in ("host", "port", "user", "host_key")}
    assert "withheld" == delivered["body"]["pointer"]
    assert delivered["blob"]
    assert " bytes, blake3 " in opened["body"]["sealed"]


def test_show_tells_an_event_of_a_later_release_by_its_length(path: Path, capsys):
    async def record() -> None:
        async with open_sqlite_journal(path, VirtualClock()) as journal:
            await journal.record(EventDraft("of-tomorrow", body=bytes(100)), EventDraft("granted", b"L", b"\xff"))

    anyio.run(record)
    (tomorrow,) = show(capsys, "--kind", "of-tomorrow")
    (broken,) = show(capsys, "--lease", "4c", "--kind", "granted")

    assert tomorrow["body"].startswith("100 bytes, blake3 ")
    assert "its body cannot be read" in broken["body"]["unreadable"]


@pytest.mark.usefixtures("path")
def test_show_lays_one_event_out_on_one_line(capsys):
    assert dispatch(["journal", "show", "--kind", "ended", "--limit", "3"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()

    assert 3 == len(lines)
    assert "ended [ended]" in lines[-1]
    assert 'reason="' in lines[-1]


@pytest.mark.parametrize("wrong", [["--lease", "xyz"], ["--limit", "0"], ["--after", "-1"], ["--lease", "a" * 129]])
@pytest.mark.usefixtures("path")
def test_a_filter_that_means_nothing_is_refused(wrong: list[str]):
    assert dispatch(["journal", "show", *wrong]) == Exit.USAGE


# --- verify ---------------------------------------------------------------------------------------


def test_verify_names_the_head_that_an_operator_writes_down(path: Path, capsys):
    ((count, head),) = ask(path, "SELECT sequence, hash FROM events ORDER BY sequence DESC LIMIT 1")
    assert dispatch(["journal", "verify"]) == Exit.OK

    told = capsys.readouterr().out.splitlines()
    assert f"journal {path}: {count} events hold, and so do 3 blobs and 5 leases" == told[0]
    assert f"head {count} {head.hex()}, schema version 1" == told[1]


def test_a_copy_in_another_folder_is_checked_before_it_is_put_back(path: Path, tmp_path: Path, capsys):
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / JOURNAL).write_bytes(path.read_bytes())
    change(path, "DELETE FROM events WHERE sequence = 9")

    assert dispatch(["journal", "verify", "--set", f"bridge.state_dir={tmp_path / 'backup'}"]) == Exit.OK
    assert f"journal {tmp_path / 'backup' / JOURNAL}: " in capsys.readouterr().out


@pytest.mark.parametrize("command", [["verify"], ["show"], ["export"]])
def test_an_older_journal_is_read_as_it_is(path: Path, command: list[str], capsys):
    before = path.read_bytes()
    assert dispatch(["journal", *command]) == Exit.OK

    assert before == path.read_bytes()
    assert [(1,)] == ask(path, "PRAGMA user_version")


DAMAGES = {
    "a changed body": (
        "UPDATE events SET body = CAST(x'00' || body AS BLOB) WHERE sequence = 7",
        "journal event 7: its hash does not hold",
    ),
    "text where bytes were": (
        "UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE sequence = 7",
        "journal event 7: is not an event any more",
    ),
    "a kind that is no text": (
        "UPDATE events SET kind = CAST(x'ff' AS TEXT) WHERE sequence = 7",
        "journal event 7: its hash does not hold",
    ),
    "a changed blob": ("UPDATE blobs SET content = CAST(content || x'00' AS BLOB)", "its blob is not the one"),
    "a row deleted in the middle": ("DELETE FROM events WHERE sequence = 9", "journal event 9: is missing"),
    "a table that was changed": ("UPDATE leases SET state = 'settled'", "run 'compute-bridge journal rebuild'"),
    "a newer schema": ("PRAGMA user_version=9", "upgrade compute-bridge, or go back to the release that wrote it"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_what_does_not_hold(path: Path, damage: str, capsys):
    statement, message = DAMAGES[damage]
    change(path, statement)
    assert dispatch(["journal", "verify"]) == Exit.ERROR
    assert message in capsys.readouterr().err

    assert dispatch(["journal", "verify", "--json"]) == Exit.ERROR
    told = json.loads(capsys.readouterr().out)
    assert (False, True) == (told["holds"], message in told["error"])


@pytest.mark.parametrize("place", ["body", "content"])
def test_verify_finds_one_flipped_bit_in_the_file(path: Path, place: str, capsys):
    table = "events" if place == "body" else "blobs"
    ((value,),) = ask(path, f"SELECT {place} FROM {table} WHERE length({place}) > 200 LIMIT 1")
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[content.index(value[:100]) + 50] ^= 1
    path.write_bytes(content)

    assert dispatch(["journal", "verify"]) == Exit.ERROR
    assert "keep it for inspection, check what runs in each backend" in capsys.readouterr().err


def test_verify_finds_a_file_that_was_cut_off(path: Path, capsys):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    assert dispatch(["journal", "verify"]) == Exit.ERROR
    assert "damaged" in capsys.readouterr().err


def test_a_journal_that_is_not_there_is_named(path: Path, capsys):
    path.unlink()

    assert dispatch(["journal", "verify"]) == Exit.ERROR
    assert f"journal {path}: is missing" in capsys.readouterr().err
    assert not path.exists()


# --- rebuild --------------------------------------------------------------------------------------


def test_rebuild_mends_the_tables_and_says_what_differed(migrated: Path, capsys):
    before = ask(migrated, "SELECT * FROM leases ORDER BY lease")
    change(migrated, "UPDATE leases SET state = 'granted' WHERE state = 'delivered'")
    change(migrated, "DELETE FROM leases WHERE state = 'provisioning'")
    change(migrated, "INSERT INTO leases VALUES (x'01', 'granted', 1)")
    assert dispatch(["journal", "rebuild"]) == Exit.OK
    told = capsys.readouterr().out

    assert before == ask(migrated, "SELECT * FROM leases ORDER BY lease")
    assert "was granted, is delivered" in told
    assert "was missing, is provisioning" in told
    assert "lease 01: was granted, is gone" in told
    assert "3 leases differed" in told


def test_rebuild_of_right_tables_changes_nothing(migrated: Path, capsys):
    assert dispatch(["journal", "rebuild", "--json"]) == Exit.OK
    assert [] == json.loads(capsys.readouterr().out)


def test_rebuild_makes_nothing_of_a_chain_that_does_not_hold(migrated: Path, capsys):
    change(migrated, "UPDATE events SET state = 'settled' WHERE sequence = 7")
    before = ask(migrated, "SELECT * FROM leases ORDER BY lease")

    assert dispatch(["journal", "rebuild"]) == Exit.ERROR
    assert "journal event 7: its hash does not hold" in capsys.readouterr().err
    assert before == ask(migrated, "SELECT * FROM leases ORDER BY lease")


# --- while a bridge holds it ----------------------------------------------------------------------

_BRIDGE = """
import sys
from pathlib import Path
import anyio
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock

async def main(path):
    async with open_sqlite_journal(Path(path), VirtualClock()) as journal:
        while True:
            await journal.record(EventDraft("note", body=bytes(500)), EventDraft("note", blob=bytes(500)))
            print(flush=True)

anyio.run(main, sys.argv[1])
"""


@pytest.fixture
def held(migrated: Path):
    """The journal, held by another process that records all the time."""
    bridge = subprocess.Popen([sys.executable, "-c", _BRIDGE, migrated], stdout=subprocess.PIPE)
    assert bridge.stdout
    bridge.stdout.readline()
    yield bridge
    bridge.kill()
    bridge.communicate()


@pytest.mark.usefixtures("held")
def test_a_held_journal_is_read_while_its_bridge_goes_on(capsys, tmp_path: Path):
    for number in range(5):
        assert dispatch(["journal", "verify"]) == Exit.OK
        assert dispatch(["journal", "show"]) == Exit.OK
        assert dispatch(["journal", "export", "--output", str(tmp_path / f"{number}.jsonl")]) == Exit.OK
    assert "events hold" in capsys.readouterr().out


def test_what_is_read_is_one_moment(held, migrated: Path):
    with read_journal(migrated) as file:
        first, _ = file.check_chain()
        for _ in range(20):
            held.stdout.readline()

        assert (first, first) == (file.check_chain()[0], file.find(Filter(), 1)[0].sequence)


def test_a_held_journal_is_not_rebuilt(held, capsys):
    assert dispatch(["journal", "rebuild"]) == Exit.ERROR
    assert f"is held by process {held.pid}; two bridges cannot share one" in capsys.readouterr().err


# --- export ---------------------------------------------------------------------------------------


def documented(name: str):
    """Return a function of the operator's page, which imports nothing of compute-bridge."""
    block = PAGE.read_text().split("```python\n")[1].split("```")[0]
    assert "compute_bridge" not in block
    found: dict[str, Any] = {}
    exec(block, found)
    return found[name]


def test_an_auditor_can_check_an_export_with_the_documented_layout(path: Path, capsys):
    assert dispatch(["journal", "export"]) == Exit.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ((count, head),) = ask(path, "SELECT sequence, hash FROM events ORDER BY sequence DESC LIMIT 1")

    first_broken = documented("first_broken")

    assert (count, head.hex()) == (len(lines), lines[-1]["hash"])
    assert 3 == sum(line["blob"] is not None for line in lines)
    assert first_broken(lines) is None
    lines[6]["body"] += "00"
    assert 7 == first_broken(lines)


@pytest.mark.parametrize("name", ["previous", "at_ms", "kind", "lease", "body", "state", "blob_hash", "hash", "blob"])
def test_an_auditor_sees_any_field_that_was_changed(path: Path, name: str, capsys):
    assert dispatch(["journal", "export"]) == Exit.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (changed, *_) = [number for number, line in enumerate(lines) if line["blob"] and line["state"]]
    lines[changed][name] = {"at_ms": 7, "kind": "other", "state": None, "blob": "00"}.get(name, "00" * 32)

    assert changed + 1 == documented("first_broken")(lines)


def test_an_export_is_for_its_user_alone_and_replaces_nothing(path: Path, tmp_path: Path, capsys):
    target = tmp_path / "journal.jsonl"
    assert dispatch(["journal", "export", "--output", str(target)]) == Exit.OK
    written = target.read_bytes()
    assert dispatch(["journal", "export", "--output", str(target)]) == Exit.USAGE

    assert "name a new file" in capsys.readouterr().err
    assert (0o600, written) == (stat.S_IMODE(target.stat().st_mode), target.read_bytes())
    assert len(ask(path, "SELECT sequence FROM events")) == len(written.splitlines())


def test_an_export_that_was_not_ended_is_taken_away(path: Path, tmp_path: Path):
    change(path, "UPDATE blobs SET content = x'00'")

    assert dispatch(["journal", "export", "--output", str(tmp_path / "journal.jsonl")]) == Exit.ERROR
    assert not (tmp_path / "journal.jsonl").exists()


# --- what is imported -----------------------------------------------------------------------------


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize("command", [["show"], ["verify"], ["rebuild"], ["export"]])
def test_no_plugin_and_no_sdk_is_imported(command: list[str]):
    program = (
        "import sys; from compute_bridge.cli.main import dispatch; code = dispatch(['journal', *sys.argv[1:]]);"
        "found = [name for name in sys.modules if name.startswith(('compute_bridge_', 'asyncssh', 'boto3'))];"
        "sys.exit(str(found) if found else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True)

    assert 0 == done.returncode, done.stderr
