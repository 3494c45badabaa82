"""How a fault is planted in the reference backend."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from attrs import frozen

from compute_bridge.ports.backend import Backend, BackendContext
from compute_bridge.testing.memory import MemoryBackend, MemoryConfig
from compute_bridge.testing.memory_account import Account, connect
from compute_bridge.testing.memory_cloud import MemoryCloud
from compute_bridge.testing.world import World

_PATIENCE_S = 1.5


class Faulty(MemoryBackend):
    """The reference with a view of the whole account, for faults that no session could commit."""

    account: Account


@frozen
class Fault:
    """A broken backend, the tests that must catch it, and words of the first one's failure.

    The words tell that it is caught for what it does, not for a slip in the fault itself.
    """

    backend: type[Faulty]
    caught_by: tuple[str, ...]
    says: str
    holds_answer: bool = False

    @property
    def name(self) -> str:
        """What the fault does, as the class that does it is called."""
        return self.backend.__name__

    def world(self) -> World:
        """Return a fresh cloud on which every backend has this fault."""
        cloud = MemoryCloud(lambda context, config: _open(self.backend, cloud.account, context, config))
        cloud.patience_s = _PATIENCE_S
        cloud.account.holds_answer = self.holds_answer
        return cloud


@asynccontextmanager
async def _open(
    cls: type[Faulty], account: Account, context: BackendContext, config: MemoryConfig
) -> AsyncGenerator[Backend]:
    backend = cls(context, connect(config.endpoint, context.read_secret(config.api_key)))
    backend.account = account
    yield backend


PLANTED: list[Fault] = []

Planted = TypeVar("Planted", bound=type[Faulty])


def planted(*caught_by: str, says: str, holds_answer: bool = False) -> Callable[[Planted], Planted]:
    """Put the class into the table of faults."""

    def put(cls: Planted) -> Planted:
        PLANTED.append(Fault(cls, caught_by, says, holds_answer))
        return cls

    return put
