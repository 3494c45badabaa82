"""``compute-bridge explain``: the story of a lease, asked of the running bridge, laid out or as JSON."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from crashkit.boot_text import BOOT_TEXT

STORY = {
    "grant_id": "ab" * 32,
    "request_id": "cd" * 32,
    "state": "ended",
    "lines": [
        {"at_ms": 1_767_225_600_000, "event": "granted", "reason": "won", "text": "round 7 awarded it"},
        {"at_ms": 1_767_225_601_000, "event": "opened", "reason": "", "text": "the envelope opened"},
    ],
}
MONEY = {
    "currency": "EUR",
    "rate": 6300,
    "billable_ms": None,
    "charge": None,
    "market_fee": None,
    "cost": None,
    "margin": None,
    "basis": {
        "backend": "home",
        "offer": "r1",
        "currency": "EUR",
        "hourly_micros": 5250,
        "observed_at": 1_767_225_600_000,
        "source": "boot-file",
    },
}


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Answer one question as a bridge would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bridge.toml").write_text(BOOT_TEXT)
    (tmp_path / "state").mkdir()
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "state" / "control.sock"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(json.dumps({"stories": [STORY]}).encode() + b"\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield asked
        thread.join(5)


def test_the_running_bridge_tells_the_story(running: list[bytes], capsys: pytest.CaptureFixture[str]):
    assert dispatch(["explain", "abab"]) == Exit.OK
    assert json.loads(running[0]) == {"ask": "explain", "id": "abab"}
    assert capsys.readouterr().out.splitlines() == [
        f"grant {'ab' * 32} of request {'cd' * 32}: ended",
        "  2026-01-01 00:00:00  granted [won]  round 7 awarded it",
        "  2026-01-01 00:00:01  opened  the envelope opened",
    ]


@pytest.mark.usefixtures("running")
def test_the_story_is_json_for_who_asks(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["explain", "abab", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == [STORY]


def test_the_money_of_a_lease_that_runs_says_what_is_not_known_yet(
    running: list[bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(STORY, "money", MONEY)

    assert dispatch(["explain", "abab"]) == Exit.OK
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  charge: not known yet, at 6300 micros EUR/h",
        "  cost: not known, at 5250 micros EUR/h: offer home/r1, stated by boot-file, observed 2026-01-01 00:00:00",
    ]


def test_an_id_must_be_given():
    assert dispatch(["explain"]) == Exit.USAGE
