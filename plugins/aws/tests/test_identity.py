"""Nothing is done under an account that the table does not pin, and nothing of another's environment is taken."""

import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from compute_bridge.model.boot import SecretRef
from compute_bridge.ports.errors import CredentialsError, UnavailableError
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.config import DEFAULT_CHAIN
from compute_bridge_aws.sdk import Access, Sdk
from compute_bridge_aws.testing.world import FOREIGN_KEY_ID, KEY_ID, SECRET, TOKEN, AwsWorld

pytestmark = pytest.mark.anyio


async def test_under_another_account_nothing_is_done(bare: AwsWorld):
    bare.use(evolve(bare.config, access_key_id=SecretRef("env:FOREIGN_KEY_ID")))
    async with bare.open_backend() as backend:
        assert isinstance(backend, AwsBackend)
        for ask in (backend.fetch_catalog, backend.offers, backend.list_owned):
            with pytest.raises(CredentialsError, match=r"of account 999999999999, and the table pins 123456789012"):
                await ask()

    assert {call.op for call in bare.physics.calls} == {"GetCallerIdentity"}


async def test_the_identity_is_asked_once(bare: AwsWorld):
    async with bare.open() as backend:
        await backend.list_owned()
        await backend.offers()

    assert bare.physics.count("GetCallerIdentity") == 1


async def test_opening_asks_nothing(bare: AwsWorld):
    async with bare.open_backend():
        pass

    assert bare.physics.calls == ()


async def test_an_identity_that_is_not_told_is_silence(bare: AwsWorld):
    bare.physics.go_down()
    async with bare.open_backend() as backend:
        with pytest.raises(UnavailableError):
            await backend.list_owned()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home folder, and an environment without a word for AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Were the chain to go on to the metadata of a machine at AWS, it would be asked here and nowhere else.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def write_profile(folder: Path, profile: str, key_id: str, secret: str, more: str = "") -> None:
    (folder / ".aws").mkdir()
    keys = f"aws_access_key_id = {key_id}\naws_secret_access_key = {secret}\naws_session_token = {TOKEN}\n"
    (folder / ".aws" / "credentials").write_text(f"[{profile}]\n{keys}")
    (folder / ".aws" / "config").write_text(f"[default]\n{more}")


def use_chain(world: AwsWorld) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("access_key_id", "secret_access_key", "session_token"), SecretRef(""))
    world.use(evolve(world.config, default_chain=DEFAULT_CHAIN, **nothing))


async def test_a_developer_s_environment_is_not_looked_at(bare: AwsWorld, home: Path, monkeypatch: pytest.MonkeyPatch):
    # Each of these alone would let the calls fail or go elsewhere.
    write_profile(home, "default", "AKIASOMEBODYELSE0000", "x", "use_fips_endpoint = true\nca_bundle = /nowhere\n")
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    monkeypatch.setenv("AWS_DEFAULTS_MODE", "no-such-mode")
    async with bare.open() as backend:
        assert await backend.list_owned() == ()


def test_no_setting_of_the_environment_is_taken_beside_a_key_of_the_table(home: Path, monkeypatch: pytest.MonkeyPatch):
    quiet = settings_of(Access(KEY_ID, SECRET))
    for _, variables, *_ in Sdk(Access(KEY_ID, SECRET))._session._session.SESSION_VARIABLES.values():
        for variable in [variables] if isinstance(variables, str) else variables or ():
            monkeypatch.setenv(variable, "1")

    assert quiet == settings_of(Access(KEY_ID, SECRET))


def settings_of(access: Access) -> dict[str, object]:
    session = Sdk(access)._session._session
    return {name: session.get_config_variable(name) for name in session.SESSION_VARIABLES}


def test_the_models_of_a_developer_are_not_read():
    loader = Sdk(Access(KEY_ID, SECRET))._session._session.get_component("data_loader")

    assert [path for path in loader.search_paths if ".aws" in path] == []


async def test_the_sdk_s_own_chain_is_taken_where_the_table_says_so(
    bare: AwsWorld, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    use_chain(bare)
    async with bare.open() as backend:
        assert await backend.list_owned() == ()


@pytest.mark.parametrize("profile", ["default", "bridge"])
async def test_the_chain_finds_a_profile_in_the_home_folder(
    bare: AwsWorld, home: Path, monkeypatch: pytest.MonkeyPatch, profile: str
):
    write_profile(home, profile, KEY_ID, SECRET)
    if profile != "default":
        monkeypatch.setenv("AWS_PROFILE", profile)
    use_chain(bare)
    async with bare.open() as backend:
        assert await backend.list_owned() == ()


async def test_what_the_chain_finds_is_held_to_the_pinned_account(bare: AwsWorld, home: Path):
    write_profile(home, "default", FOREIGN_KEY_ID, SECRET)
    use_chain(bare)
    async with bare.open_backend() as backend:
        with pytest.raises(CredentialsError, match="of account 999999999999"):
            await backend.list_owned()


async def test_a_chain_that_finds_nothing_is_refused_credentials(bare: AwsWorld, home: Path):
    use_chain(bare)
    async with bare.open_backend() as backend:
        with pytest.raises(CredentialsError, match="NoCredentialsError"):
            await backend.list_owned()

    assert bare.physics.calls == ()


async def test_a_profile_that_is_not_there_is_refused_credentials(
    bare: AwsWorld, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    use_chain(bare)
    async with bare.open_backend() as backend:
        with pytest.raises(CredentialsError, match="ProfileNotFound"):
            await backend.list_owned()
