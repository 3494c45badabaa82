"""One schedule: a story played against a bridge that dies where it is told to, and the verdict on what is left."""

import json
import logging
import signal
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread
from attrs import asdict, define, field, frozen

from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.direct_shuffle import DirectShuffle
from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier
from compute_bridge.adapters.requester_store import FileRequesterStore
from compute_bridge.adapters.sqlite_network import open_sqlite_network
from compute_bridge.host.requester import Requester
from compute_bridge.model import channels
from compute_bridge.ports.clock import poll
from crashkit import invariants
from crashkit.brief_stories import BRIEF_STORIES
from crashkit.clock import Birth, SharedClock
from crashkit.clouds import KINDS, Cloud
from crashkit.cuts import Cut, Cutter
from crashkit.fork import fork
from crashkit.gather import gather, held, lease_states
from crashkit.points import Kill, Points, read_points
from crashkit.scene import ACCOUNT, Ground, Scene
from crashkit.stage import Stage
from crashkit.stories import STORIES, Story

PATIENCE_S = 120
"""Much, since a machine may be busy with much else; what is quiet is so within two or three seconds."""
MOST_LIVES = 12
MARKET = "market@"
_TOLD = (0, -signal.SIGTERM, -signal.SIGKILL)
"""How a bridge may end that the story told to."""
LAST_LINES = 30
EVERY_STORY = STORIES | BRIEF_STORIES
GOING_S = 10
"""For how long what has ended may take to go."""
GOING_EVERY_MS = 100


