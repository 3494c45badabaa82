"""The driver ``process`` keeps every promise of a backend, over real SSH."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge.testing.world import World
from compute_bridge_baremetal.testing.world import rack_world

pytestmark = pytest.mark.needs("sshd", "openssh-client")


class TestProcessBackend(BackendConformance):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with rack_world(tmp_path) as world:
            yield world
