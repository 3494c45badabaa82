"""One cloud as its plugin writes it: a handful of calls; and one machine in it, as a listing shows it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum

from attrs import field, frozen

from compute_bridge.cloud.tags import OwnedTags
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import DeadMansSwitch, InstanceExit, Offer, Order
from compute_bridge.ports.errors import BackendError


class MachineState(Enum):
    """How far a machine is. ``ENDING``: it costs or holds something still, and will not come back."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    GONE = "gone"


@frozen
class Machine:
    """One machine that carries tags of ours, at the moment of a listing.

    ``host`` is where it is dialled, empty while nobody knows. ``exit`` is why it ends or has ended, by the cloud's own
    record, where the listing tells. ``failure`` is why a machine that was accepted never ran. ``stays``: what is left
    of it does not go by itself, and has to be deleted once more.
    """

    id: InstanceId
    state: MachineState
    tags: OwnedTags
    host: str = ""
    started_at: UtcMs = UtcMs(0)
    exit: InstanceExit | None = None
    failure: BackendError | None = field(default=None, eq=False)
    stays: bool = False

    @property
    def is_live(self) -> bool:
        """Whether it is there or coming."""
        return self.state in (MachineState.PENDING, MachineState.RUNNING)


Machines = Mapping[InstanceId, Machine]


class Cloud(ABC):
    """What differs from cloud to cloud, behind :class:`~compute_bridge.cloud.backend.CloudBackend`.

    Every method raises a :class:`~compute_bridge.ports.errors.BackendError` and nothing else, and names the backend.
    """

    @property
    @abstractmethod
    def switch(self) -> DeadMansSwitch:
        """What ends a machine whose bridge does not come back."""

    @property
    def switch_grace_ms(self) -> Milliseconds:
        """How long after its end a machine may at most still run."""
        return Milliseconds(300_000)

    @property
    def switch_leaves_bill(self) -> bool:
        """Whether what the switch has stopped is billed until somebody deletes it."""
        return False

    @property
    @abstractmethod
    def images(self) -> tuple[str, ...]:
        """The names, without ``vm:``, of the images that the table maps to images of this cloud."""

    @property
    @abstractmethod
    def window_ms(self) -> Milliseconds:
        """How long a listing may miss what was made."""

    @abstractmethod
    def reaches(self, offer: Offer) -> bool:
        """Return whether the table still names the place of ``offer``; no I/O."""

    @abstractmethod
    def refuse(self, order: Order) -> None:
        """Refuse an order that this cloud cannot serve though the catalog and the images allow it; no I/O.

        :raises UnservableError: if it cannot.
        """

    @abstractmethod
    async def fetch(self) -> Catalog:
        """Read the catalog; see :meth:`~compute_bridge.ports.catalog.SupportsCatalog.fetch_catalog`."""

    @abstractmethod
    async def room(self) -> Callable[[CatalogRow], bool]:
        """Ask the cloud what its quotas leave room for, and return the answer for one row; also tells it is there."""

    @abstractmethod
    async def create(self, order: Order) -> None:
        """Send the one mutating call that makes the machine, with the token; return when the cloud has accepted it.

        Returns also where the cloud says that the token or the name has its machine already: the listing tells.
        Runs to its end also when cancelled.

        :raises UnservableError: if token or name were used up by a machine that has ended.
        """

    @abstractmethod
    async def machines(self, place: str) -> Machines:
        """List every machine in one of the ``places`` that carries our owner's tags; ended ones where the cloud does.

        What does not answer fails the whole listing: half a truth would be taken for all of it.
        """

    @property
    def places(self) -> tuple[str, ...]:
        """What is listed apart, such as regions with an API each: one that is silent then hides no other.

        One place without a name for a cloud that lists all at once.
        """
        return ("",)

    def place_of(self, instance: InstanceId) -> str:
        """Return the place in which a machine is listed, by its id; no I/O."""
        return ""

    def place_for(self, offer: Offer) -> str:
        """Return the place in which the machine of ``offer`` is listed; no I/O."""
        return ""

    @abstractmethod
    async def delete(self, machine: Machine) -> None:
        """Ask the cloud to end a machine and everything made for it; not found is done."""

    @abstractmethod
    async def discard(self, order: Order, machines: Machines) -> None:
        """Ask the cloud to end whatever an attempt at ``order`` left, whether or not ``machines`` shows it."""

    @abstractmethod
    async def exit_of(self, instance: InstanceId) -> InstanceExit | None:
        """Return the cloud's own record of an end that no listing shows any more, if it has one."""

    async def metered(self, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
        """Return ``allocated`` with those figures in place that the cloud's own metrics tell."""
        return allocated
