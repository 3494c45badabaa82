"""Every way to credentials that a cloud's page documents is one that the loader and ``config check`` take."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from bootfolder import make_folder
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch

PLUGINS = Path(__file__).parents[2] / "plugins"


@frozen
class Way:
    """One documented way: lines beside the example's own, keys left out of it, and how many secrets that makes."""

    cloud: str
    told: str
    drops: tuple[str, ...]
    secrets: int

    def __str__(self) -> str:
        return f"{self.cloud}: {self.told or 'the example'}"

    @property
    def page(self) -> str:
        return (PLUGINS / self.cloud / "README.md").read_text()

    def table(self) -> str:
        """Return the page's own table, told this way; a file of a secret is one of the boot file's folder."""
        [table] = re.findall(r"```toml\n(.*?)```", self.page, re.DOTALL)
        table = table.replace("file:/etc/compute-bridge/", "file:")
        for key in self.drops:
            table, count = re.subn(rf"(?m)^{key} = .*\n", "", table)
            assert count == 1, f"the example has no {key}"
        return str(table).replace("[[backend]]\n", f"[[backend]]\n{self.told}\n", 1)


AWS_CHAIN = 'default_chain = "use whatever the SDK finds"'
GCP_CHAIN = 'default_chain = "use the default credentials of this machine"'
AZURE_CHAIN = 'credential = "default-chain"'
AWS_KEYS = ("access_key_id", "secret_access_key")
WAYS = [
    Way("aws", "", (), 3),
    Way("aws", 'session_token = "env:BRIDGE_AWS_TOKEN"', (), 4),
    Way("aws", AWS_CHAIN, AWS_KEYS, 1),
    Way("gcp", "", (), 2),
    Way("gcp", GCP_CHAIN, ("credentials",), 1),
    Way("azure", "", (), 2),
    Way("azure", AZURE_CHAIN, ("client", "client_secret"), 1),
]


def write(folder: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a boot file of this table, and every secret that it names."""
    boot = make_folder(folder) / "bridge.toml"
    boot.write_text(boot.read_text().partition("[[backend]]")[0] + table)
    for name in re.findall(r'"env:(\w+)"', table):
        monkeypatch.setenv(name, "something")
    for name in re.findall(r'"file:([\w.-]+)"', table):
        (folder / name).write_text("something")
        (folder / name).chmod(0o600)
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_documented_way_passes_the_check(way, tmp_path, monkeypatch, capsys):
    write(tmp_path, way.table(), monkeypatch)
    code = dispatch(["config", "check", "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)

    assert (Exit.OK, way.secrets) == (code, told.get("secrets")), told


@pytest.mark.parametrize("way", [way for way in WAYS if "chain" in way.told], ids=str)
def test_the_page_quotes_the_words(way):
    assert f"`{way.told}`" in way.page


def test_a_secret_of_the_page_that_is_not_there_fails_the_check(tmp_path, monkeypatch, capsys):
    write(tmp_path, WAYS[0].table(), monkeypatch)
    monkeypatch.delenv("BRIDGE_AWS_KEY_ID")

    assert Exit.CONFIG == dispatch(["config", "check"])
    assert "backend[0].access_key_id: secret env:BRIDGE_AWS_KEY_ID" in capsys.readouterr().err


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_secret_that_is_left_out_is_shown_as_empty(way, tmp_path, monkeypatch, capsys):
    write(tmp_path, way.table(), monkeypatch)
    assert Exit.OK == dispatch(["config", "show"])
    told = capsys.readouterr().out

    assert "not shown" not in told
    if way.cloud == "aws" and "session_token" not in way.told:
        assert 'backend[0].session_token = ""\n' in told


@pytest.mark.parametrize(
    ("cloud", "told", "drops", "says"),
    [
        ("aws", "", ("access_key_id",), "access_key_id must be given"),
        ("aws", "", ("secret_access_key",), "secret_access_key must be given"),
        ("aws", "", AWS_KEYS, f"access_key_id and secret_access_key must be given, or say {AWS_CHAIN}"),
        (
            "aws",
            AWS_CHAIN,
            (),
            "give an access key or default_chain, not both: leave out access_key_id and secret_access_key",
        ),
        ("gcp", "", ("credentials",), f"credentials must be given, or say {GCP_CHAIN}"),
        ("gcp", GCP_CHAIN, (), "give credentials or default_chain, not both"),
        ("azure", "", ("client",), "client-secret needs client and client_secret; or say " + AZURE_CHAIN),
        ("azure", AZURE_CHAIN, (), "default-chain takes neither client nor client_secret: leave them out"),
    ],
)
def test_what_is_missing_or_too_much_is_named(cloud, told, drops, says, tmp_path, monkeypatch, capsys):
    write(tmp_path, Way(cloud, told, drops, 0).table(), monkeypatch)

    assert Exit.CONFIG == dispatch(["config", "check"])
    error = capsys.readouterr().err
    assert f"{tmp_path / 'bridge.toml'}: 1 fault" in error
    assert re.search(rf"  backend\[0\]\.\w+: {re.escape(says)}", error), error


@pytest.mark.parametrize(
    ("cloud", "key"),
    [("aws", "access_key_id"), ("aws", "secret_access_key"), ("gcp", "credentials"), ("azure", "client_secret")],
)
def test_a_secret_in_plain_text_is_refused_and_not_shown(cloud, key, tmp_path, monkeypatch, capsys):
    table = re.sub(rf'(?m)^{key} = ".*"$', f'{key} = "my-plain-secret"', Way(cloud, "", (), 0).table())
    write(tmp_path, table, monkeypatch)

    assert Exit.CONFIG == dispatch(["config", "check"])
    error = capsys.readouterr().err
    assert f"backend[0].{key}: must be a reference to a secret" in error
    assert "my-plain-secret" not in error
