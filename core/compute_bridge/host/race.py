"""Several waits at once, of which the first to end decides."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from compute_bridge.ports.errors import ComputeBridgeError

T = TypeVar("T")


async def race(first: Callable[[], Awaitable[T]], *others: Callable[[], Awaitable[T]]) -> T:
    """Return what the first to end returns, or raise the error of ours that it raises; cancel the rest.

    An error of ours comes out bare and not in a group, so that a caller can tell it apart.
    """
    results: list[T] = []
    errors: list[ComputeBridgeError] = []

    async def run(entrant: Callable[[], Awaitable[T]]) -> None:
        try:
            results.append(await entrant())
        except ComputeBridgeError as error:
            errors.append(error)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for entrant in (first, *others):
            tasks.start_soon(run, entrant)
    if errors:
        raise errors[0]
    return results[0]


async def beside(main: Callable[[], Awaitable[T]], endless: Callable[[], Awaitable[None]]) -> T:
    """Return what ``main`` returns while ``endless`` runs beside it; an error of either ends both."""

    async def never() -> T:
        await endless()
        raise RuntimeError("what should run for ever has ended")

    return await race(main, never)
