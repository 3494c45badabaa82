"""What every test of this plugin stands on."""

from collections.abc import Iterator

import pytest

from compute_bridge_aws.testing.world import AwsWorld


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"


@pytest.fixture
def account() -> Iterator[AwsWorld]:
    """Run an account at the fake AWS."""
    with AwsWorld() as world:
        yield world
