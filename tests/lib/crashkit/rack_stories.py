"""Leases on a rack host, in the time of this machine: whole leases of a few seconds."""

import signal

from anyio import to_thread

from crashkit.scene import Settings
from crashkit.stage import Stage
from crashkit.stories import HOUR_MS, Story

BRIEF_MS = 4_000

SETTINGS = Settings(refresh_s=60, sweep_every_s=5, provision_allowance_s=60)
PROMPT = Settings(refresh_s=60, sweep_every_s=5, provision_allowance_s=1)


async def _released(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.release(handle)


async def _brief(stage: Stage) -> None:
    handle = await stage.submit(BRIEF_MS)
    await stage.receipt(handle)


async def _extended(stage: Stage) -> None:
    handle = await stage.submit(BRIEF_MS)
    await stage.receipt(handle)
    await stage.extend(handle, BRIEF_MS)


async def _crashed(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    stage.cloud.kill_workloads()


async def _abandoned(stage: Stage) -> None:
    handle = await stage.submit(BRIEF_MS)
    await stage.receipt(handle)
    await stage.stop_bridge(signal.SIGKILL)

    async def is_over() -> bool:
        # The keeper takes its time, and takes everything away; a lease that came to nothing has left nothing either.
        return not await to_thread.run_sync(stage.cloud.remains)

    await stage.until(is_over)
    stage.start_bridge()


_PLAYS = {
    "released": (_released, "record released", SETTINGS),
    "brief": (_brief, "record delivered", SETTINGS),
    "extended": (_extended, "backend extend", SETTINGS),
    "crashed": (_crashed, "record ending", SETTINGS),
    "abandoned": (_abandoned, "record resumed", PROMPT),
}

RACK_STORIES: dict[str, Story] = {
    f"{cloud}-{name}": Story(play, meets, settings=settings, cloud=cloud)
    for cloud in ("rack", "pods")
    for name, (play, meets, settings) in _PLAYS.items()
}
"""Every story by its name: ``rack-`` on processes, ``pods-`` on containers."""
