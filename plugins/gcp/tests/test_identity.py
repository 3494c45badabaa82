"""Whose credentials are used: the table's key and nothing of the environment, or, in so many words, what is there."""

import json
import os
from importlib import import_module
from pathlib import Path

import pytest
from attrs import evolve

from compute_bridge.model.boot import SecretRef
from compute_bridge.ports.errors import BootError, CredentialsError
from compute_bridge_gcp.config import DEFAULT_CHAIN
from compute_bridge_gcp.testing.stock import ACCOUNT
from compute_bridge_gcp.testing.tokens import key_file
from compute_bridge_gcp.testing.world import GcpWorld, config_for

pytestmark = pytest.mark.anyio

OTHER = "somebody@else.iam.gserviceaccount.com"
PERSON = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home folder, and an environment without a word for Google; no machine's metadata is asked."""
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "CLOUDSDK_", "GCE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path


def place(file: Path, key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(key)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


def use_chain(world: GcpWorld) -> None:
    world.reconfigure(credentials=SecretRef(""), default_chain=DEFAULT_CHAIN)


async def test_the_environment_is_not_looked_at_beside_a_key_of_the_table(
    bare_world: GcpWorld, home: Path, monkeypatch: pytest.MonkeyPatch
):
    # Each of these alone would let the calls fail, or be somebody else's.
    place(home / "key.json", key_file(OTHER, number=1), monkeypatch)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another-project")
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "another-project")
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.com")
    async with bare_world.open() as backend:
        assert await backend.list_owned() == ()


def test_the_environment_does_not_say_where_the_vendor_answers(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.com")
    sdk = import_module("compute_bridge_gcp.sdk")
    table = evolve(config_for("http://127.0.0.1:9"), compute_endpoint="")
    client = sdk.Sdk(table, key_file(ACCOUNT))._client(sdk.compute_v1.InstancesClient)

    assert client.api_endpoint == "compute.googleapis.com"


async def test_the_chain_finds_a_key_file_where_the_table_says_so(
    bare_world: GcpWorld, home: Path, monkeypatch: pytest.MonkeyPatch
):
    place(home / "key.json", key_file(ACCOUNT), monkeypatch)
    use_chain(bare_world)
    async with bare_world.open() as backend:
        assert await backend.list_owned() == ()


async def test_the_chain_finds_a_key_file_in_the_home_folder(bare_world: GcpWorld, home: Path):
    folder = home / ".config" / "gcloud"
    folder.mkdir(parents=True)
    (folder / "application_default_credentials.json").write_bytes(key_file(ACCOUNT))
    use_chain(bare_world)
    async with bare_world.open() as backend:
        assert await backend.list_owned() == ()


@pytest.mark.parametrize("found", [key_file(OTHER), json.dumps(PERSON).encode()], ids=["another account", "a person"])
async def test_what_the_chain_finds_is_held_to_the_pinned_account(
    bare_world: GcpWorld, home: Path, monkeypatch: pytest.MonkeyPatch, found: bytes
):
    place(home / "key.json", found, monkeypatch)
    use_chain(bare_world)
    async with bare_world.open_backend() as backend:
        with pytest.raises(CredentialsError):
            await backend.list_owned()

    assert bare_world.physics.calls == ()


@pytest.mark.parametrize("file", ["", "/nowhere/key.json"])
async def test_a_chain_that_finds_nothing_stops_the_start(
    bare_world: GcpWorld, home: Path, monkeypatch: pytest.MonkeyPatch, file: str
):
    if file:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
    use_chain(bare_world)
    with pytest.raises(BootError, match="no credentials of a service account"):
        async with bare_world.open_backend():
            pass
