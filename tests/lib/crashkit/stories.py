"""What happens to leases, as a table: each story is played once unkilled, and again for every point that it passes."""

import signal
from collections.abc import Awaitable, Callable

import anyio
from attrs import field, frozen

from crashkit.scene import Settings
from crashkit.stage import Stage

HOUR_MS = 3_600_000
SHORT_MS = 60_000


@frozen
class Story:
    """One story. ``outcomes`` are the outcomes that its usage logs may have, whoever dies.

    ``meets`` is how the name of a point ends without which it would be another story. ``faults`` are what the bridge's
    own journal, network, backend and books refuse: by the name of the call, how often in a life.
    """

    play: Callable[[Stage], Awaitable[None]]
    meets: str
    outcomes: frozenset[str] = frozenset({"served"})
    settings: Settings = field(factory=Settings)
    levers: dict[str, str] = field(factory=dict)
    faults: dict[str, int] = field(factory=dict)
    cloud: str = "file-truth"


async def _released(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.release(handle)


async def _deadline(stage: Stage) -> None:
    handle = await stage.submit(SHORT_MS)
    await stage.receipt(handle)


async def _extended(stage: Stage) -> None:
    handle = await stage.submit(2 * SHORT_MS)
    await stage.receipt(handle)
    await stage.extend(handle, SHORT_MS)


async def _unserved(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)


async def _mismatch(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.post_other_body(handle)
    await stage.settled(handle)


async def _no_show(stage: Stage) -> None:
    await stage.settled(await stage.submit(HOUR_MS))


async def _lost(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    stage.crash_machines()


async def _squatted(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.squat(handle)
    await stage.receipt(handle)
    await stage.release(handle)


async def _silent(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    stage.cloud.ailment = "timeout"
    await stage.release(handle)
    await stage.passed("after failed backend terminate")
    stage.cloud.ailment = ""


async def _noticed(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.noticed(1)
    await stage.release(handle)


async def _misnoticed(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.squat_notice(handle)
    await stage.noticed(2)
    await stage.release(handle)


async def _stray(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.release(handle)
    await stage.settled(handle)
    stage.cloud.raise_dead()
    await stage.until(stage.is_bare)
    await stage.passed("before record reaped")


async def _pair(stage: Stage) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_released, stage)
        tasks.start_soon(_deadline, stage)


async def _drained(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.stop_bridge()
    stage.start_bridge()
    await stage.release(handle)


async def _hurried(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.drain_bridge()
    await stage.hurry_bridge()
    stage.start_bridge()
    await stage.release(handle)


async def _early(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.taken_on()
    await stage.stop_bridge()
    stage.start_bridge()
    await stage.receipt(handle)
    await stage.release(handle)


async def _unheard(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.taken_on()
    await stage.stop_bridge()
    stage.cloud.ailment = "timeout"
    stage.start_bridge()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.receipt, handle)
        await stage.passed("after failed backend offers")
        await stage.opened()
        # The lease asks for its place meanwhile, however busy the machine is.
        await stage.passed_again("after failed backend offers")
        stage.cloud.ailment = ""
    await stage.release(handle)


async def _beforehand(stage: Stage) -> None:
    await stage.carded()
    # A bridge that drains sells nothing any more, so this one is killed.
    await stage.stop_bridge(signal.SIGKILL)
    handle = await stage.submit(HOUR_MS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.receipt, handle)
        await stage.granted(handle)
        await stage.release(handle)
        stage.start_bridge()


async def _away(stage: Stage) -> None:
    handle = await stage.submit(HOUR_MS)
    await stage.receipt(handle)
    await stage.stop_bridge()
    stage.crash_machines()
    stage.start_bridge()


STORIES: dict[str, Story] = {
    "released": Story(_released, "record released", settings=Settings(meter_every_s=15)),
    "deadline": Story(_deadline, "record delivered"),
    "failover": Story(_released, "record attempt-failed", levers={"exhausted": "wide"}),
    "exhausted": Story(_unserved, "record ended", frozenset({"failed"}), levers={"exhausted": "small wide"}),
    "mismatch": Story(_mismatch, "record ended", frozenset({"refused"})),
    "no-show": Story(_no_show, "record ended", frozenset({"no-show"}), Settings(envelope_wait_s=1)),
    "lost": Story(_lost, "record ending"),
    "extended": Story(_extended, "backend extend"),
    "squatted": Story(_squatted, "failed append logs"),
    "silent": Story(_silent, "failed backend terminate"),
    "lost-answer": Story(
        _released,
        "failed cloud create",
        settings=Settings(window_ms=2_000, sweep_every_s=5),
        levers={"loses": "yes"},
    ),
    "unmade": Story(_released, "failed backend provision", faults={"backend provision": 5}),
    "noticed": Story(_noticed, "append notices"),
    "misnoticed": Story(_misnoticed, "failed append notices"),
    "stray": Story(_stray, "record reaped", settings=Settings(sweep_every_s=5, intent_window_s=1)),
    "pair": Story(_pair, "record released"),
    "drained": Story(_drained, "record released"),
    "hurried": Story(_hurried, "record released", settings=Settings(drain_s=3600)),
    "early": Story(_early, "record released"),
    "unheard": Story(_unheard, "failed backend offers", settings=Settings(refresh_s=5)),
    "beforehand": Story(_beforehand, "record released"),
    "away": Story(_away, "record ending"),
    "looking": Story(_extended, "backend offers", settings=Settings(meter_every_s=15, refresh_s=5, sweep_every_s=5)),
    "doubtful": Story(
        _drained,
        "failed backend usage",
        settings=Settings(sweep_every_s=5),
        faults={"backend usage": 1, "find settlements": 1, "find control-verdicts": 1},
    ),
    "faults": Story(
        _released,
        "failed record settled",
        settings=Settings(meter_every_s=15),
        faults={
            "append shuffle/replies": 1,
            "append logs": 1,
            "append claims": 1,
            "ledger settle": 1,
            "ledger reconcile": 2,
            "save_cursor grant-stream": 1,
            "record granted": 1,
            "record opened": 1,
            "record delivered": 1,
            "record metered": 1,
            "record released": 1,
            "record ending": 1,
            "record ended": 1,
            "record settled": 1,
        },
    ),
}
"""Every story by its name."""
