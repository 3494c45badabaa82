"""What a forked child becomes: a bridge, a market, or the schedule that plays them against each other."""

import logging
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from attrs import evolve

from compute_bridge import boot
from compute_bridge.adapters.boot_file import load_boot
from compute_bridge.cli.context import make_command_context
from compute_bridge.host.bridge import Bridge
from compute_bridge_market.command import market as market_command
from crashkit.clock import Birth, SharedClock
from crashkit.cuts import Halts
from crashkit.plants import EVERY_PLANT
from crashkit.points import POINTS, Kill
from crashkit.scene import Scene


def bridge(*, folder: str, life: int, kill: str, plant: str, halts: list[str]) -> int:
    """Be a bridge until SIGTERM or the kill, with a fault planted in it if one is named, halting where told to."""
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(relativeCreated)d %(name)s %(message)s")
    scene = Scene(Path(folder))
    if plant:
        EVERY_PLANT[plant].sow()
    halt = Halts(scene.folder, halts).at if halts else None
    POINTS.arm(scene.points(life), Kill.parse(kill) if kill else None, scene.faults, halt)
    anyio.run(_serve_bridge, scene)
    return 0


async def _serve_bridge(scene: Scene) -> None:
    # What boot.serve does, on the schedule's clock.
    clock = SharedClock(Birth.read(scene.birth))
    loaded = load_boot(scene.boot_file, flags={})
    async with AsyncExitStack() as stack:
        await boot.serve_bridge(Bridge(await boot.Opening(loaded, stack, clock=clock).parts()))


def market(*, folder: str) -> int:
    """Be the market until SIGTERM."""
    scene = Scene(Path(folder))
    arguments = ["serve", "--config", str(scene.market_file), "--log-level", "info"]
    clock = SharedClock(Birth.read(scene.birth))
    return market_command(evolve(make_command_context(arguments), clock=clock))


def schedule(**spec: Any) -> int:
    """Be a schedule and write its verdict."""
    from crashkit.schedule import run

    return run(**spec)


ROLES = {"bridge": bridge, "market": market, "schedule": schedule}
