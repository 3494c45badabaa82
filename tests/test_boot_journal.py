"""A boot over a journal that does not hold, or that is behind the market, stops and says what to do."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bootfolder import ROOT_SEED, handshake, make_folder
from compute_bridge import boot
from compute_bridge.adapters.sqlite_journal import JOURNAL, open_sqlite_journal
from compute_bridge.adapters.sqlite_network import open_sqlite_network
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.host.identity import Identity
from compute_bridge.host.journal_events import BOOTED, LossAccepted, read_event
from compute_bridge.host.market import market_domain
from compute_bridge.model import channels
from compute_bridge.model.card import EpochClaim
from compute_bridge.ports.errors import BootError
from compute_bridge.ports.journal import EventDraft
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.wire.signing import public_key, sign

LOST = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
IDENTITY = Identity.from_root_seed(ROOT_SEED, market_domain(handshake()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that a boot needs up to its fleet, and a journal of one boot and one lease."""
    make_folder(tmp_path, 'kind = "sqlite"\npath = "network"')
    monkeypatch.chdir(tmp_path)
    anyio.run(make_journal, tmp_path / "state" / JOURNAL)
    return tmp_path


async def make_journal(path: Path) -> None:
    async with open_sqlite_journal(path, VirtualClock(), create=True) as journal:
        await journal.record(EventDraft(BOOTED, body=bytes(32) + IDENTITY.provider))
        await journal.record(EventDraft("note", body=b"a" * 300), EventDraft("note", b"L" * 32, blob=b"b" * 300))
        await journal.record(EventDraft("note", b"L" * 32, state="settled"))


def refused(folder: Path) -> str:
    with pytest.raises(BootError) as caught:
        boot.run(folder / "bridge.toml", {})
    return str(caught.value)


def change(statement: str):
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(statement)

    return change


