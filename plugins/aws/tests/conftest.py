"""What every test of this plugin stands on."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from attrs import evolve

from compute_bridge.model.catalog import Catalog
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


_CATALOGS: dict[str, Catalog] = {}


@asynccontextmanager
async def _open_stocked(world: AwsWorld) -> AsyncGenerator[AwsBackend]:
    """Open a backend by the catalog that was read first for its table: it takes more calls than most tests."""
    async with world.open_backend() as backend:
        assert isinstance(backend, AwsBackend)
        table = repr(evolve(world.config, endpoint_url=""))
        if table not in _CATALOGS:
            _CATALOGS[table] = await backend.fetch_catalog()
        backend.use_catalog(_CATALOGS[table])
        yield backend


class _Stocked(AwsWorld):
    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AwsBackend]:
        async with _open_stocked(self) as backend:
            yield backend


@pytest.fixture
def stocked() -> Iterator[AwsWorld]:
    """Run one of those whose backends sell by the catalog that was read first for their table."""
    with _Stocked() as world:
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
    """Open a backend that sells by the catalog of its table."""
    async with _open_stocked(account) as opened:
        yield opened


@pytest.fixture
def sdk() -> Callable[[AwsWorld], Sdk]:
    """Return a maker of the slice over an account, for tests of the fake."""
    return lambda world: Sdk(Access(KEY_ID, SECRET, TOKEN, endpoint_url=world.server.url))
