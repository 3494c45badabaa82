"""Time, as an argument."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Clock(ABC):
    """Where the roles read time and wait; one for a whole process."""

    @abstractmethod
    def utc_ms(self) -> int:
        """Return milliseconds since 1970-01-01 UTC. Advisory: it may jump, so no deadline hangs on it."""

    @abstractmethod
    def monotonic_ms(self) -> int:
        """Return milliseconds since an unnamed moment; never goes back, means nothing in another process."""

    @abstractmethod
    async def sleep_ms(self, ms: int) -> None:
        """Return after ``ms`` milliseconds of monotonic time; a mere checkpoint when ``ms`` <= 0."""


async def poll(clock: Clock, every_ms: int, probe: Callable[[], Awaitable[T | None]]) -> T:
    """Ask ``probe`` now and then every ``every_ms`` until it answers something other than ``None``.

    The one polling loop of the code base. It has no deadline of its own: put a scope around it.
    An error of ``probe`` ends it.
    """
    while (answer := await probe()) is None:
        await clock.sleep_ms(every_ms)
    return answer
