"""A backend over the shared room of clouds keeps every promise that the kit tests, through a wire and real SSH."""

import pytest
from toycloud.world import ToyWorld

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


@pytest.mark.needs("sshd")
class TestToyFaults(CloudFaults):
    @pytest.fixture
    def world(self):
        with ToyWorld(propagation_ms=4000) as world:
            yield world
