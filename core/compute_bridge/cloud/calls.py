"""A blocking SDK under anyio: calls in worker threads, few at once, each failure in the port's words."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from compute_bridge.ports.errors import BackendError

T = TypeVar("T")

Translate = Callable[[str, Exception], BackendError | None]
"""From what was being done and the SDK's error to ours; ``None`` for what is no error of the cloud but a bug."""


class Calls:
    """The calls of one backend, at most ``at_once`` together; each takes what the SDK's own time limits allow."""

    def __init__(self, translate: Translate, *, at_once: int) -> None:
        self._translate = translate
        self._limiter = CapacityLimiter(at_once)

    def allow(self, at_once: int) -> None:
        """Let at most ``at_once`` calls be under way together from now on; to be called on the event loop."""
        self._limiter.total_tokens = max(1, at_once)

    async def read(self, doing: str, call: Callable[[], T]) -> T:
        """Return what ``call`` returns; on cancellation it is left to end by itself, for it changes nothing.

        :raises BackendError: in place of the SDK's error, which is its cause.
        """
        return await self._run(doing, call, is_abandoned=True)

    async def change(self, doing: str, call: Callable[[], T]) -> T:
        """Return what ``call`` returns; it is never abandoned: cancellation waits until it has come back.

        :raises BackendError: in place of the SDK's error, which is its cause.
        """
        return await self._run(doing, call, is_abandoned=False)

    async def _run(self, doing: str, call: Callable[[], T], *, is_abandoned: bool) -> T:
        try:
            return await to_thread.run_sync(call, abandon_on_cancel=is_abandoned, limiter=self._limiter)
        except BackendError:
            raise
        except Exception as error:
            meant = self._translate(doing, error)
            if meant is None:
                raise
            raise meant from error
