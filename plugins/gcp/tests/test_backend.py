"""Compute Engine behind the port: the fake's REST protocol on loopback, the vendor's own SDK, real SSH guests."""

from collections.abc import Generator

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge_gcp.testing.world import GcpWorld


@pytest.mark.needs("sshd")
class TestGcpBackend(BackendConformance):
    """The suite, unchanged."""

    @pytest.fixture
    def world(self) -> Generator[GcpWorld]:
        with GcpWorld() as world:
            # Nothing but spot capacity is announced.
            world.reconfigure(spot=True)
            yield world
        assert world.fake.wire.errors == []
