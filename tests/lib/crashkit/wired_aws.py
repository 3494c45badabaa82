"""An account at AWS for each schedule: EC2's own protocol on loopback, asked by botocore."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge_aws.testing.stock import ZONES
from compute_bridge_aws.testing.world import AwsWorld
from crashkit.wired import WATCH_MS, WiredCloud, WiredPhysics, hurried, live_once, secret_file, wired

_REGION = "eu-west-1"
_LATE_MS = 1_000


class _World(AwsWorld):
    def make_physics(self) -> Physics:
        """Return an account whose listings are a second late."""
        self.clock = hurried()
        return WiredPhysics(self.clock, zones=ZONES, propagation_ms=_LATE_MS, guests=Guests())

    def secret(self, key: str) -> bytes:
        """Return the secret that a key of the table names."""
        return self._read_secret(getattr(self.config, key))


def warm_up() -> None:
    """Read the SDK's models before anybody forks."""
    live_once(_World())


@contextmanager
def open_account(folder: Path, _ground: Path) -> Generator[WiredCloud]:
    """Open an account for one schedule."""
    world = _World()
    names = ("access_key_id", "secret_access_key", "session_token")
    secrets: dict[str, Any] = {name: secret_file(folder / "secrets" / name, world.secret(name)) for name in names}
    regions = tuple(region for region in world.config.regions if region.name == _REGION)
    config = evolve(world.config, regions=regions, watch_ms=WATCH_MS, **secrets)
    with wired("aws", world, config, world.server.errors, region=_REGION) as cloud:
        yield cloud
