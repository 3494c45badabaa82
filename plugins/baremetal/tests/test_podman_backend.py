"""The driver ``podman`` keeps every promise of a backend, over real SSH and with real containers."""

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.world import World
from compute_bridge_baremetal.testing.podman_world import PodmanWorld


@pytest.mark.needs("sshd", "openssh-client", "podman", "nft")
class TestPodmanBackend(BackendConformance):
    @pytest.fixture
    def world(self, pods: PodmanWorld) -> World:
        return pods
