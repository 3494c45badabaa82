"""Whose credentials are used: the table's secret and nothing else; or, in so many words, what the machine has."""

import os
from pathlib import Path

import pytest
from attrs import evolve

from compute_bridge.model.boot import SecretRef
from compute_bridge.ports.errors import CredentialsError
from compute_bridge_azure.config import Credential
from compute_bridge_azure.testing.world import CLIENT, PRINCIPAL, TENANT, AzureWorld

pytestmark = pytest.mark.anyio

AZ = """#!/bin/sh
touch {asked}
echo '{{"accessToken": "{token}", "expires_on": 4102444800, "expiresOn": "2100-01-01 00:00:00.000000"}}'
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home folder, and an environment without a word for Azure."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "MSAL_", "IDENTITY_", "MSI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def name_principal(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", secret)


def log_in(home: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> Path:
    """Put an ``az`` first on the path that is logged in; return the file that it leaves once it is asked."""
    asked = home / "asked"
    (home / "az").write_text(AZ.format(asked=asked, token=token))
    (home / "az").chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    return asked


def use_chain(world: AzureWorld, monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    # One link of the chain: the others would ask the metadata of a machine at Azure, which is not on loopback.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", link)
    world.config = evolve(world.config, credential=Credential.DEFAULT_CHAIN, client="", client_secret=SecretRef(""))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AZURE_CLIENT_SECRET", "another secret"),
        ("AZURE_AUTHORITY_HOST", "https://127.0.0.1:9"),
        ("AZURE_REGIONAL_AUTHORITY_NAME", "westeurope"),
        ("MSAL_FORCE_REGION", "westeurope"),
        ("AZURE_SDK_CLOUD_CONF", "no-such-cloud"),
        ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential"),
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("REQUESTS_CA_BUNDLE", "/nowhere"),
    ],
)
async def test_the_environment_is_not_looked_at_beside_a_secret_of_the_table(
    bare: AzureWorld, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
):
    # Each of these would let the calls fail, or go elsewhere.
    name_principal(monkeypatch, bare.tokens.secret)
    monkeypatch.setenv(variable, value)
    asked = log_in(home, monkeypatch, "a.b.c")
    async with bare.open() as backend:
        assert await backend.list_owned() == ()

    assert not asked.exists()


async def test_the_chain_finds_a_principal_in_the_environment(
    bare: AzureWorld, home: Path, monkeypatch: pytest.MonkeyPatch
):
    name_principal(monkeypatch, bare.tokens.secret)
    use_chain(bare, monkeypatch, "EnvironmentCredential")
    async with bare.open() as backend:
        assert await backend.list_owned() == ()


async def test_the_chain_asks_the_command_line_tool(bare: AzureWorld, home: Path, monkeypatch: pytest.MonkeyPatch):
    asked = log_in(home, monkeypatch, bare.tokens._issue())
    use_chain(bare, monkeypatch, "AzureCliCredential")
    async with bare.open() as backend:
        assert await backend.list_owned() == ()

    assert asked.exists()


async def test_what_the_chain_finds_is_held_to_the_pinned_principal(
    bare: AzureWorld, home: Path, monkeypatch: pytest.MonkeyPatch
):
    name_principal(monkeypatch, bare.tokens.secret)
    use_chain(bare, monkeypatch, "EnvironmentCredential")
    bare.config = evolve(bare.config, principal=PRINCIPAL.replace("2", "3"))
    async with bare.open_backend() as backend:
        with pytest.raises(CredentialsError, match="not of tenant and principal"):
            await backend.list_owned()

    assert {call.op for call in bare.physics.calls} == {"Configuration", "Token"}


@pytest.mark.parametrize("link", ["EnvironmentCredential", "AzureCliCredential"])
async def test_a_chain_that_finds_nothing_is_refused_credentials(
    bare: AzureWorld, home: Path, monkeypatch: pytest.MonkeyPatch, link: str
):
    monkeypatch.setenv("PATH", str(home))
    use_chain(bare, monkeypatch, link)
    async with bare.open_backend() as backend:
        with pytest.raises(CredentialsError, match=r"NoToken: .* default-chain finds"):
            await backend.list_owned()

    assert bare.physics.calls == ()
