"""The World of the cloud in memory: for the reference backend, and for any backend written over its client."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from secrets import token_hex
from types import ModuleType
from typing import Any

from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.units import HOUR_MS
from compute_bridge.ports.backend import Backend, BackendContext
from compute_bridge.testing.held import Held
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.memory import MemoryConfig, open_memory_backend
from compute_bridge.testing.memory_account import IMAGES, SHAPES, Account, publish
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
    package_of,
)

_KEY_REFERENCE = "env:MEMORY_API_KEY"
_NOTICE_MS = 1000 * HOUR_MS


class MemoryCloud(
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
    """An account in memory with every lever there is.

    ``opener`` and ``config`` are those of a :class:`~compute_bridge.ports.backend.BackendKind`; the config is made
    with an ``endpoint`` to ``connect`` to and an ``api_key``, which is a secret's reference.
    """

    def __init__(
        self,
        opener: Callable[[BackendContext, Any], AbstractAsyncContextManager[Backend]] = open_memory_backend,
        config: Callable[..., Any] = MemoryConfig,
    ) -> None:
        super().__init__()
        self.clock: HurriedClock = HurriedClock()
        self._opener = opener
        self._config = config
        self._api_key = token_hex(16)
        self._endpoint = f"memory:{token_hex(8)}"
        self.account = Account(self.clock, self._api_key.encode())
        publish(self._endpoint, self.account)

    def open(self) -> AbstractAsyncContextManager[Backend]:
        """Open another backend on this account."""
        context = BackendContext(BackendName("memory"), self.clock, self._read_secret)
        return self._opener(context, self._config(endpoint=self._endpoint, api_key=_KEY_REFERENCE))

    def image(self) -> ImageRef:
        """Return the one image of this cloud."""
        return ImageRef(f"vm:{IMAGES[0]}")

    def secrets(self) -> tuple[str, ...]:
        """Return the API key."""
        return (self._api_key,)

    def scanned(self) -> tuple[ModuleType, ...]:
        """Return the package of whoever opens the backend."""
        return (package_of(self._opener.__module__),)

    async def running(self) -> frozenset[InstanceId]:
        """Return the machines that have not ended."""
        machines = self.account.machines.values()
        return frozenset(InstanceId(machine.id) for machine in machines if machine.is_live)

    async def standing(self) -> frozenset[InstanceId]:
        """Return those also that are off."""
        machines = self.account.machines.values()
        return frozenset(InstanceId(machine.id) for machine in machines if not machine.is_gone)

    async def exhaust(self) -> None:
        """Have no shape free."""
        self.account.scarcity = "exhausted"

    async def replenish(self) -> None:
        """Have every shape free."""
        self.account.scarcity = ""

    async def use_up_quota(self) -> None:
        """Let the quota refuse every create."""
        self.account.scarcity = "quota"

    async def refuse_credentials(self) -> None:
        """Take another API key than the backends have."""
        self._rekey(token_hex(16))

    async def accept_credentials(self) -> None:
        """Take the backends' API key."""
        self._rekey(self._api_key)

    async def go_down(self) -> None:
        """Answer no call; whoever waits in one is cut off."""
        self._ail("timeout")

    async def come_back(self) -> None:
        """Answer calls."""
        self._ail("")

    async def throttle(self) -> None:
        """Refuse every call as one too many."""
        self._ail("throttled")

    async def relent(self) -> None:
        """Take calls."""
        self._ail("")

    async def hold_next_create(self) -> Held:
        """Hold the boot of the next machine, or the answer to its create where the account ``holds_answer``."""
        self.account.next_hold = held = Held()
        return held

    async def lose_next_answer(self) -> None:
        """Cut the connection of the next create once its machine exists."""
        self.account.loses_next_answer = True

    async def kill(self, instance: InstanceId) -> None:
        """Crash a machine."""
        self.account.end(instance, "crashed")

    async def power_off(self, instance: InstanceId) -> None:
        """Turn a machine off from inside."""
        self.account.end(instance, "off")

    async def announce(self, instance: InstanceId) -> None:
        """Tell when the machine will be preempted."""
        self.account.announce(instance, _NOTICE_MS)

    async def jump_clock(self, ms: int) -> None:
        """Set the bridge's clock wrong; the vendor's is not."""
        self.clock.jump_utc(ms)

    async def leftovers(self) -> frozenset[str]:
        """Return the machines whose timer stands."""
        return frozenset(self.account.timers)

    async def start_stranger(self) -> InstanceId:
        """Start somebody else's machine."""
        machine = self.account.start(name=token_hex(8), shape=SHAPES[0].name, image=IMAGES[0], tags={}, login={})
        return InstanceId(machine.id)

    def _read_secret(self, reference: str) -> bytes:
        if reference != _KEY_REFERENCE:
            raise LookupError(f"no secret {reference!r}; this world knows {_KEY_REFERENCE!r} only")
        return self._api_key.encode()

    def _rekey(self, key: str) -> None:
        self.account.api_key = key.encode()
        self.account.stir()

    def _ail(self, code: str) -> None:
        self.account.ailment = code
        self.account.stir()
