"""An event loop whose time is nobody's: when every task waits, the next timer is due at once.

The same tasks do the same things in the same order, run after run: nothing depends on how fast a machine is. What
the code under test does in threads is waited for before any task goes on, and comes back in the order of asking.
"""

import asyncio
import selectors
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from compute_bridge.adapters import sqlite_worker
from compute_bridge.ports.clock import Clock

T = TypeVar("T")

THREAD_PATIENCE_S = 60.0
"""Real seconds that the work of a thread may take."""


class StandstillError(RuntimeError):
    """Every task waits, nothing is due, and nobody works: a test waits for what will never happen."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time jumps to the next timer whenever all is quiet.

    The one kind of thread that it knows is that of :class:`~compute_bridge.adapters.sqlite_worker.SqliteWorker`;
    everything else runs as :func:`threads_in_line` has it.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._asked: dict[asyncio.Future[Any], int] = {}
        self._asked_ever = 0
        self._answered: list[Any] = []
        self._answer = threading.Condition()
        super().__init__(_QuietSelector(self))

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def create_future(self) -> "asyncio.Future[Any]":
        """Make a future, and remember the ones that a worker's thread must settle."""
        future = super().create_future()
        if sys._getframe(1).f_globals["__name__"] == sqlite_worker.__name__:
            self._asked_ever += 1
            self._asked[future] = self._asked_ever
        return future

    def call_soon_threadsafe(  # type: ignore[override]  # what the callback takes is its own affair
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Keep what a worker's thread brings until all have brought theirs."""
        if callback is not sqlite_worker._settle:
            return super().call_soon_threadsafe(callback, *args, context=context)
        with self._answer:
            self._answered += args[0]
            self._answer.notify()
        return asyncio.Handle(callback, args, self, context)

    def take_turn(self, timeout: float | None) -> None:
        """Settle what threads were asked for, or else let time pass until the next timer."""
        if self._asked:
            self._settle_threads()
        elif timeout is None:
            raise StandstillError("every task waits and no timer is set")
        else:
            self._now += timeout

    def _settle_threads(self) -> None:
        with self._answer:
            if not self._answer.wait_for(lambda: len(self._answered) >= len(self._asked), THREAD_PATIENCE_S):
                raise StandstillError(f"a thread did not answer within {THREAD_PATIENCE_S} s")
            jobs, self._answered = self._answered, []
        for job in sorted(jobs, key=lambda job: self._asked[job.future]):
            del self._asked[job.future]
            self.call_soon(job.settle)


class _QuietSelector(selectors.DefaultSelector):
    """Asked for events only when no task is ready; there are none but the loop's own."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._loop.take_turn(timeout)
        return super().select(0)


class LoopClock(Clock):
    """Time as the running event loop tells it; ``skew_ms`` is how far the wall time of its owner is wrong."""

    def __init__(self, *, utc_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._born_ms = utc_ms
        self.skew_ms = 0

    def utc_ms(self) -> int:
        """Return the wall time at which the loop began, what has passed since, and the skew."""
        return self._born_ms + self.monotonic_ms() + self.skew_ms

    def monotonic_ms(self) -> int:
        """Return how long the loop has run."""
        # A timer may ring a rounding error early, and must not be told that it is a whole millisecond.
        return int(self._loop.time() * 1000 + 1e-3)

    async def sleep_ms(self, ms: int) -> None:
        """Return after ``ms`` milliseconds of the loop's time."""
        await anyio.sleep(max(ms, 0) / 1000)


@contextmanager
def threads_in_line() -> Generator[None]:
    """Let what is sent to a worker thread of anyio's run at once, on the spot, while the context is open."""
    before = anyio.to_thread.run_sync
    anyio.to_thread.run_sync = _run_in_line  # type: ignore[assignment]  # what work takes is its own affair
    try:
        yield
    finally:
        anyio.to_thread.run_sync = before


async def _run_in_line(work: Callable[..., T], *args: Any, **_how: Any) -> T:
    await anyio.lowlevel.checkpoint()
    loop = asyncio.get_running_loop()
    # As in a thread: no loop runs here, so whatever guards the loop against blocking calls has nothing to say.
    asyncio._set_running_loop(None)
    try:
        return work(*args)
    finally:
        asyncio._set_running_loop(loop)
