"""Every promise of the kit, over the real SDK and HTTPS."""

from collections.abc import Iterator

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge_azure.testing.world import AzureWorld

pytestmark = pytest.mark.needs("sshd")


class TestAzureBackend(BackendConformance):
    @pytest.fixture
    def world(self) -> Iterator[AzureWorld]:
        with AzureWorld() as world:
            yield world
            assert world.arm.server.errors == []
