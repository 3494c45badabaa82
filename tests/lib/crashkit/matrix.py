"""Many schedules at once, and what came of each."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import anyio
from attrs import define, frozen

from crashkit.fork import fork, open_template
from crashkit.scene import Ground
from crashkit.schedule import Plan, Verdict

AT_ONCE = 8
"""How many schedules are played at a time: each waits more than it works."""


@define
class Matrix:
    """A template and a founded market, ready to play plans."""

    folder: Path
    ground: Ground
    template: Path
    played: int = 0

    def play(self, plans: Iterable[Plan], *, at_once: int = AT_ONCE) -> list[Verdict]:
        """Play the plans and return their verdicts in the same order."""
        return anyio.run(partial(self._play_all, list(plans), at_once))

    async def _play_all(self, plans: list[Plan], at_once: int) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        waiting = iter(enumerate(plans))

        async def work() -> None:
            for index, plan in waiting:
                verdicts[index] = await self._play(plan)

        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(work)
        return [verdicts[index] for index in range(len(plans))]

    async def _play(self, plan: Plan) -> Verdict:
        self.played += 1
        folder = self.folder / f"{self.played:05}"
        folder.mkdir()
        arguments = {
            "plan": plan.id,
            "folder": str(folder),
            "ground": str(self.ground.folder),
            "template": str(self.template),
        }
        async with fork(self.template, "schedule", folder / "schedule.log", **arguments) as schedule:
            await schedule.ended()
        file = folder / "verdict.json"
        if not file.exists():
            return Verdict(plan.id, [f"the schedule died: {(folder / 'schedule.log').read_text()[-2000:]}"])
        verdict = Verdict(**json.loads(file.read_text()))
        if verdict.violations:
            verdict.violations.append(f"its files: {folder}")
        else:
            shutil.rmtree(folder)
        return verdict


@contextmanager
def open_matrix() -> Iterator[Matrix]:
    """Found a market, start a template, and yield what plays; its folder stays if anything in it failed."""
    folder = Path(mkdtemp(prefix="crash-"))
    ground = Ground.lay(folder / "ground")
    with open_template(folder, ground.installed) as template:
        matrix = Matrix(folder, ground, template)
        yield matrix
    if not any(folder.glob("[0-9]*")):
        shutil.rmtree(folder)


__all__ = ["Callable", "frozen"]