@frozen
class Plan:
    """What to play: a story and its deaths, at most one for each life of the bridge, with a fault planted or none.

    ``cuts`` are the cuts of the link to the cloud, ``market_ms`` for how many real milliseconds each life of the market
    lasts that ends by a kill.
    """

    story: str
    kills: tuple[Kill, ...] = ()
    plant: str = ""
    cuts: tuple[Cut, ...] = ()
    market_ms: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """How it is called, and replayed."""
        head = f"{self.story}+{self.plant}" if self.plant else self.story
        markets = [f"{MARKET}{ms}" for ms in self.market_ms]
        return "|".join([head, *(kill.id for kill in self.kills), *(cut.id for cut in self.cuts), *markets])

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Return the plan of which ``text`` is the id."""
        head, *parts = text.split("|")
        story, _, plant = head.partition("+")
        markets = tuple(int(part.removeprefix(MARKET)) for part in parts if part.startswith(MARKET))
        others = [part for part in parts if not part.startswith(MARKET)]
        kills = tuple(Kill.parse(part) for part in others if "!" not in part)
        return cls(story, kills, plant, tuple(Cut.parse(part) for part in others if "!" in part), markets)


@define
class Verdict:
    """What came of it. ``deaths`` are the points at which the bridge died, ``points`` what each life passed.

    ``cuts`` are the cuts that cut something.
    """

    plan: str
    violations: list[str] = field(factory=list)
    deaths: list[str] = field(factory=list)
    points: list[list[str]] = field(factory=list)
    outcomes: list[str] = field(factory=list)
    cuts: list[str] = field(factory=list)
    took_s: float = 0


class ScheduleError(Exception):
    """The schedule itself failed: a life ended in a way that nobody asked for."""


def run(*, plan: str, folder: str, ground: str, template: str) -> int:
    """Play a plan in ``folder`` and write ``verdict.json`` there."""
    logging.basicConfig(stream=sys.stderr, level="WARNING")
    verdict = Verdict(plan)
    schedule = Schedule(Plan.parse(plan), Path(folder), Ground(Path(ground)), Path(template), verdict)
    try:
        anyio.run(schedule.play)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the verdict
        traceback.print_exc()
        verdict.violations.append(f"the schedule failed: {_leaf(error)!r}")
    (Path(folder) / "verdict.json").write_text(json.dumps(asdict(verdict)))
    return 0


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@define
class Schedule:
    """The playing of one plan."""

    plan: Plan
    folder: Path
    ground: Ground
    template: Path
    verdict: Verdict

    async def play(self) -> None:
        """Play it, wait until all is quiet, kill everything, and judge."""
        story = EVERY_STORY[self.plan.story]
        with KINDS[story.cloud].open(self.folder / "scene", self.ground.folder) as cloud:
            await self._play_on(cloud, story)

    async def _play_on(self, cloud: Cloud, story: Story) -> None:
        scene = Scene.set(self.folder / "scene", self.ground, story.settings, story.faults, cloud.site)
        began = SharedClock(Birth.read(scene.birth))
        async with open_sqlite_network(scene.network) as network:
            stage = self._stage(scene, network, began, cloud)
            for lever, value in story.levers.items():
                stage.cloud.pull(lever, value)
            await self._play(stage, story, Cutter(cloud, scene.folder, self.plan.cuts))
            truth = await gather(scene, stage.requester.market, began, cloud)
        self.verdict.outcomes = [log.outcome for log in truth.logs]
        self.verdict.violations += [str(one) for one in invariants.check(truth)]
        self.verdict.violations += [f"nothing remains: {what}" for what in await _remaining(cloud)]
        self.verdict.violations += [
            f"outcome {one} is none of this story's" for one in self.verdict.outcomes if one not in story.outcomes
        ]
        self.verdict.took_s = round(began.monotonic_ms() / 1000 / Birth.read(scene.birth).speed, 2)

    def _stage(self, scene: Scene, network, clock: SharedClock, cloud: Cloud) -> Stage:
        requester = Requester(
            network=network,
            shuffle=DirectShuffle(network),
            handshake=scene.handshake,
            verifier=DcapQuoteVerifier(),
            policy=self.ground.policy,
            account=ACCOUNT,
            store=FileRequesterStore(scene.folder / "requester"),
            clock=clock,
        )
        return Stage(scene, requester, cloud.levers(clock), cloud.site)

    async def _play(self, stage: Stage, story: Story, cutter: Cutter) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_bridge, stage, cutter.cloud)
            tasks.start_soon(self._keep_market, stage)
            tasks.start_soon(cutter.play)
            with anyio.move_on_after(PATIENCE_S) as patience:
                await story.play(stage)
                await stage.until(partial(self._is_quiet, stage))
            if patience.cancelled_caught:
                states = lease_states(stage.scene)
                self.verdict.violations.append(f"not quiet within {PATIENCE_S} s; leases: {states}")
            tasks.cancel_scope.cancel()
        self.verdict.cuts = cutter.done

    async def _keep_bridge(self, stage: Stage, cloud: Cloud) -> None:
        stage.may_live.set()
        for life in range(MOST_LIVES):
            await stage.may_live.wait()
            kill = next((kill for kill in self.plan.kills if kill.life == life), None)
            await self._live(stage, cloud, life, kill)
        raise ScheduleError(f"the bridge has died {MOST_LIVES} times")

    async def _live(self, stage: Stage, cloud: Cloud, life: int, kill: Kill | None) -> None:
        log = self.folder / f"bridge-{life}.log"
        arguments = {
            "folder": str(stage.scene.folder),
            "life": life,
            "kill": kill.id if kill else "",
            "plant": self.plan.plant,
            "halts": [cut.id for cut in self.plan.cuts if cut.at.life == life],
        }
        try:
            async with fork(self.template, "bridge", log, **arguments) as bridge:
                stage.bridge_pid, stage.life = bridge.pid, life
                with _tapped(cloud, stage.scene.points(life), kill, bridge.pid):
                    code = await bridge.ended()
        finally:
            stage.bridge_pid = 0
            passed, last = read_points(stage.scene.points(life))
            self.verdict.points.append(passed)
            if last:
                self.verdict.deaths.append(f"{last}@{life}")
        if not (code == -signal.SIGKILL and last) and not (stage.stopping and code in _TOLD):
            raise ScheduleError(f"life {life} of the bridge ended by itself with {code}: {_tail(log)}")
        stage.stopping = False

    async def _keep_market(self, stage: Stage) -> None:
        log = self.folder / "market.log"
        for ms in (*self.plan.market_ms, None):
            async with fork(self.template, "market", log, folder=str(stage.scene.folder)) as market:
                with anyio.move_on_after(None if ms is None else ms / 1000):
                    code = await market.ended()
                    raise ScheduleError(f"the market ended by itself with {code}: {_tail(log)}")

    async def _is_quiet(self, stage: Stage) -> bool:
        network = stage.requester.network
        grants = await network.tail(channels.GRANT_STREAM)
        if grants < stage.asked or await network.tail(channels.SETTLEMENTS) < grants:
            return False
        states = lease_states(stage.scene)
        if len(states) < grants or set(states.values()) != {"settled"} or held(stage.scene):
            return False
        # The bridge has read the last statement when its cursor is past it: then its own book is whole.
        provider = (await stage.provider()).hex()
        return await network.cursor(f"bridge/{provider}", channels.SETTLEMENTS) >= grants


@contextmanager
def _tapped(cloud: Cloud, log: Path, kill: Kill | None, victim: int) -> Generator[None]:
    """Have the cloud pass points of its own for one life of the bridge, and kill it there."""
    points = Points()
    # A death that has no name is counted among the bridge's own points.
    points.arm(log, kill if kill and kill.name else None, {}, victim=victim)
    cloud.tap(points)
    try:
        yield
    finally:
        points.close()


async def _remaining(cloud: Cloud) -> list[str]:
    """Return what remains in the cloud once what has ended has had its time to go."""

    async def is_bare() -> bool | None:
        return not await to_thread.run_sync(cloud.remains) or None

    with anyio.move_on_after(GOING_S):
        await poll(SystemClock(), GOING_EVERY_MS, is_bare)
        return []
    return await to_thread.run_sync(cloud.remains)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-LAST_LINES:])
