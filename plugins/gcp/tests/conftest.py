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


@pytest.fixture
def metered() -> Generator[GcpWorld]:
    """Return one of those in which an hour is over in two seconds, by a table that wants metrics."""
    with GcpWorld(has_guests=False, speed=2000) as world:
        world.reconfigure(metrics=True)
        yield world
    assert world.fake.wire.errors == []
