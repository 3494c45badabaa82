"""Who follows a stream or watches a collection outlives a network that cannot be read for a while."""

import pytest

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.ports.errors import NetworkError

pytestmark = pytest.mark.anyio


class Unreadable(MemoryNetwork):
    """A network whose next read fails."""

    def __init__(self):
        super().__init__()
        self.failures = 1

    def fail(self):
        if self.failures:
            self.failures -= 1
            raise NetworkError("network: the disk failed: check it")

    async def fetch(self, stream, *, after=0, limit=256):
        self.fail()
        return await super().fetch(stream, after=after, limit=limit)

    async def _changes(self, topic, after):
        self.fail()
        return await super()._changes(topic, after)


async def test_a_follower_goes_on_when_the_stream_can_be_read_again():
    network = Unreadable()
    await network.append("logs", b"first", b"record")

    assert b"record" == (await anext(network.follow("logs"))).record


async def test_a_watcher_goes_on_when_the_collection_can_be_read_again():
    network = Unreadable()
    await network.put("roster", b"key", b"value", expect=0)

    assert b"value" == (await anext(network.watch("roster"))).value
