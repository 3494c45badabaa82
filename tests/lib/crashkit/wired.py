"""An account at a cloud on the wire: its own fake, asked by the plugin's own SDK, and the physics that know better."""

import base64
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from attrs import define, field

from compute_bridge.adapters.clock import SystemClock
from compute_bridge.cloud.tags import GRANT, TOKEN
from compute_bridge.model.boot import SecretRef
from compute_bridge.model.resources import Region
from compute_bridge.ports.clock import Clock
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Launch, State, Why
from compute_bridge.testing.physics.matter import Machine as Thing
from compute_bridge.testing.physics.wire import Cut
from compute_bridge.testing.physics.world import CloudWorld
from crashkit.boot_table import backend_table
from crashkit.clock import SPEED, Birth, SharedClock
from crashkit.clouds import Site
from crashkit.points import Points
from crashkit.truth import Machine

WATCH_MS = 20_000
"""Five listings a second on the wall."""
_RECORD_MS = 300 * SPEED
"""How coarse a cloud's own record of starts and ends may be: what passes on the wall while a process of a busy machine
waits for its turn; EC2 writes whole seconds."""
_GRACE_MS = 120_000 * SPEED
"""As long as a schedule may take to be quiet: on a busy machine a bridge is back only then."""
CREATE, DELETE = "wire create", "wire delete"


class WiredPhysics(Physics):
    """Physics that tell what the bridge has them do, from outside it: a create, and an end that was asked for.

    A bridge that dies before one of them dies as its request arrives, and nothing comes of that request. One that
    dies after it has been obeyed, and hears no answer.
    """

    points: Points | None = None
    loses_next_end = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._first_ends: dict[str, int] = {}

    def launch(self, **wanted: Any) -> Launch:
        """Make a machine between two points."""
        self._arrive(f"before {CREATE}")
        launch = super().launch(**wanted)
        self._pass(f"after {CREATE}")
        return launch

    def end(self, id: str, why: Why = Why.API, **wanted: Any) -> Thing:
        """End a machine, where somebody asked for it between two points."""
        if why is not Why.API:
            return self._end(id, why, **wanted)
        self._arrive(f"before {DELETE}")
        machine = self._end(id, why, **wanted)
        self._pass(f"after {DELETE}")
        is_lost, self.loses_next_end = self.loses_next_end, False
        if is_lost:
            raise Cut
        return machine

    def _end(self, id_: str, why: Why, **wanted: Any) -> Thing:
        with self.lock:
            [before] = [one for one in self.made() if one.id == id_]
            machine = super().end(id_, why, **wanted)
            self._first_ends.setdefault(id_, before.ended_ms or machine.ended_ms)
            return machine

    def ended_ms(self, machine: Thing) -> int:
        """Return when a machine ended first: one that stood stopped, and was then deleted, served nobody meanwhile."""
        return self._first_ends.get(machine.id, machine.ended_ms)

    def _arrive(self, name: str) -> None:
        if self._pass(name):
            raise Cut

    def _pass(self, name: str) -> bool:
        return self.points is not None and self.points.hit(name)

    @property
    def loses_next(self) -> bool:
        """Whether the answer to the next launch will be lost."""
        return self._loses_next


