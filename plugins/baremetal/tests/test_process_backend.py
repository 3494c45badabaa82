"""The driver ``process`` keeps every promise of a backend, over real SSH."""

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.world import World
from compute_bridge_baremetal.testing.world import RackWorld


@pytest.mark.needs("sshd", "openssh-client")
class TestProcessBackend(BackendConformance):
    @pytest.fixture
    def world(self, rack: RackWorld) -> World:
        return rack
