"""The whole main job as the README runs it, and what is left of it however it ends."""

import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from compute_bridge.model.units import charge

pytestmark = [pytest.mark.needs("setsid", "flock"), pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "compute_bridge", "demo")
ENDED_WITHIN_S = 60
INTERRUPTED = 130
UNVERIFIED = 6


@pytest.fixture
def scratch() -> Iterator[Path]:
    # Not tmp_path: the demo's folder becomes part of the addresses of sockets, which are short.
    folder = Path(tempfile.mkdtemp(prefix="cb-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stage() -> Iterator[Path]:
    """Give a folder for the one demo that several tests look at."""
    folder = Path(tempfile.mkdtemp(prefix="cb-"))
    yield folder
    shutil.rmtree(folder)


@frozen
class Played:
    """A demo that was played to its end, and the folder that it was told to keep."""

    status: int
    told: dict[str, Any]
    progress: str
    folder: Path


@pytest.fixture(scope="module")
def played(stage: Path) -> Played:
    ended = subprocess.run(
        [*DEMO, "--json", "--keep"], env=environment(stage), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    [folder] = stage.iterdir()
    return Played(ended.returncode, json.loads(ended.stdout), ended.stderr, folder)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which everything but the installation itself lies in ``folder``."""
    return {**os.environ, "TMPDIR": str(folder), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def living(folder: Path) -> list[str]:
    """Return the command lines of processes that name ``folder``, in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                texts = [(entry / name).read_bytes() for name in ("cmdline", "environ")]
            except OSError:
                continue  # gone, or not ours
            if any(os.fsencode(folder) in text for text in texts):
                found.append(texts[0].replace(b"\0", b" ").decode())
    return found


# --- the job ----------------------------------------------------------------------------------


def test_every_part_is_verified(played: Played):
    told = played.told["verified"]

    assert set(told) >= {"card", "quote", "clearing", "receipt", "log", "ledger"}
    assert set(told.values()) == {True}


def test_the_lower_of_two_different_rates_wins(played: Played):
    rates = {bid["provider"]: bid["rate_micros"] for bid in played.told["bids"]}

    assert len(set(rates.values())) == 2
    assert played.told["winner"] == min(rates, key=lambda provider: rates[provider])
    assert played.told["rate_micros"] == min(rates.values())


def test_the_command_ran_over_ssh_with_a_pinned_host_key(played: Played):
    ssh = played.told["ssh"]

    assert ssh["host_key_pinned"] is True
    assert ssh["exit_status"] == 0
    assert ssh["stdout"].startswith("905644000 50000000\ndone, as ")


def test_the_charge_is_rate_times_billable_time_rounded_up(played: Played):
    told = played.told

    assert told["charge_micros"] == charge(told["rate_micros"], told["billable_ms"])
    assert told["charge_micros"] > 0
    assert told["currency"] == "EUR"


def test_use_was_metered_and_its_source_is_told(played: Played):
    core_ms = played.told["usage"]["core_ms"]

    assert core_ms["value"] > 0
    assert core_ms["source"] in ("process-tree", "cgroup-v1", "cgroup-v2")


def test_ids_the_backend_and_the_development_mark_are_told(played: Played):
    told = played.told

    assert len(bytes.fromhex(told["request_id"])) == len(bytes.fromhex(told["grant_id"])) == 32
    assert told["backend"] in ("rack-north", "rack-south")
    assert told["development_attestation"] is True


def test_progress_is_told_apart_from_the_result(played: Played):
    for word in ("rack-north answers", "market of bridge-β is open", "sells", "round", "checked the ledger"):
        assert word in played.progress


def test_no_process_is_left_at_the_end(played: Played):
    assert living(played.folder) == []


def test_the_account_for_people_ends_with_what_was_paid_and_why(scratch: Path):
    ended = subprocess.run(DEMO, env=environment(scratch), capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "ceil(" in ended.stdout
    assert "won round" in ended.stdout
    assert outline(transcript()) == outline(ended.stdout)
    assert list(scratch.iterdir()) == []
    assert living(scratch) == []


def transcript() -> str:
    """Return the transcript in the README."""
    text = (ROOT / "README.md").read_text()
    return text.partition("$ make demo\n")[2].partition("```")[0]


def outline(text: str) -> set[str]:
    """Return how each line begins, without what differs from run to run and machine to machine."""
    named = re.sub(r"(bridge|rack)-(north|south)", r"\1-one", re.sub(r"\b[0-9a-f]{12}\b|\S+@", "0", text))
    lines = (line.partition(" s] ")[2] or line for line in named.splitlines())
    return {re.split(r"[0-9/@`]|, as ", line, maxsplit=1)[0].strip() for line in lines} - {""}


def test_no_openssh_is_needed(scratch: Path):
    ended = subprocess.run(
        [*DEMO, "--json", "--builtin-ssh"], env=environment(scratch), capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    ssh = json.loads(ended.stdout)["ssh"]
    assert "asyncssh" in ssh["server"]
    assert "asyncssh" in ssh["client"]
    assert ssh["host_key_pinned"] is True


# --- what is verified can fail ------------------------------------------------------------------


@pytest.fixture
def copied(played: Played, scratch: Path) -> Path:
    """Give a copy of the folder of a demo, whose records may be changed."""
    return Path(shutil.copytree(played.folder, scratch / "copy", ignore=shutil.ignore_patterns("*.wake", "*.sock")))


def verify(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compute_bridge", "verify", *arguments, "--json", "--config", "requester.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def subjects(told: dict[str, Any]) -> dict[str, str]:
    return {
        "card": told["card_hash"],
        "clearing": str(told["round"]),
        "grant": told["grant_id"],
        "receipt": told["request_id"],
        "log": told["grant_id"],
        "ledger": told["grant_id"],
    }


def test_a_copy_of_the_records_is_verified_by_anybody(played: Played, copied: Path):
    for part, subject in subjects(played.told).items():
        ended = verify(copied, part, subject)

        assert ended.returncode == 0, f"{part}: {ended.stdout}{ended.stderr}"
        assert json.loads(ended.stdout)["verified"] is True


@pytest.mark.parametrize(
    ("stream", "part"),
    [
        ("cards", "card"),
        ("cards", "grant"),
        ("clearing", "clearing"),
        ("clearing-inputs", "clearing"),
        ("verdicts", "clearing"),
        ("requests", "clearing"),
        ("almanac", "clearing"),
        ("grant-stream", "grant"),
        ("logs", "log"),
        ("logs", "ledger"),
        ("settlements", "ledger"),
    ],
)
def test_records_with_a_flipped_bit_are_not_verified(played: Played, copied: Path, stream: str, part: str):
    flip(copied / "market" / "network.db", stream)

    ended = verify(copied, part, subjects(played.told)[part])

    assert ended.returncode == UNVERIFIED, f"{ended.stdout}{ended.stderr}"


def flip(network: Path, stream: str) -> None:
    """Flip one bit in the middle of every record of a stream."""
    with closing(sqlite3.connect(network)) as records, records:
        [topic] = records.execute("SELECT id FROM topics WHERE name = ?", (f"s/{stream}",)).fetchone()
        found = records.execute("SELECT rowid, record FROM entries WHERE topic = ?", (topic,)).fetchall()
        assert found
        for row, record in found:
            changed = bytearray(record)
            changed[len(changed) // 2] ^= 1
            records.execute("UPDATE entries SET record = ? WHERE rowid = ?", (bytes(changed), row))


# --- however it ends ----------------------------------------------------------------------------


@contextmanager
def playing_until(lines: int, scratch: Path) -> Iterator["subprocess.Popen[str]"]:
    """Play a demo that has told that many lines of progress; it is over when the context is."""
    with subprocess.Popen(
        [*DEMO], env=environment(scratch), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as playing:
        assert playing.stdout is not None
        told = [playing.stdout.readline() for _ in range(lines)]
        assert all(told), "".join(told)
        try:
            yield playing
        finally:
            playing.kill()


@pytest.mark.parametrize("lines", [1, 2, 3, 4, 5, 6, 8, 10, 12, 15])
def test_an_interrupt_at_any_point_leaves_nothing(scratch: Path, lines: int):
    with playing_until(lines, scratch) as playing:
        playing.send_signal(signal.SIGINT)
        playing.communicate(timeout=ENDED_WITHIN_S)

    assert playing.returncode == INTERRUPTED
    assert list(scratch.iterdir()) == []
    assert living(scratch) == []


def test_a_second_interrupt_does_not_hurry_it_into_leaving_something(scratch: Path):
    with playing_until(8, scratch) as playing:
        for _ in range(3):
            playing.send_signal(signal.SIGINT)
        playing.communicate(timeout=ENDED_WITHIN_S)

    assert list(scratch.iterdir()) == []
    assert living(scratch) == []


@pytest.mark.parametrize("lines", [1, 4, 8, 12])
def test_a_killed_demo_leaves_nothing_either(scratch: Path, lines: int):
    with playing_until(lines, scratch) as playing:
        broom = os.pidfd_open(broom_of(playing.pid))
        playing.kill()
        playing.communicate(timeout=ENDED_WITHIN_S)
    with os.fdopen(broom, "rb", buffering=0) as ending:
        ended, _, _ = select.select([ending], [], [], ENDED_WITHIN_S)

    assert ended
    assert list(scratch.iterdir()) == []
    assert living(scratch) == []


def broom_of(pid: int) -> int:
    """Return the process that sweeps last, when everything else is gone."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"compute_bridge_demo.broom" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("the demo has no broom")


def test_a_role_that_dies_early_fails_the_demo_with_its_last_words(scratch: Path):
    with playing_until(6, scratch) as playing:
        os.kill(market_of(scratch), signal.SIGKILL)
        output, _ = playing.communicate(timeout=ENDED_WITHIN_S)

    assert playing.returncode == 1, output
    assert list(scratch.iterdir()) == []


def market_of(folder: Path) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = (entry / "cmdline").read_bytes().split(b"\0") if (entry / "cmdline").exists() else []
            if words[1:5] == [b"-m", b"compute_bridge", b"market", b"serve"] and any(
                word.startswith(os.fsencode(folder)) for word in words
            ):
                return int(entry.name)
    raise AssertionError("no market is running")
