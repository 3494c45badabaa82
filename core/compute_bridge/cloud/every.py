"""Several questions at once, of which all have to be answered, or as many as are."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio

from compute_bridge.ports.errors import BackendError

T = TypeVar("T")


async def every(calls: Mapping[str, Callable[[], Awaitable[T]]]) -> dict[str, T]:
    """Return what each call returns, all at once; of several failures the first leaves, by itself.

    :raises BackendError: if one of them failed, when all have come back.
    """
    found, failures = await answers(calls)
    for name in calls:
        if name in failures:
            raise failures[name]
    return found


async def answers(
    calls: Mapping[str, Callable[[], Awaitable[T]]],
) -> tuple[dict[str, T], dict[str, BackendError]]:
    """Return what those calls return that do, and how the others failed, when all have come back."""
    found: dict[str, T] = {}
    failures: dict[str, BackendError] = {}

    async def ask(name: str, call: Callable[[], Awaitable[T]]) -> None:
        try:
            found[name] = await call()
        except BackendError as error:
            failures[name] = error

    async with anyio.create_task_group() as tasks:
        for name, call in calls.items():
            tasks.start_soon(ask, name, call)
    return found, failures