def cut_off(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(path.read_bytes()[: 5 * 4096])


def flip(old: bytes):
    def flip(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(path.read_bytes())
        content[content.index(old) + 100] ^= 1
        path.write_bytes(content)

    return flip


DAMAGES = {
    "a file that was cut off": (cut_off, "the file is damaged: keep it for inspection and restore a copy"),
    "a flipped bit in a body": (flip(b"a" * 300), "journal event 2: its hash does not hold; .* restore the newest"),
    "a flipped bit in a blob": (flip(b"b" * 300), "journal event 3: its blob is not the one .* restore the newest"),
    "a row deleted in the middle": (change("DELETE FROM events WHERE sequence = 2"), "journal event 2: is missing"),
    "a changed table": (change("UPDATE leases SET state = 'granted'"), "run 'compute-bridge journal rebuild'"),
    "a newer schema": (change("PRAGMA user_version=99"), "upgrade compute-bridge, or go back to the release"),
    "another file": (lambda path: path.write_bytes(b"something else " * 999), "keep it for inspection"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_journal_that_does_not_hold_stops_the_boot_and_is_kept(folder: Path, damage: str) -> None:
    harm, message = DAMAGES[damage]
    path = folder / "state" / JOURNAL
    harm(path)
    before = path.read_bytes()
    told = refused(folder)

    assert told.startswith("boot step 4 (open the journal and find the keys of every boot): journal")
    assert re.search(message, told), told
    assert before == path.read_bytes()


def test_a_changed_table_is_mended_by_the_command_that_the_boot_names(folder: Path) -> None:
    change("UPDATE leases SET state = 'granted'")(folder / "state" / JOURNAL)
    before = refused(folder)
    assert dispatch(["journal", "rebuild"]) == Exit.OK

    assert "boot step 4" in before
    assert refused(folder).startswith("boot step 7 (build the fleet)")


def test_a_boot_migrates_an_older_journal(folder: Path) -> None:
    path = folder / "state" / JOURNAL
    change("DROP INDEX events_by_kind")(path)
    change("PRAGMA user_version=1")(path)
    told = refused(folder)

    assert told.startswith("boot step 7 (build the fleet)")
    assert path.with_name(f"{JOURNAL}.v1").exists()
    assert dispatch(["journal", "verify"]) == Exit.OK


# --- behind the market ----------------------------------------------------------------------------


async def claim_epoch(path: Path, key: Ed25519PrivateKey) -> None:
    """Claim the epoch as a boot did that stands in no journal."""
    claim = EpochClaim(IDENTITY.provider, IDENTITY.root_key, 9, public_key(key))
    async with open_sqlite_network(path) as network:
        await network.put(
            channels.EPOCHS, IDENTITY.provider, sign(claim, IDENTITY.root, domain=IDENTITY.domain).raw, expect=0
        )


async def booted(path: Path) -> tuple[int, list[object]]:
    async with open_sqlite_journal(path, VirtualClock()) as journal:
        accepted = await journal.events(kind="loss-accepted")
        return len(await journal.events(kind=BOOTED)), [read_event(event) for event in accepted]


def test_a_journal_behind_the_market_stops_the_boot_before_it_draws_keys(folder: Path) -> None:
    anyio.run(claim_epoch, folder / "network", LOST)
    told = refused(folder)

    assert told.startswith("boot step 5 (open the network and the shuffle): bridge.state_dir: its journal is behind")
    assert public_key(LOST).hex()[:12] in told
    assert (1, []) == anyio.run(booted, folder / "state" / JOURNAL)


def test_a_loss_is_accepted_in_words_and_then_the_boot_goes_on(folder: Path, capsys) -> None:
    anyio.run(claim_epoch, folder / "network", LOST)
    assert dispatch(["journal", "accept-loss"]) == Exit.ERROR
    shown = capsys.readouterr().out
    unchanged = anyio.run(booted, folder / "state" / JOURNAL)
    assert dispatch(["journal", "accept-loss", "--yes"]) == Exit.OK
    accepted = capsys.readouterr().out
    told = refused(folder)

    assert "lacking: a boot of ours, with the signing key" in shown
    assert "nothing was changed" in shown
    assert (1, []) == unchanged
    assert "accepted: a boot of ours" in accepted
    assert told.startswith("boot step 7 (build the fleet)")
    assert (2, [LossAccepted((public_key(LOST),), (), ())]) == anyio.run(booted, folder / "state" / JOURNAL)


def test_a_broken_pin_keeps_the_network_s_plugin_from_the_root_key(folder: Path, capsys) -> None:
    anyio.run(claim_epoch, folder / "network", LOST)
    with (folder / "bridge.toml").open("a") as file:
        file.write(f'[plugins]\ncompute-bridge-nowhere = "blake3:{"0" * 64}"\n')

    assert dispatch(["journal", "accept-loss", "--yes"]) == Exit.CONFIG
    assert "[plugins] pins compute-bridge-nowhere, which is not installed" in capsys.readouterr().err
    assert (1, []) == anyio.run(booted, folder / "state" / JOURNAL)


def test_nothing_is_accepted_of_a_journal_that_lacks_nothing(folder: Path, capsys) -> None:
    assert dispatch(["journal", "accept-loss", "--yes"]) == Exit.OK

    assert "lacks nothing" in capsys.readouterr().out
    assert (1, []) == anyio.run(booted, folder / "state" / JOURNAL)


def test_a_bridge_that_lost_its_whole_folder_is_refused_until_the_loss_is_accepted(folder: Path) -> None:
    anyio.run(claim_epoch, folder / "network", LOST)
    for file in (folder / "state").iterdir():
        file.unlink()
    first = refused(folder)
    again = refused(folder)
    assert dispatch(["journal", "accept-loss", "--yes"]) == Exit.OK

    assert first.startswith("boot step 5 ")
    assert again == first
    assert refused(folder).startswith("boot step 7 ")
