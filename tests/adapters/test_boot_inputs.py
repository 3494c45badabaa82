"""When the bridge's own folder counts as new: only then may a journal be begun in it."""

import pytest

from compute_bridge.adapters import sqlite_chain as chain
from compute_bridge.adapters import sqlite_file
from compute_bridge.adapters.boot_inputs import prepare_folder


def test_a_missing_folder_is_new(tmp_path):
    assert prepare_folder(tmp_path / "bridge")


def test_a_folder_with_anything_in_it_is_not_new(tmp_path):
    (tmp_path / "ledger.sqlite").touch()

    assert not prepare_folder(tmp_path)


def test_a_folder_with_nothing_but_catalogs_is_still_new(tmp_path):
    (tmp_path / "catalog").mkdir()

    assert prepare_folder(tmp_path)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_folder_in_which_a_start_was_killed_as_it_made_the_journal_is_still_new(tmp_path, suffix):
    (tmp_path / f".bridge.journal.0123456789abcdef.new{suffix}").touch()

    assert prepare_folder(tmp_path)


def test_the_journal_is_made_beside_what_a_killed_start_left(tmp_path):
    (tmp_path / ".bridge.journal.0123456789abcdef.new").write_bytes(b"half")
    sqlite_file.create_file(tmp_path / "bridge.journal", chain.JOURNAL_FILE)

    assert not prepare_folder(tmp_path)
