"""Leases that are over within seconds of this machine, on rack hosts and in clouds."""

import signal

from anyio import to_thread
from attrs import evolve

from crashkit.scene import Settings
from crashkit.stage import Stage
from crashkit.stories import HOUR_MS, Story

BRIEF_MS = 4_000
"""By the clock on the wall, whatever a schedule's clock shows."""

RACKS = ("rack", "pods")
CLOUDS = ("aws", "azure", "gcp")

_RACK = Settings(refresh_s=60, sweep_every_s=5, provision_allowance_s=60)
_PROMPT_RACK = evolve(_RACK, provision_allowance_s=1)
_CLOUD = Settings(sweep_every_s=60)
_PROMPT_CLOUD = evolve(_CLOUD, provision_allowance_s=60)


def _brief_ms(stage: Stage) -> int:
    return BRIEF_MS * stage.site.speed


async def _released(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.release(handle)


async def _brief(stage: Stage) -> None:
    handle = await stage.submit(_brief_ms(stage))
    await stage.receipt(handle)


async def _extended(stage: Stage) -> None:
    handle = await stage.submit(_brief_ms(stage))
    await stage.receipt(handle)
    await stage.extend(handle, _brief_ms(stage))


async def _crashed(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    stage.cloud.kill_workloads()


async def _abandoned(stage: Stage) -> None:
    handle = await stage.submit(_brief_ms(stage))
    await stage.receipt(handle)
    await stage.stop_bridge(signal.SIGKILL)

    async def is_over() -> bool:
        # Whoever ends it takes its time; a lease that came to nothing has left nothing either.
        return bool(await to_thread.run_sync(stage.cloud.is_over))

    await stage.until(is_over)
    stage.start_bridge()


_PLAYS = {
    "released": (_released, "record released"),
    "brief": (_brief, "record delivered"),
    "extended": (_extended, "backend extend"),
    "crashed": (_crashed, "record ending"),
    "abandoned": (_abandoned, "record resumed"),
}


def _on(cloud: str, name: str) -> Story:
    (play, meets), is_prompt = _PLAYS[name], name == "abandoned"
    if cloud in RACKS:
        return Story(play, meets, settings=_PROMPT_RACK if is_prompt else _RACK, cloud=cloud)
    return Story(play, meets, settings=_PROMPT_CLOUD if is_prompt else _CLOUD, cloud=cloud)


#: No cloud moves an end.
_EVERYWHERE = tuple(name for name in _PLAYS if name != "extended")

BRIEF_STORIES: dict[str, Story] = {
    **{f"{cloud}-{name}": _on(cloud, name) for cloud in RACKS for name in _PLAYS},
    **{f"{cloud}-{name}": _on(cloud, name) for cloud in CLOUDS for name in _EVERYWHERE},
}
"""Every story by its name: ``rack-`` on processes, ``pods-`` on containers, the others by their cloud."""
