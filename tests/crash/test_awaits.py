"""What the matrix stands on: every await is found and passed, and a rewritten module does what it did."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from crashkit.awaits import awaits
from crashkit.points import Kill, Points, read_points
from crashkit.schedule import Plan

SOURCE = """\
from contextlib import asynccontextmanager


@asynccontextmanager
async def lent():
    yield 1


async def counted():
    yield 2
    yield 3


async def four():
    return 4


async def told():
    async with lent() as one, lent():
        found = [one]
    async for item in counted():
        found.append(item)
    found += [item async for item in counted() if await four()]
    return found + [await four()]
"""
RUN = """\
import sys
from pathlib import Path
from crashkit.awaits import instrument
from crashkit.points import POINTS
instrument(["spoken"])
POINTS.arm(Path(sys.argv[1]), None, {})
import asyncio, spoken
print(asyncio.run(spoken.told()))
"""


@pytest.fixture
def spoken(tmp_path):
    """A module, rewritten and run in a process of its own: its path, what it said and the points that it passed."""
    path, log = tmp_path / "spoken.py", tmp_path / "points"
    path.write_text(SOURCE)
    library = Path(__file__).parents[1] / "lib"
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN), str(log)],
        env={"PYTHONPATH": f"{library}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return path, said.stdout.strip(), read_points(log)[0]


def test_a_rewritten_module_does_what_it_did(spoken):
    assert "[1, 2, 3, 2, 3, 4]" == spoken[1]


def test_every_await_of_a_module_is_found_and_passed(spoken):
    path, _, points = spoken
    names = awaits(path)

    assert 6 == len(set(names))
    assert [] == [name for name in names if f"before await {name}" not in points or f"after await {name}" not in points]


def test_both_edges_of_a_context_are_points_on_the_way_out_too(spoken):
    assert 2 == len({point for point in spoken[2] if point.startswith("after exit ")})


def test_a_module_that_was_imported_before_cannot_be_instrumented(tmp_path):
    late = subprocess.run(
        [sys.executable, "-c", "import json; from crashkit.awaits import instrument; instrument(['json'])"],
        env={"PYTHONPATH": str(Path(__file__).parents[1] / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "json: imported before it could be instrumented" in late.stderr


def test_a_plan_is_replayed_by_its_id():
    kills = (Kill(0, 2, "before append shuffle/replies"), Kill(1, 57))
    plan = Plan("released", kills, "bills-the-whole", market_ms=(300, 50))

    assert plan == Plan.parse(plan.id)
    assert "released+bills-the-whole|before append shuffle/replies#2@0|*#57@1|market@300|market@50" == plan.id


def test_an_unarmed_process_passes_every_point():
    Points().hit("before record granted")
