"""``compute-bridge plugins``: what is installed, and whether it works."""

import json
import sys
from pathlib import Path

import pytest

from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch

OURS = {
    "memory": "compute-bridge",
    "sqlite": "compute-bridge",
    "direct": "compute-bridge",
    "software": "compute-bridge",
    "availability-first": "compute-bridge-routing",
    "baremetal": "compute-bridge-baremetal",
    "cheapest": "compute-bridge-routing",
    "cost-plus": "compute-bridge-rates",
    "first-fit": "compute-bridge-routing",
    "fixed": "compute-bridge-rates",
    "ledger": "compute-bridge-ledger",
    "lowest-rate": "compute-bridge-market",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "test_broken_plugin.py").write_text("1 / 0")
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[compute_bridge]\nbroken = test_broken_plugin\n")
    (info / "RECORD").write_text("test_broken_plugin.py,,\n")
    monkeypatch.delitem(sys.modules, "test_broken_plugin", raising=False)


def test_every_kind_of_ours_is_listed(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["plugins", "list", "--json"]) == Exit.OK
    rows = {row["kind"]: row["distribution"] for row in json.loads(capsys.readouterr().out)}

    assert rows.items() >= OURS.items()


def test_the_list_is_a_table(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["plugins", "list"]) == Exit.OK
    head, *rows = capsys.readouterr().out.splitlines()

    assert head.split() == ["KIND", "DISTRIBUTION", "VERSION", "MODULE"]
    assert ["fixed", "compute-bridge-rates", "0.1.0", "compute_bridge_rates.hooks"] in [row.split() for row in rows]


@pytest.mark.usefixtures("broken")
def test_the_list_names_what_would_not_load(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["plugins", "list"]) == Exit.OK
    assert "broken" in capsys.readouterr().out


def test_every_plugin_of_ours_passes_the_check(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["plugins", "check", "--json"]) == Exit.OK
    reports = {report["distribution"]: report for report in json.loads(capsys.readouterr().out)}

    assert set(reports) >= set(OURS.values())
    assert ["backends", "baremetal"] in reports["compute-bridge-baremetal"]["kinds"]
    assert reports["compute-bridge-baremetal"]["pin"].startswith("blake3:")


@pytest.mark.usefixtures("broken")
def test_a_check_reports_the_broken_and_the_sound(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["plugins", "check"]) == Exit.CONFIG
    told = capsys.readouterr().out

    assert "fault  broken 1.0 test_broken_plugin\n" in told
    assert "ZeroDivisionError" in told
    assert "ok     compute-bridge-rates 0.1.0 compute_bridge_rates.hooks\n" in told


@pytest.mark.usefixtures("broken")
def test_hook_calls_are_printed_where_they_are_traced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COMPUTE_BRIDGE_TRACE", "1")
    dispatch(["plugins", "check"])

    assert "compute-bridge: trace: hook register_backends() of distribution compute-bridge-baremetal" in (
        capsys.readouterr().err
    )
