"""Several questions at once, all of which have to be answered."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio

from compute_bridge.ports.errors import BackendError

T = TypeVar("T")


async def every(calls: Mapping[str, Callable[[], Awaitable[T]]]) -> dict[str, T]:
    """Return what each call returns, all at once; of several failures the first leaves, by itself.

    :raises BackendError: if one of them failed, when all have come back.
    """
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
    for name in calls:
        if name in failures:
            raise failures[name]
    return found
