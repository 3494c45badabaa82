"""``compute-bridge sweep``: what a running bridge answers, laid out for people or as JSON."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from crashkit.boot_text import BOOT_TEXT

STRAY = {
    "backend": "rack",
    "instance": "m-7",
    "token": "ab" * 6,
    "remains": "",
    "age_ms": 1_260_999,
    "grant": "cd" * 32,
    "action": "reap",
    "reason": "reapable",
    "detail": "the market has settled its grant",
}
ANSWER: dict[str, Any] = {
    "acted": False,
    "strays": [STRAY, STRAY | {"instance": "m-8", "grant": "", "action": "leave", "reason": "not-reaped-mac"}],
    "missing": [
        {
            "backend": "rack",
            "lease": "ef" * 32,
            "instance": "m-9",
            "for_ms": 60_000,
            "action": "wait",
            "reason": "missing",
            "detail": "not yet",
        }
    ],
    "twins": [{"backend": "rack", "lease": "ef" * 32, "instances": ["m-1", "m-2"]}],
    "silent": [{"backend": "cloud", "reason": "unavailable", "detail": "no answer"}],
    "adopted": 3,
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


def test_without_a_word_of_agreement_the_bridge_is_asked_for_the_plan(
    running: list[bytes], capsys: pytest.CaptureFixture[str]
):
    assert dispatch(["sweep"]) == Exit.OK
    assert running == [b'{"ask": "sweep"}\n']
    assert capsys.readouterr().out.splitlines() == [
        "rack: stray m-7, of grant cdcdcdcdcdcd, seen for 1260 s: reap [reapable] the market has settled its grant",
        "rack: stray m-8 seen for 1260 s: leave [not-reaped-mac] the market has settled its grant",
        "rack: lease efefefefefef misses m-9 for 60 s: wait [missing] not yet",
        "rack: lease efefefefefef has the machines m-1, m-2; none is ended, look at them",
        "cloud: silent, its leases stand [unavailable] no answer",
        "3 machines of open leases, 2 strays; --yes would act on 1 of them",
    ]


def test_with_yes_the_bridge_is_asked_to_act(running: list[bytes]):
    assert dispatch(["sweep", "--yes"]) == Exit.OK
    assert running == [b'{"ask": "sweep", "act": true}\n']


@pytest.mark.usefixtures("running")
def test_the_answer_is_json_for_who_asks(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["sweep", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == ANSWER


@pytest.mark.usefixtures("folder")
def test_where_no_bridge_runs_the_error_says_so_and_how_to_start_one(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["sweep"]) == Exit.UNREACHABLE
    assert "start it with compute-bridge run" in capsys.readouterr().err