@define
class WiredCloud:
    """One account. ``errors`` are what the fake itself got wrong."""

    world: CloudWorld
    site: Site
    errors: list[Exception]
    _restores: dict[str, Callable[[], bool]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._restores = {"down": self._come_back, "lose-create": self._keep_create, "lose-delete": self._keep_delete}

    @property
    def physics(self) -> WiredPhysics:
        """The truth."""
        physics = self.world.physics
        assert isinstance(physics, WiredPhysics)
        return physics

    def levers(self, _clock: Clock) -> "WiredCloud":
        """Return this."""
        return self

    # --- the truth ------------------------------------------------------------------------------

    def machines(self) -> tuple[Machine, ...]:
        """Return every machine that was ever made; one that stands, also a stopped one, has not ended."""
        return tuple(self._told(one) for one in self.physics.made())

    def _told(self, one: Thing) -> Machine:
        ended_ms = None if one.exists else self.physics.ended_ms(one)
        return Machine(f"{one.region}/{one.id}", _hex(one.tags[TOKEN]), _hex(one.tags[GRANT]), one.created_ms, ended_ms)

    def remains(self) -> list[str]:
        """Return what stands of machines and of what was made for them, and what the fake itself got wrong."""
        found = [f"machine {one.id}, {one.state}" for one in self.physics.existing()]
        found += [f"{one.kind} {one.id}" for one in self.physics.leftovers()]
        return found + [f"bug of the fake: {error!r}" for error in self.errors]

    # --- levers ---------------------------------------------------------------------------------

    def tap(self, points: Points) -> None:
        """Pass points around what arrives."""
        self.physics.points = points

    def is_over(self) -> bool:
        """Return whether no machine runs: one that its guest has powered off may stand until somebody deletes it."""
        return not any(one.is_live or one.state is State.ENDING for one in self.physics.existing())

    def kill_workloads(self) -> None:
        """Crash every machine."""
        for one in self.physics.existing():
            self.physics.kill(one.id)

    def cut(self, how: str) -> Callable[[], bool]:
        """Cut the way to it.

        ``down`` answers nothing at all. ``lose-create`` and ``lose-delete`` obey the next such call and cut the
        connection in place of an answer.
        """
        restore = self._restores[how]
        if how == "down":
            self.physics.go_down()
        elif how == "lose-create":
            self.physics.lose_next_answer()
        else:
            self.physics.loses_next_end = True
        return restore

    def _come_back(self) -> bool:
        self.physics.come_back()
        return True

    def _keep_create(self) -> bool:
        return not self.physics.loses_next

    def _keep_delete(self) -> bool:
        return not self.physics.loses_next_end


def _hex(word: str) -> str:
    return base64.b32decode(word.upper() + "=" * (-len(word) % 8)).hex()


# --- opening ------------------------------------------------------------------------------------------


class _Unresting(HurriedClock):
    """Time that hurries also while nobody here waits for it: whoever waits is another process."""

    def __init__(self, birth: Birth) -> None:
        super().__init__(speed=birth.speed)
        self.birth = birth
        self._shared = SharedClock(birth)

    def utc_ms(self) -> int:
        """Return the UTC of every process of the schedule."""
        return self._shared.utc_ms()

    def monotonic_ms(self) -> int:
        """Return how long ago the birth was."""
        return self._shared.monotonic_ms()

    async def sleep_ms(self, ms: int) -> None:
        """Return after ``ms`` hurried milliseconds."""
        await self._shared.sleep_ms(ms)


def hurried() -> HurriedClock:
    """Return the clock of a schedule's cloud."""
    return _Unresting(Birth.now(SystemClock().utc_ms()))


def birth_of(clock: Clock) -> Birth:
    """Return when the time of a schedule's cloud began."""
    assert isinstance(clock, _Unresting)
    return clock.birth


def secret_file(path: Path, secret: bytes) -> SecretRef:
    """Write a secret for the bridge alone and return how its boot file names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    return SecretRef(f"file:{path}")


def live_once(world: CloudWorld) -> None:
    """Make and end one machine, so that what the SDK and the fake read at first use is read."""

    async def live() -> None:
        async with world.open() as backend:
            instance = await backend.provision(world.order((await backend.offers())[0]))
            await backend.usage(instance.id)
            await backend.terminate(instance.id)

    with world:
        anyio.run(live)


@contextmanager
def wired(
    kind: str, world: CloudWorld, config: object, errors: list[Exception], *, region: str
) -> Generator[WiredCloud]:
    """Yield the account of ``world``, to be opened by ``config``, and close it."""
    site = Site(
        table=backend_table(kind, config, name=kind),
        image=world.image().name,
        region=Region(region),
        grace_ms=_GRACE_MS,
        tolerance_ms=_RECORD_MS,
        birth=birth_of(world.clock),
    )
    with world:
        yield WiredCloud(world, site, errors)
