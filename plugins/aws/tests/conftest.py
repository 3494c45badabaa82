"""What every test of this plugin stands on."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from attrs import evolve

from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.sdk import Access, Sdk
from compute_bridge_aws.testing.world import KEY_ID, SECRET, TOKEN, AwsWorld


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"


@pytest.fixture
def account() -> Iterator[AwsWorld]:
    """Run an account at the fake AWS, with guests."""
    with AwsWorld() as world:
        yield world


@pytest.fixture
def bare() -> Iterator[AwsWorld]:
    """Run an account whose machines nobody can log in to."""
    with AwsWorld(boots_guests=False) as world:
        yield world


@pytest.fixture
def quick() -> Iterator[AwsWorld]:
    """Run one of those in which five minutes are over in a moment, with metrics."""
    with AwsWorld(boots_guests=False, speed=2000) as world:
        world.use(evolve(world.config, metrics=True))
        yield world


@pytest.fixture
async def backend(account: AwsWorld) -> AsyncIterator[AwsBackend]:
    """Open a backend that sells by its own catalog."""
    async with account.open() as opened:
        assert isinstance(opened, AwsBackend)
        yield opened


@pytest.fixture
def sdk() -> Callable[[AwsWorld], Sdk]:
    """Return a maker of the slice over an account, for tests of the fake."""
    return lambda world: Sdk(Access(KEY_ID, SECRET, TOKEN, endpoint_url=world.server.url))
