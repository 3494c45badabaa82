"""Cuts of the link to a cloud, each at a point of the bridge's life: the bridge waits there until the link is cut."""

import time
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread
from attrs import define, field, frozen

from compute_bridge.adapters.clock import SystemClock
from compute_bridge.ports.clock import poll
from crashkit.clouds import Cloud
from crashkit.points import Kill

_LOOK_MS = 5
_WALL = SystemClock()


@frozen
class Cut:
    """One cut: ``how`` the cloud is to be cut off, for how many real milliseconds, and at which point."""

    how: str
    for_ms: int
    at: Kill

    @property
    def id(self) -> str:
        """How reports and replays call it."""
        return f"{self.how}~{self.for_ms}!{self.at.id}"

    @classmethod
    def parse(cls, text: str) -> "Cut":
        """Return the cut of which ``text`` is the id."""
        head, _, at = text.partition("!")
        how, _, for_ms = head.partition("~")
        return cls(how, int(for_ms), Kill.parse(at))


class Halts:
    """The points at which one life of a bridge waits for the schedule; a file for each says that it has come there."""

    def __init__(self, folder: Path, ids: list[str]) -> None:
        self._folder = folder
        self._cuts = {id_: Cut.parse(id_).at for id_ in ids}

    def at(self, name: str, nth: int) -> None:
        """Wait, if this is such a point, until the schedule has done its part; nothing else of this process runs."""
        for id_, at in self._cuts.items():
            if (at.name, at.nth) == (name, nth):
                halt = _halt(self._folder, id_)
                halt.touch()
                while halt.exists():
                    time.sleep(_LOOK_MS / 1000)


@define
class Cutter:
    """The schedule's side: it cuts when a life has come to the point, lets the life go on, and restores in time."""

    cloud: Cloud
    folder: Path
    cuts: tuple[Cut, ...]
    done: list[str] = field(factory=list, init=False)
    """The cuts that cut something."""

    async def play(self) -> None:
        """Make each cut once its point is reached, and restore it; return when all are restored."""
        async with anyio.create_task_group() as tasks:
            for cut in self.cuts:
                tasks.start_soon(self._play, cut)

    async def _play(self, cut: Cut) -> None:
        halt = _halt(self.folder, cut.id)
        await poll(_WALL, _LOOK_MS, partial(_is_reached, halt))
        restore = await to_thread.run_sync(self.cloud.cut, cut.how)
        try:
            halt.unlink()
            await anyio.sleep(cut.for_ms / 1000)
        finally:
            # Also where all was quiet before the time was over.
            with anyio.CancelScope(shield=True):
                if await to_thread.run_sync(restore):
                    self.done.append(cut.id)


async def _is_reached(halt: Path) -> bool | None:
    return await to_thread.run_sync(halt.exists) or None


def _halt(folder: Path, id_: str) -> Path:
    return folder / f"halt-{id_.encode().hex()}"
