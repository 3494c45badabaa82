"""The suite that every network passes. Subclass it, give it a world, change nothing::

class TestMyNetwork(NetworkConformance):
    @pytest.fixture
    def world(self, tmp_path):
        return MyWorld(tmp_path)
"""

import pytest

from compute_bridge.testing.network_collections import CollectionConformance
from compute_bridge.testing.network_follow import FollowConformance
from compute_bridge.testing.network_streams import StreamConformance
from compute_bridge.testing.network_world import NetworkWorld as NetworkWorld


@pytest.mark.anyio
class NetworkConformance(StreamConformance, FollowConformance, CollectionConformance):
    """Each promise of :class:`compute_bridge.ports.network.Network`, as a test on two clients of one world."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Name the one event loop: asyncssh needs asyncio."""
        return "asyncio"

    @pytest.fixture
    def world(self) -> NetworkWorld:
        """Return the network under test, empty; the subclass says which."""
        raise NotImplementedError("give the suite a fixture `world` that returns a NetworkWorld")
