"""A backend over the shared room of clouds keeps every promise that the kit tests, through a wire and real SSH."""

import pytest
from toycloud.world import ToyWorld

from compute_bridge.cloud.settings import HostKey
from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.cloud_faults import CloudFaults


@pytest.mark.needs("sshd")
class TestToyBackend(BackendConformance):
    @pytest.fixture
    def world(self):
        with ToyWorld() as world:
            yield world


@pytest.mark.needs("sshd")
class TestToyBackendWithSlowListings(BackendConformance):
    @pytest.fixture
    def world(self):
        with ToyWorld(propagation_ms=4000) as world:
            yield world


@pytest.mark.needs("sshd", "root")
class TestToyBackendThatRotates(BackendConformance):
    @pytest.fixture
    def world(self):
        with ToyWorld(host_key=HostKey.ROTATED) as world:
            # A rotation takes real time, which is much more by the world's clock.
            world.near_end_ms = 600_000
            yield world


@pytest.mark.needs("sshd")
class TestToyFaults(CloudFaults):
    @pytest.fixture
    def world(self):
        with ToyWorld(propagation_ms=4000) as world:
            yield world
