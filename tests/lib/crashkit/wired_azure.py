"""A subscription at Azure for each schedule: the Resource Manager on loopback over HTTPS, asked by Azure's own SDK."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import Then
from compute_bridge_azure.testing.market import REAL_ZONES
from compute_bridge_azure.testing.world import LOCATIONS, AzureWorld
from crashkit.wired import WATCH_MS, WiredCloud, WiredPhysics, hurried, live_once, secret_file, wired


class _World(AzureWorld):
    def make_physics(self) -> Physics:
        """Return an account in which a power-off from inside, and a crash, only stop a machine."""
        self.clock = hurried()
        return WiredPhysics(
            self.clock,
            zones={location: tuple(f"{location}-{zone}" for zone in REAL_ZONES) for location in LOCATIONS},
            remember_ms=0,
            on_guest_shutdown=Then.STOPPED,
            on_crash=Then.STOPPED,
            on_failure=Then.FAILED,
            guests=Guests(),
        )


def warm_up() -> None:
    """Import the SDK before anybody forks."""
    live_once(_World())


@contextmanager
def open_account(folder: Path, _ground: Path) -> Generator[WiredCloud]:
    """Open a subscription for one schedule."""
    world = _World()
    secret = secret_file(folder / "secrets" / "client_secret", world.tokens.secret.encode())
    config = evolve(world.config, client_secret=secret, locations=world.config.locations[:1], watch_ms=WATCH_MS)
    with wired("azure", world, config, world.arm.server.errors, region=config.locations[0].name) as cloud:
        yield cloud
