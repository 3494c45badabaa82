"""What every test of this plugin stands on."""

from collections.abc import Iterator

import pytest

from compute_bridge_azure.testing.world import AzureWorld


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"


@pytest.fixture
def world() -> Iterator[AzureWorld]:
    """Run a subscription whose guests are real SSH servers."""
    with AzureWorld() as world:
        yield world
        assert world.arm.server.errors == []


@pytest.fixture
def bare() -> Iterator[AzureWorld]:
    """Run a subscription whose guests nobody dials."""
    with AzureWorld(guests=False) as world:
        yield world
        assert world.arm.server.errors == []
