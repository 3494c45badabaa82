"""One account at a vendor, with what can ail it beyond the levers of the cloud in memory."""

from typing import Any

from attrs import define, field

from compute_bridge.model.ids import BackendName
from compute_bridge.model.manifest import ImageRef
from compute_bridge.ports.backend import Backend, BackendContext
from compute_bridge.testing.memory_account import IMAGES, Account, Client, CloudError, Machine
from crashkit.gates import Gate, GatedBackend, Slowness
from crashkit.virtual_loop import LoopClock

KEY = b"the key of every account"


class DoublingClient(Client):
    """A session whose next create may arrive twice."""

    def __init__(self, cloud: "FuzzCloud") -> None:
        super().__init__(cloud.account, KEY)
        self._cloud = cloud

    async def create(self, **order: Any) -> Machine:
        machine = await super().create(**order)
        if self._cloud.doubles_create:
            self._cloud.doubles_create = False
            raise CloudError("name-taken", machine.name)
        return machine


@define
class FuzzCloud:
    """One account and how it lists."""

    name: BackendName
    clock: LoopClock
    account: Account = field(init=False)
    doubles_create: bool = False
    """Whether the next create arrives twice, so that its caller hears the answer to the second."""
    slowness: Slowness = field(factory=Slowness)

    def __attrs_post_init__(self) -> None:
        self.account = Account(self.clock, KEY)

    def open(self, clock: LoopClock, gate: Gate) -> Backend:
        """Return a backend of a bridge that reads ``clock``."""
        context = BackendContext(self.name, clock, lambda _ref: KEY)
        return GatedBackend(context, DoublingClient(self), gate, self.slowness)

    def image(self) -> ImageRef:
        """Return the one image of this cloud."""
        return ImageRef(f"vm:{IMAGES[0]}")

    def fail(self, fault: str) -> None:
        """Bring a fault about: what every call meets, what every create meets, or what the next create meets."""
        if fault in ("timeout", "throttled"):
            self.account.ailment = fault
            self.account.stir()
        elif fault in ("exhausted", "quota"):
            self.account.scarcity = fault
        elif fault == "lost-answer":
            self.account.loses_next_answer = True
        else:
            self.doubles_create = True

    def mend(self) -> None:
        """Let the account answer, at once and truly, and have everything free."""
        self.account.ailment = self.account.scarcity = ""
        self.account.loses_next_answer = self.doubles_create = False
        self.slowness.slow_ms = self.slowness.stale_ms = 0
        self.account.stir()
