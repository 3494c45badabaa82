"""A world of the fuzz that is played step by step, by somebody who is no coroutine."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import anyio

from crashkit.fuzz_world import FuzzWorld, open_world
from crashkit.virtual_loop import VirtualLoop, threads_in_line

T = TypeVar("T")


def in_memory() -> Path | None:
    """Return a folder that no disk slows down, or None where the system has none: what is killed here is no system."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else None


class WorldRun:
    """A world that is played step by step: between two steps its time stands still."""

    world: FuzzWorld

    def __init__(self, folder: Path, attester: Path) -> None:
        self._open = ExitStack()
        self._open.enter_context(threads_in_line())
        self._runner = self._open.enter_context(asyncio.Runner(loop_factory=VirtualLoop))
        self._over = anyio.Event()
        ready = anyio.Event()
        self._root = self._runner.get_loop().create_task(self._hold(folder, attester, ready))
        self.do(ready.wait)

    def do(self, step: Callable[..., Coroutine[Any, Any, T]], *args: Any, **more: Any) -> T:
        """Play one step to its end."""
        return self._runner.run(step(*args, **more))

    def close(self) -> None:
        """End the world."""
        self._over.set()
        try:
            self.do(self._await_root)
        finally:
            self._open.close()

    async def _hold(self, folder: Path, attester: Path, ready: anyio.Event) -> None:
        async with open_world(folder, attester) as self.world:
            ready.set()
            await self._over.wait()

    async def _await_root(self) -> None:
        await self._root
