"""The fault matrix of clouds over the real SDK and the wire-level fake, unchanged: nothing of it is impossible here."""

import pytest

from compute_bridge.testing.cloud_faults import CloudFaults
from compute_bridge.testing.world import World
from compute_bridge_aws.testing.world import AwsWorld


@pytest.mark.needs("sshd")
class TestAwsFaults(CloudFaults):
    @pytest.fixture
    def world(self, stocked: AwsWorld) -> World:
        return stocked
