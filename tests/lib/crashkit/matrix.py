"""Many schedules at once, and what came of each."""

import json
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import anyio
from attrs import define

from crashkit.clouds import KINDS
from crashkit.fork import fork, open_template
from crashkit.scene import Ground
from crashkit.schedule import Plan, Verdict

MOST_TOLD = 10


@define
class Matrix:
    """A template and a founded market, ready to play plans. ``keep`` keeps the files of good schedules too."""

    folder: Path
    ground: Ground
    template: Path
    at_once: int
    keep: bool = False
    played: int = 0

    def play(self, plans: Iterable[Plan]) -> list[Verdict]:
        """Play the plans and return their verdicts in the same order."""
        return anyio.run(partial(self._play_all, list(plans)))

    async def _play_all(self, plans: list[Plan]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        waiting = iter(enumerate(plans))

        async def work() -> None:
            for index, plan in waiting:
                verdicts[index] = await self._play(plan)

        async with anyio.create_task_group() as tasks:
            for _ in range(self.at_once):
                tasks.start_soon(work)
        return [verdicts[index] for index in range(len(plans))]

    async def _play(self, plan: Plan) -> Verdict:
        self.played += 1
        folder = self.folder / f"{self.played:05}"
        folder.mkdir()
        paths = {"folder": str(folder), "ground": str(self.ground.folder), "template": str(self.template)}
        async with fork(self.template, "schedule", folder / "schedule.log", plan=plan.id, **paths) as schedule:
            await schedule.ended()
        file = folder / "verdict.json"
        if not file.exists():
            return Verdict(plan.id, [f"the schedule died: {(folder / 'schedule.log').read_text()[-2000:]}"])
        verdict = Verdict(**json.loads(file.read_text()))
        if verdict.violations:
            verdict.violations.append(f"its files: {folder}")
        elif not self.keep:
            shutil.rmtree(folder)
        return verdict


@contextmanager
def open_matrix(*, cloud: str = "file-truth", keep: bool = False) -> Iterator[Matrix]:
    """Found a market, start a template, and yield what plays; the files of whatever went wrong stay."""
    folder, kind = Path(mkdtemp(prefix="crash-")), KINDS[cloud]
    ground = Ground.lay(folder / "ground", cadence_ms=kind.cadence_ms, currency=kind.currency)
    with kind.prepare(ground.folder), open_template(folder, ground.installed, *kind.late) as template:
        # Where pytest-xdist plays other tests beside this one, they have their share of the machine.
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        yield Matrix(folder, ground, template, max(2, kind.at_once // workers), keep)
    if not any(folder.glob("[0-9]*")):
        shutil.rmtree(folder)


def report(verdicts: Iterable[Verdict]) -> str:
    """Return what went wrong, each with the command that plays it alone; empty if nothing did."""
    bad = [verdict for verdict in verdicts if verdict.violations]
    lines = [f"{len(bad)} of the schedules went wrong"] if bad else []
    for verdict in bad[:MOST_TOLD]:
        lines += [f"PYTHONPATH=tests/lib python -m crashkit.replay {shlex.quote(verdict.plan)}"]
        lines += [f"    {line}" for line in verdict.violations]
    return "\n".join(lines)


def deaths(verdicts: Iterable[Verdict]) -> set[str]:
    """Return the distinct deaths that were died: the story, the life, the point and which passing of it."""
    return {verdict.plan for verdict in verdicts if verdict.deaths}
