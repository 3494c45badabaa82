"""Waiting for whichever comes first: a time, or somebody who says that something changed."""

import anyio

from compute_bridge.ports.clock import Clock


class Nudge:
    """Wakes one waiter; nudges that come while nobody waits count as one for the next."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def nudge(self) -> None:
        """Let the waiter return now, or the next one at once."""
        self._event.set()

    async def wait(self, clock: Clock, ms: int) -> None:
        """Return after ``ms``, or as soon as somebody nudges."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until, clock, ms)
            await self._event.wait()
            tasks.cancel_scope.cancel()
        self._event = anyio.Event()

    async def _until(self, clock: Clock, ms: int) -> None:
        await clock.sleep_ms(ms)
        self._event.set()
