"""Stories in virtual time, each played to its end within one call, for tests that are no coroutines."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from crashkit.fuzz_world import FuzzWorld, open_world
from crashkit.truth import Truth
from crashkit.virtual_loop import VirtualLoop, threads_in_line
from crashkit.world_run import in_memory

Story = Callable[[FuzzWorld], Awaitable[None]]
Play = Callable[[Story], Truth]


def play_in(attester: Path) -> Play:
    """Return what plays a story in a new world, mends everything, lets it settle, and returns the truth."""

    async def run(folder: Path, story: Story) -> Truth:
        async with open_world(folder, attester) as world:
            await story(world)
            await world.mend_everything()
            await world.settle()
            if world.faults:
                raise ExceptionGroup("the bridge broke", [one for one in world.faults if isinstance(one, Exception)])
            return await world.truth()

    def play(story: Story) -> Truth:
        with TemporaryDirectory(dir=in_memory()) as folder, threads_in_line():
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                return runner.run(run(Path(folder), story))

    return play
