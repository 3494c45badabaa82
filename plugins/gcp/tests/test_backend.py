"""Compute Engine behind the port: the fake's REST protocol on loopback, the vendor's own SDK, real SSH guests."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from compute_bridge.testing.backend import BackendConformance
from compute_bridge_gcp.testing.world import GcpWorld

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)


@pytest.mark.needs("sshd")
class TestGcpBackend(BackendConformance):
    """The suite, unchanged."""

    @pytest.fixture
    def world(self) -> Generator[GcpWorld]:
        with GcpWorld() as world:
            yield world
