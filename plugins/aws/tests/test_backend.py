"""The conformance kit over the real SDK and the wire-level fake, unchanged."""

import pytest
from attrs import evolve

from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.world import World
from compute_bridge_aws.testing.world import AwsWorld


@pytest.mark.needs("sshd")
class TestAwsBackend(BackendConformance):
    @pytest.fixture
    def world(self, stocked: AwsWorld) -> World:
        # Nothing but spot capacity is announced.
        stocked.use(evolve(stocked.config, spot=True))
        return stocked
