"""``compute-bridge rates``: asked of the running bridge, or read from the journal of one that rests."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.sqlite_journal import JOURNAL, open_sqlite_journal
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.host.journal_events import RateRefused, bridge_draft
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.reason import Reason
from crashkit.boot_text import BOOT_TEXT

PAGE = Path(__file__).parents[2] / "docs" / "operator" / "rates.md"
EXAMPLE = PAGE.read_text().partition("--limit 200\n")[2].partition("```")[0]
ROW = {"region": "eu", "posture": "none", "band": "small", "units": {"machine": 0, "vcpu": 5}}
LINE = {
    "at_ms": 1_767_225_600_000,
    "event": "rate-refused",
    "reason": "cost-floor",
    "where": "eu/none/large",
    "text": "not published: too little",
    "short_micros": 7,
    "times": 3,
    "grant": "",
}
ANSWER: dict[str, Any] = {
    "in_force": {"currency": "EUR", "rows": [ROW], "fingerprint": "ab" * 32},
    "asked": {"currency": "EUR", "rows": [ROW, {**ROW, "band": "large"}]},
    "refused": [{**ROW, "band": "large", "reason": "cost-floor", "detail": "too little", "allowed": False}],
    "quarantined": [{"backend": "rack", "offer": "a", "reason": "cost-jump", "detail": "vcpu went up"}],
    "ledger": [LINE],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bridge.toml").write_text(BOOT_TEXT)
    (tmp_path / "state").mkdir()
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[list[bytes]]:
    """Answer one question as a bridge would."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "state" / "control.sock"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(json.dumps(ANSWER).encode() + b"\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield asked
        thread.join(5)


def test_the_running_bridge_tells_what_the_page_shows(running: list[bytes], capsys: pytest.CaptureFixture[str]):
    assert dispatch(["rates", "--since", "0", "--limit", "9"]) == Exit.OK
    assert json.loads(running[0]) == {"ask": "rates", "since_ms": 0, "limit": 9}
    assert capsys.readouterr().out == EXAMPLE


@pytest.mark.usefixtures("running")
def test_rates_are_json_for_who_asks(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["rates", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == ANSWER


def test_where_no_bridge_runs_the_journal_tells(folder: Path, capsys: pytest.CaptureFixture[str]):
    async def refuse() -> None:
        async with open_sqlite_journal(folder / "state" / JOURNAL, SystemClock(), create=True) as journal:
            units, reason = UnitNanos(), Reason.NO_OFFER
            body = RateRefused(
                "eu", "none", "small", asked=units, currency="EUR", reason=reason, detail="nothing there"
            )
            await journal.record(bridge_draft(body))

    anyio.run(refuse)

    assert dispatch(["rates"]) == Exit.OK
    first, second, line = capsys.readouterr().out.splitlines()
    assert first.startswith("no bridge runs")
    assert second == "ledger:"
    assert line.endswith("rate-refused [no-offer]  eu/none/small: not published: nothing there")


@pytest.mark.usefixtures("folder")
def test_before_the_first_start_nobody_is_asked_to_put_a_journal_back(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["rates"]) == Exit.ERROR
    assert "is missing; name the boot file of a bridge that has run" in capsys.readouterr().err
