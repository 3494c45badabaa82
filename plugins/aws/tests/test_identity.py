"""Nothing is done under an account that the table does not pin, and nothing of another's environment is taken."""

import pytest
from attrs import evolve

from compute_bridge.model.boot import SecretRef
from compute_bridge.ports.errors import CredentialsError, UnavailableError
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.config import DEFAULT_CHAIN
from compute_bridge_aws.testing.world import KEY_ID, SECRET, TOKEN, AwsWorld

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


async def test_a_developer_s_environment_is_not_looked_at(bare: AwsWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    async with bare.open() as backend:
        assert await backend.list_owned() == ()


async def test_the_sdk_s_own_chain_is_taken_where_the_table_says_so(bare: AwsWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    nothing = SecretRef("")
    bare.use(
        evolve(
            bare.config,
            access_key_id=nothing,
            secret_access_key=nothing,
            session_token=nothing,
            credentials=DEFAULT_CHAIN,
        )
    )
    async with bare.open() as backend:
        assert await backend.list_owned() == ()
