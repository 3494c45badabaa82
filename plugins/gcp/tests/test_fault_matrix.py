"""The fault matrix of clouds over the vendor's own SDK and the fake, unchanged.

A region that is disabled is skipped: Compute Engine has none, since every project may use every region. What comes
nearest is a zone that is ``DOWN``, which is left out of the catalog, and a zone that does not answer.
"""

from collections.abc import Generator

import pytest

from compute_bridge.testing.cloud_faults import CloudFaults
from compute_bridge_gcp.testing.world import GcpWorld


@pytest.mark.needs("sshd")
class TestGcpFaults(CloudFaults):
    @pytest.fixture
    def world(self) -> Generator[GcpWorld]:
        with GcpWorld() as world:
            yield world
        assert world.fake.wire.errors == []
