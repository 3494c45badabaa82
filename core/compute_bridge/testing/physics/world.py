"""A World over the physics of a cloud: every lever there is; a plugin adds its facade."""

from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType, TracebackType
from typing import Self

from compute_bridge.model.ids import InstanceId
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.testing.held import Held
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Machine
from compute_bridge.testing.world import (
    SupportsClockJump,
    SupportsHold,
    SupportsKill,
    SupportsLeftovers,
    SupportsLostAnswer,
    SupportsQuota,
    SupportsStranger,
    SupportsThrottle,
    World,
)


class CloudWorld(
    World,
    SupportsClockJump,
    SupportsHold,
    SupportsKill,
    SupportsLeftovers,
    SupportsLostAnswer,
    SupportsQuota,
    SupportsStranger,
    SupportsThrottle,
):
    """An account with every lever there is. A context manager: leave it, or :meth:`close` it.

    A subclass makes ``self.physics`` in :meth:`make_physics` and its facade, and writes :meth:`open_backend`,
    :meth:`image` and :meth:`secrets`; where its cloud has richer machines, also :meth:`make_stranger`, and where the
    backend's ids are not the machines', :meth:`instance_id`.
    """

    near_end_ms = 120_000
    clock: HurriedClock
    physics: Physics

    def __init__(self) -> None:
        super().__init__()
        self.clock = HurriedClock()
        self.physics = self.make_physics()

    @abstractmethod
    def make_physics(self) -> Physics:
        """Return the physics of a fresh account, by ``self.clock``."""

    @abstractmethod
    def open_backend(self) -> AbstractAsyncContextManager[Backend]:
        """Open a backend as the plugin's own opener does, without a catalog."""

    def instance_id(self, machine: Machine) -> InstanceId:
        """Return the id by which the backend knows a machine."""
        return InstanceId(machine.id)

    def machine_of(self, instance: InstanceId) -> Machine:
        """Return the machine that a backend calls ``instance``."""
        raise NotImplementedError

    def make_stranger(self) -> Machine:
        """Launch a machine that carries none of our tags."""
        raise NotImplementedError

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Backend]:
        """Open a backend and let it sell by its own catalog, as the host does."""
        async with self.open_backend() as backend:
            if isinstance(backend, SupportsCatalog):
                backend.use_catalog(await backend.fetch_catalog())
            yield backend

    def scanned(self) -> tuple[ModuleType, ...]:
        """Return the plugin's package, and the room that clouds share."""
        raise NotImplementedError

    async def hold_next_create(self) -> Held:
        """Hold the next machine before it runs."""
        return self.physics.hold_next_create()

    def close(self) -> None:
        """End the guests; a subclass also closes its server."""
        self.physics.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
