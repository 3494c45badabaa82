"""The memory network keeps every promise of the network port."""

from contextlib import AbstractAsyncContextManager, nullcontext

import pytest

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.ports.errors import RecordTooLargeError
from compute_bridge.ports.network import Network
from compute_bridge.testing.network import NetworkConformance, NetworkWorld


class MemoryWorld(NetworkWorld):
    def __init__(self):
        self._network = MemoryNetwork()

    def open(self) -> AbstractAsyncContextManager[Network]:
        return nullcontext(self._network)


class TestMemoryNetwork(NetworkConformance):
    @pytest.fixture
    def world(self) -> NetworkWorld:
        return MemoryWorld()


@pytest.mark.anyio
async def test_the_limit_is_what_the_network_was_made_with():
    network = MemoryNetwork(max_record_bytes=3)
    await network.append("s", b"fits", b"123")

    with pytest.raises(RecordTooLargeError, match="4 bytes exceed the network's 3"):
        await network.append("s", b"too-long", b"1234")
