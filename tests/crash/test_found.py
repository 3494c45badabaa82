"""What the fault fuzz has found: each a sequence that once broke an invariant, by the name of what must hold."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from crashkit.fuzz_world import FuzzWorld, open_world
from crashkit.invariants import check
from crashkit.truth import Truth
from crashkit.virtual_loop import VirtualLoop, threads_in_line

from compute_bridge.model.control import ControlAction

HOUR_MS = 3_600_000

Story = Callable[[FuzzWorld], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Story], Truth]:
    """Play a story, mend everything, let it settle, and return the truth."""

    async def run(story: Story) -> Truth:
        async with open_world(tmp_path, tmp_path / "attester") as world:
            await story(world)
            await world.mend_everything()
            await world.settle()
            assert [] == world.faults
            return await world.truth()

    def play(story: Story) -> Truth:
        with threads_in_line(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(run(story))

    return play


def test_an_extension_under_a_clock_that_is_hours_fast_ends_no_machine(play: Callable[[Story], Truth]) -> None:
    async def story(world: FuzzWorld) -> None:
        await world.ask(300_000, comes=True, makes_key=False)
        await world.pass_time(60_000)
        world.bridge_clock.skew_ms = HOUR_MS
        await world.control(0, ControlAction.EXTEND, extend_ms=60_000)
        await world.pass_time(600_000)

    truth = play(story)

    assert () == check(truth)
    assert [("deadline", 360_000)] == [(log.reason, log.billable_ms) for log in truth.logs]
