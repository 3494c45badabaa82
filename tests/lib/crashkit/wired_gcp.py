"""A project at Google for each schedule: Compute Engine's own protocol on loopback, asked by google-cloud-compute."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve

from compute_bridge.cloud.settings import HostKey
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import Then
from compute_bridge_gcp.testing.stock import ZONES
from compute_bridge_gcp.testing.world import GcpWorld
from crashkit.wired import WATCH_MS, WiredCloud, WiredPhysics, hurried, live_once, secret_file, wired


class _World(GcpWorld):
    def make_physics(self) -> Physics:
        """Return a project whose deleted machines vanish, and whose crashed ones stand stopped."""
        self.clock = hurried()
        return WiredPhysics(
            self.clock,
            zones=ZONES,
            remember_ms=0,
            on_guest_shutdown=Then.STOPPED,
            on_crash=Then.STOPPED,
            guests=Guests(),
        )


def warm_up() -> None:
    """Import the SDK, and make the key of the service account, before anybody forks."""
    live_once(_World())


@contextmanager
def open_account(folder: Path, _ground: Path) -> Generator[WiredCloud]:
    """Open a project for one schedule."""
    world = _World()
    key = secret_file(folder / "secrets" / "key", world.key)
    # The one of the three clouds whose machines' host keys are rotated, where guests have a root user.
    host_key = HostKey.ROTATED if os.geteuid() == 0 else HostKey.INJECTED
    regions = world.config.regions[:1]
    config = evolve(
        world.config,
        credentials=key,
        regions=regions,
        tdx_zones=(),
        sev_snp_zones=(),
        watch_ms=WATCH_MS,
        host_key=host_key,
    )
    with wired("gcp", world, config, world.fake.wire.errors, region=regions[0].name) as cloud:
        yield cloud
