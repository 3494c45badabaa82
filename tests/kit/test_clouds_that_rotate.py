"""The three clouds as operators run them, with host keys that are rotated: the whole suite and the fault matrix.

The plugins' own tests run both with injected keys, which asks for no root; these take real time for each rotation.
"""

import pytest

from compute_bridge.cloud.settings import HostKey
from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.cloud_faults import CloudFaults
from compute_bridge.testing.physics.world import CloudWorld
from compute_bridge_aws.testing.world import AwsWorld
from compute_bridge_azure.testing.world import AzureWorld
from compute_bridge_gcp.testing.world import GcpWorld

pytestmark = [pytest.mark.needs("sshd", "root"), pytest.mark.soak]


class Rotating:
    """A world whose table says what tables say by default; nothing but spot capacity is announced."""

    cloud: type[CloudWorld]

    @pytest.fixture
    def world(self):
        with self.cloud() as world:
            world.reconfigure(host_key=HostKey.ROTATED, spot=True)
            # A rotation takes real time, which is much more by the world's clock.
            world.near_end_ms = 600_000
            yield world


class TestAws(Rotating, BackendConformance):
    cloud = AwsWorld


class TestAwsFaults(Rotating, CloudFaults):
    cloud = AwsWorld


class TestAzure(Rotating, BackendConformance):
    cloud = AzureWorld


class TestAzureFaults(Rotating, CloudFaults):
    cloud = AzureWorld


class TestGcp(Rotating, BackendConformance):
    cloud = GcpWorld


class TestGcpFaults(Rotating, CloudFaults):
    cloud = GcpWorld
