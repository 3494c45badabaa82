"""What stands behind a backend under test: the account, its levers, and the truth about it.

A plugin author writes one :class:`World`: a fake of their cloud, or a real rack in a temporary folder.
The suite in :mod:`compute_bridge.testing.backend` owns the cases; the World only makes situations.
"""

import sys
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from types import ModuleType

from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.resources import Requirements
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Backend, Offer, Order
from compute_bridge.ports.clock import Clock
from compute_bridge.testing.held import Held
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.orders import make_order, needs_of, new_token


class World(ABC):
    """The account that the backends under test work on, with levers, and the ground truth.

    One World serves one test. It starts with room for two orders at least, credentials that are
    accepted and an account that answers. Every lever acts on the account, so on every backend that was
    opened on it, and holds until its counterpart is pulled.

    A World that can do more says so by also being one of the ``Supports…`` classes below; where one is
    missing, the tests that need it are skipped with its name.
    """

    patience_s: float = 10.0
    """Real seconds that any one call may take before a test gives it up."""
    moment_s: float = 0.02
    """Real seconds after which what has not happened is taken not to happen."""
    user: str = "guest"
    """Who an order lets log in."""
    near_end_ms: int = 60_000
    """How long after it is ordered, by ``clock``, a lease ends that is to end soon: time enough to provision it."""
    clock: Clock
    """What every backend of this world reads: hurried while somebody sleeps by it, unless a subclass sets another."""

    def __init__(self) -> None:
        self.clock = HurriedClock()

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Backend]:
        """Open a backend as the plugin's own opener does.

        Every call stands for another process: two open backends share the account and nothing else.
        """

    @abstractmethod
    def image(self) -> ImageRef:
        """Return an image that every offer runs."""

    @abstractmethod
    def secrets(self) -> tuple[str, ...]:
        """Return what must never appear in a repr, a message or a log line: the credentials in use."""

    @abstractmethod
    async def running(self) -> frozenset[InstanceId]:
        """Return the machines that exist and cost money now, ready or not, by asking no backend."""

    @abstractmethod
    async def exhaust(self) -> None:
        """Take the account's last free capacity; machines that run go on running."""

    @abstractmethod
    async def replenish(self) -> None:
        """Give the capacity back."""

    @abstractmethod
    async def refuse_credentials(self) -> None:
        """Refuse, from now on, the credentials that every open backend holds."""

    @abstractmethod
    async def accept_credentials(self) -> None:
        """Accept them again."""

    @abstractmethod
    async def go_down(self) -> None:
        """Stop answering; machines that run go on running."""

    @abstractmethod
    async def come_back(self) -> None:
        """Answer again."""

    def needs(self, offer: Offer) -> Requirements:
        """Return requirements that ``offer`` serves and that leave room for a second order."""
        return needs_of(offer)

    def order(self, offer: Offer, token: Token | None = None) -> Order:
        """Return a valid order for ``offer``, under a fresh token unless one is given."""
        return make_order(
            offer,
            new_token() if token is None else token,
            needs=self.needs(offer),
            image=self.image(),
            user=self.user,
            now=UtcMs(self.clock.utc_ms()),
        )

    async def let_pass(self, ms: int) -> None:
        """Let ``ms`` milliseconds of ``clock`` pass; override it where that clock stands still until it is moved."""
        await self.clock.sleep_ms(ms)

    def scanned(self) -> tuple[ModuleType, ...]:
        """Return the code that must not block the event loop: by default the World's own package.

        The World's module itself is let off, unless it is named here.
        """
        return (package_of(type(self).__module__),)


class SupportsHold(ABC):
    """A World that can hold a create at its worst moment. Only such a World shows what a cancelled one leaves."""

    @abstractmethod
    async def hold_next_create(self) -> Held:
        """Hold the next machine that any backend creates, once it exists, before it is ready.

        A terminate of the held machine goes through.
        """


class SupportsKill(ABC):
    """A World whose machines can die by themselves."""

    @abstractmethod
    async def kill(self, instance: InstanceId) -> None:
        """Let the machine die: not by the backend, not by its deadline."""


class SupportsAnnounce(ABC):
    """A World whose account tells of a machine before it takes it away."""

    @abstractmethod
    async def announce(self, instance: InstanceId) -> None:
        """Announce that the machine will be taken away, later than any test of it ends.

        A machine of a spot offer where any is sold; of any other machine, and of a stranger's, as far as the account
        can.
        """


class SupportsClockJump(ABC):
    """A World in which the bridge's wall clock can be wrong."""

    @abstractmethod
    async def jump_clock(self, ms: int) -> None:
        """Move the wall time of ``clock`` alone, either way; the account has a clock of its own."""


class SupportsLeftovers(ABC):
    """A World that can count what is made beside the machines."""

    @abstractmethod
    async def leftovers(self) -> frozenset[str]:
        """Return what stands on the account on behalf of any lease, machines apart: timers, processes, networks."""


class SupportsLostAnswer(ABC):
    """A World that can create a machine and then lose the answer."""

    @abstractmethod
    async def lose_next_answer(self) -> None:
        """Let the next create succeed and its caller learn nothing but an error of the connection."""


class SupportsPowerOff(ABC):
    """A World in which whoever is root in a guest can power it off, whatever the account makes of that."""

    @abstractmethod
    async def power_off(self, instance: InstanceId) -> None:
        """Power the machine off from inside."""

    @abstractmethod
    async def standing(self) -> frozenset[InstanceId]:
        """Return the machines of which anything exists, in whatever state, by asking no backend."""


class SupportsThrottle(ABC):
    """A World that can ask to be left alone."""

    @abstractmethod
    async def throttle(self) -> None:
        """Refuse every call as one too many, from now on."""

    @abstractmethod
    async def relent(self) -> None:
        """Take calls again."""


class SupportsQuota(ABC):
    """A World whose account has a quota."""

    @abstractmethod
    async def use_up_quota(self) -> None:
        """Leave nothing of the quota for another machine."""


class SupportsStranger(ABC):
    """A World in whose account others may have machines too."""

    @abstractmethod
    async def start_stranger(self) -> InstanceId:
        """Start a machine that carries none of our tags; ``running`` counts it."""


def package_of(module: str) -> ModuleType:
    """Return the top package that ``module`` is in, or the module itself where it stands alone."""
    top = sys.modules.get(module.partition(".")[0])
    return top if top is not None and getattr(top, "__path__", None) else sys.modules[module]
