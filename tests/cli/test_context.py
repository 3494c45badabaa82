"""What a command is called with: each door opens what it says, and says what it cannot."""

from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.cli.context import make_command_context
from compute_bridge.ports.errors import BootFileError, PluginError

CONTEXT = make_command_context(["a", "b"])


@frozen
class Table:
    path: Path
    network: dict[str, Any]


def test_a_command_gets_its_arguments():
    assert CONTEXT.arguments == ("a", "b")


def test_a_file_is_loaded_strictly(tmp_path: Path):
    (tmp_path / "market.toml").write_text('path = "x"\n[network]\nkind = "memory"\n')

    assert CONTEXT.load(tmp_path / "market.toml", Table) == Table(tmp_path / "x", {"kind": "memory"})


def test_a_table_is_structured_strictly():
    with pytest.raises(BootFileError, match=r"clearing\.pth: unknown key"):
        CONTEXT.structure({"path": "/x", "network": {}, "pth": 1}, Table, "clearing")


def test_an_installed_kind_is_found_by_its_group():
    assert CONTEXT.kind("clearing_rules", "lowest-rate").kind == "lowest-rate"
    with pytest.raises(PluginError, match="registers it among clearing_rules"):
        CONTEXT.kind("backends", "lowest-rate")


@pytest.mark.anyio
async def test_a_network_is_opened_from_its_table(tmp_path: Path):
    async with CONTEXT.open_network({"kind": "sqlite", "path": "net.sqlite"}, tmp_path) as network:
        await network.append("stream", b"1", b"record")

    assert (tmp_path / "net.sqlite").exists()


@pytest.mark.anyio
async def test_a_shuffle_is_opened_over_a_network(tmp_path: Path):
    async with (
        CONTEXT.open_network({"kind": "memory"}, tmp_path) as network,
        CONTEXT.open_shuffle({"kind": "direct"}, tmp_path, network) as shuffle,
    ):
        await shuffle.post(bytes(16), b"sealed")

        assert isinstance(network, MemoryNetwork)
        assert shuffle.anonymity == "none"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, r"network\.kind: must be given"),
        ({"kind": 5}, r"network\.kind: must be given"),
        ({"kind": "sqlite"}, r"network\.path: must be given"),
        ({"kind": "sqlite", "path": "x", "pth": "y"}, r"network\.pth: unknown key"),
    ],
)
async def test_a_wrong_network_table_is_told_by_key(tmp_path: Path, table: dict[str, Any], says: str):
    with pytest.raises(BootFileError, match=says):
        async with CONTEXT.open_network(table, tmp_path):
            pass


@pytest.mark.anyio
async def test_a_network_that_is_not_installed_says_what_to_install(tmp_path: Path):
    with pytest.raises(PluginError, match="pip install compute-bridge-nats"):
        async with CONTEXT.open_network({"kind": "nats"}, tmp_path):
            pass


def test_a_secret_is_read_by_reference(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIDE", "high")

    assert CONTEXT.read_secret("env:TIDE") == b"high"


def test_a_line_is_said(capsys: pytest.CaptureFixture[str]):
    CONTEXT.say("high water")

    assert capsys.readouterr().out == "high water\n"


def test_a_quote_verifier_is_at_hand():
    assert hasattr(CONTEXT.quote_verifier(), "verify")
