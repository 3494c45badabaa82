"""``compute-bridge status``: what a running bridge answers, laid out for people or as JSON."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from crashkit.boot_text import BOOT_TEXT

ANSWER = {
    "uptime_s": 5,
    "name": "north",
    "leases": {"open": 2, "by_band": {}},
    "backends": [{"name": "rack", "up": True}],
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


def test_the_running_bridge_is_asked(running: list[bytes], capsys: pytest.CaptureFixture[str]):
    assert dispatch(["status"]) == Exit.OK
    assert running == [b'{"ask": "status"}\n']
    assert capsys.readouterr().out.splitlines() == [
        "uptime_s: 5",
        "name: north",
        "leases.open: 2",
        "leases.by_band: {}",
        "backends[0].name: rack",
        "backends[0].up: true",
    ]


@pytest.mark.usefixtures("running")
def test_the_answer_is_json_for_who_asks(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["status", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == ANSWER


@pytest.mark.usefixtures("folder")
def test_where_no_bridge_runs_the_error_says_so(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["status"]) == Exit.UNREACHABLE
    assert "start it with compute-bridge run" in capsys.readouterr().err
