"""The reference backend keeps every promise that the kit tests."""

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.memory_cloud import MemoryCloud
from compute_bridge.testing.world import World


class TestMemoryBackend(BackendConformance):
    @pytest.fixture
    def world(self) -> World:
        return MemoryCloud()


class TestMemoryBackendWithSlowCreates(BackendConformance):
    @pytest.fixture
    def world(self) -> World:
        cloud = MemoryCloud()
        cloud.account.holds_answer = True
        return cloud
