"""The fault matrix of clouds over the real SDK and HTTPS, unchanged.

One listing tells the whole resource group whatever location is silent, so a silent location hides no machine here.
"""

from collections.abc import Iterator

import pytest

from compute_bridge.testing.cloud_faults import CloudFaults
from compute_bridge_azure.testing.world import AzureWorld


@pytest.mark.needs("sshd")
class TestAzureFaults(CloudFaults):
    @pytest.fixture
    def world(self) -> Iterator[AzureWorld]:
        with AzureWorld() as world:
            yield world
            assert world.arm.server.errors == []
