"""What every test of this plugin stands on: a project at a fake Compute Engine."""

from collections.abc import Generator

import pytest

from compute_bridge_gcp.testing.world import GcpWorld


@pytest.fixture
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"


@pytest.fixture
def world() -> Generator[GcpWorld]:
    """Return a fresh project, and see afterwards that its fake had no bug."""
    with GcpWorld() as world:
        yield world
    assert world.fake.wire.errors == []


@pytest.fixture
def bare_world() -> Generator[GcpWorld]:
    """Return a project whose machines have no guests, so that thousands cost nothing."""
    with GcpWorld(has_guests=False) as world:
        yield world
    assert world.fake.wire.errors == []
