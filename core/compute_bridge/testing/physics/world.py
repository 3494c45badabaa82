"""A World over the physics of a cloud: every lever there is; a plugin adds its facade."""

import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType, TracebackType
from typing import Any, ClassVar, Self

from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import HOUR_MS
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.ports.errors import BackendError
from compute_bridge.testing.held import Held
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Machine
from compute_bridge.testing.world import (
    SupportsAnnounce,
    SupportsClockJump,
    SupportsHold,
    SupportsKill,
    SupportsLeftovers,
    SupportsLostAnswer,
    SupportsPowerOff,
    SupportsQuota,
    SupportsStranger,
    SupportsThrottle,
    World,
)

# Longer than any test, by whatever clock: a machine that is gone is announced no more.
_NOTICE_MS = 1000 * HOUR_MS


class SupportsPages(ABC):
    """A World whose cloud tells a long list in pages."""

    @abstractmethod
    def page_by(self, size: int) -> None:
        """Let no page of a list of machines hold more than ``size``."""


class SupportsClosedRegions(ABC):
    """A World whose cloud has regions that an account may not use."""

    @abstractmethod
    def close_region(self, region: str) -> None:
        """Disable a region for the account; what runs there is not asked about."""


class CloudWorld(
    World,
    SupportsAnnounce,
    SupportsClockJump,
    SupportsHold,
    SupportsKill,
    SupportsLeftovers,
    SupportsLostAnswer,
    SupportsPowerOff,
    SupportsQuota,
    SupportsStranger,
    SupportsThrottle,
):
    """An account with every lever there is. A context manager: leave it, or :meth:`close` it.

    A subclass makes ``self.physics`` in :meth:`make_physics` and its facade, and writes :meth:`open_backend`,
    :meth:`image`, :meth:`secrets` and :meth:`reconfigure`; where its cloud has richer machines, also
    :meth:`make_stranger`, and where the backend's ids are not the machines', :meth:`instance_id`.
    """

    create_call: ClassVar[str]
    """The facade's word for the call that makes a machine."""
    delete_call: ClassVar[str]
    """Its word for the call that ends one."""
    list_call: ClassVar[str]
    """Its word for the call that lists machines."""
    late_failures: ClassVar[Mapping[str, type[BackendError]]]
    """The facade's words for why a machine that was accepted never runs, and what the backend raises for each."""
    # Two ticks of a watch of 5 s and more: what must not happen would happen at one.
    moment_s = 0.12
    near_end_ms = 120_000
    clock: HurriedClock
    physics: Physics

    def __init__(self, *, speed: int = 100) -> None:
        super().__init__()
        self.clock = HurriedClock(speed=speed)
        self.physics = self.make_physics()

    @abstractmethod
    def make_physics(self) -> Physics:
        """Return the physics of a fresh account, by ``self.clock``."""

    @abstractmethod
    def open_backend(self) -> AbstractAsyncContextManager[Backend]:
        """Open a backend as the plugin's own opener does, without a catalog."""

    @abstractmethod
    def reconfigure(self, **changes: Any) -> None:
        """Open backends by a table with these keys changed from now on: ``owner`` and ``spot``, as all clouds have."""

    def instance_id(self, machine: Machine) -> InstanceId:
        """Return the id by which the backend knows a machine."""
        return InstanceId(machine.id)

    def machine_of(self, instance: InstanceId) -> Machine:
        """Return the machine that a backend calls ``instance``."""
        return next(machine for machine in self.physics.made() if self.instance_id(machine) == instance)

    def make_stranger(self) -> Machine:
        """Launch a machine that carries none of our tags."""
        region, zones = next(iter(self.physics.zones.items()))
        zone = zones[0] if zones else ""
        return self.physics.launch(region=region, zone=zone, shape="stranger", name="stranger").machine

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Backend]:
        """Open a backend and let it sell by its own catalog, as the host does."""
        async with self.open_backend() as backend:
            if isinstance(backend, SupportsCatalog):
                backend.use_catalog(await backend.fetch_catalog())
            yield backend

    def scanned(self) -> tuple[ModuleType, ...]:
        """Return the plugin's package, and the room that clouds share."""
        shared = sys.modules.get("compute_bridge.cloud")
        return (*super().scanned(), *([shared] if shared else []))

    async def running(self) -> frozenset[InstanceId]:
        """Return every machine that costs money."""
        return frozenset(self.instance_id(machine) for machine in self.physics.existing() if machine.costs)

    async def standing(self) -> frozenset[InstanceId]:
        """Return every machine that exists."""
        return frozenset(self.instance_id(machine) for machine in self.physics.existing())

    async def leftovers(self) -> frozenset[str]:
        """Return what stands that was made for a machine."""
        return frozenset(f"{one.kind} {one.id}" for one in self.physics.leftovers())

    async def exhaust(self) -> None:
        """Have no capacity anywhere."""
        self.physics.exhaust()

    async def replenish(self) -> None:
        """Have capacity everywhere."""
        self.physics.replenish()

    async def use_up_quota(self) -> None:
        """Lower every quota to what is used."""
        self.physics.use_up_quota()

    async def refuse_credentials(self) -> None:
        """Refuse every caller."""
        self.physics.refuse_credentials()

    async def accept_credentials(self) -> None:
        """Accept callers."""
        self.physics.accept_credentials()

    async def go_down(self) -> None:
        """Answer no call."""
        self.physics.go_down()

    async def come_back(self) -> None:
        """Answer calls."""
        self.physics.come_back()

    def go_down_in(self, place: str) -> None:
        """Answer for one region or zone no more, until :meth:`come_back`."""
        self.physics.go_down(place)

    async def throttle(self) -> None:
        """Refuse every call as one too many."""
        self.physics.throttle()

    async def relent(self) -> None:
        """Take calls."""
        self.physics.relent()

    async def hold_next_create(self) -> Held:
        """Hold the next machine before it runs."""
        return self.physics.hold_next_create()

    async def lose_next_answer(self) -> None:
        """Cut the connection of the next create once its machine exists."""
        self.physics.lose_next_answer()

    async def kill(self, instance: InstanceId) -> None:
        """Crash a machine."""
        self.physics.kill(self.machine_of(instance).id)

    async def power_off(self, instance: InstanceId) -> None:
        """Power a machine off from inside."""
        self.physics.shut_down(self.machine_of(instance).id)

    async def announce(self, instance: InstanceId) -> None:
        """Mark a machine for preemption."""
        self.physics.preempt(self.machine_of(instance).id, notice_ms=_NOTICE_MS)

    async def jump_clock(self, ms: int) -> None:
        """Set the bridge's clock wrong; the vendor's is not."""
        self.clock.jump_utc(ms)

    async def start_stranger(self) -> InstanceId:
        """Start somebody else's machine."""
        return self.instance_id(self.make_stranger())

    def close(self) -> None:
        """End the guests; a subclass also closes its server."""
        self.physics.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
