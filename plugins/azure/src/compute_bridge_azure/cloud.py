"""Azure as the room of the clouds wants it: its handful of calls."""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from anyio import to_thread

from compute_bridge.cloud.calls import Calls
from compute_bridge.cloud.every import answers, every
from compute_bridge.cloud.machine import Cloud, Machine, Machines
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import BackendContext, DeadMansSwitch, ExitCause, InstanceExit, Offer, Order
from compute_bridge.ports.errors import BackendError, UnavailableError, UnservableError
from compute_bridge_azure import body, catalog
from compute_bridge_azure.account import ADDRESS, DISK, NIC, Account, Listings, Part
from compute_bridge_azure.budget import Budget
from compute_bridge_azure.config import AzureConfig, Location
from compute_bridge_azure.errors import ABSENT, ALREADY_THERE, MEANINGS, NO_IMAGE, Answer, answer_of
from compute_bridge_azure.image import ImageFacts, Told
from compute_bridge_azure.metering import NAMES, WINDOW, metered
from compute_bridge_azure.quota import Room, read_room
from compute_bridge_azure.sdk import Arm, server_ms
from compute_bridge_azure.sizes import Size, read_size

if TYPE_CHECKING:
    from compute_bridge.cloud.tags import OwnedTags

logger = logging.getLogger(__name__)

T = TypeVar("T")

_KIND = "azure"
_REMEMBERED = 4096
_SPOT = "/spot"
# The one status of a create under ``If-None-Match: *`` whose name is taken, whatever Azure's code for that.
_TAKEN = 412
# Resource Manager answers lists from caches of its own.
_WINDOW_MS = Milliseconds(15_000)


class AzureCloud(Cloud):
    """One subscription. What it remembers is only what no listing can tell any more: why something is gone."""

    def __init__(self, context: BackendContext, config: AzureConfig, secret: str) -> None:
        self._context = context
        self._config = config
        self.budget = Budget()
        self._now_ms = UtcMs(0)
        self.arm = Arm(config, secret, self._hear)
        self._calls = Calls(self._translate, at_once=config.calls_at_once)
        self._sizes: dict[str, Mapping[str, Size]] = {}
        self.image_facts = ImageFacts(context.name, config, context.clock, self._read_image)
        self._known: Mapping[InstanceId, OwnedTags] = {}
        self._vanished: dict[InstanceId, OwnedTags] = {}
        self._made: dict[InstanceId, UtcMs] = {}
        self._ended: dict[InstanceId, UtcMs] = {}
        self._loose: Mapping[InstanceId, tuple[Part, ...]] = {}

    # --- what is known without asking ---------------------------------------------------------------

    @property
    def switch(self) -> DeadMansSwitch:
        """A timer in the guest."""
        return DeadMansSwitch.GUEST_TIMER

    @property
    def switch_leaves_bill(self) -> bool:
        """It does: a VM that was powered off from inside is allocated, and billed as if it ran."""
        return True

    @property
    def images(self) -> tuple[str, ...]:
        """The names in the table."""
        return tuple(image.name for image in self._config.image_table)

    @property
    def window_ms(self) -> Milliseconds:
        """How long a listing may be behind."""
        return _WINDOW_MS

    def reaches(self, offer: Offer) -> bool:
        """Return whether the table still names the location: the lists show the whole group whatever it says."""
        return self._config.location(offer.region) is not None

    def refuse(self, order: Order) -> None:
        """Refuse what no document can be written for."""
        body.refuse(self._config, self._context.name, order)

    # --- calls --------------------------------------------------------------------------------------

    async def read(self, doing: str, call: Callable[[], T]) -> T:
        """Make a call that changes nothing."""
        try:
            return await self._calls.read(doing, call)
        finally:
            self._calls.allow(self.budget.at_once(self._config.calls_at_once))

    async def look(self, doing: str, call: Callable[[], T], absent: Collection[str]) -> T | None:
        """Make a call that changes nothing; ``None`` where Azure answers that what it asks for is not there."""

        def asked() -> T | None:
            try:
                return call()
            except Exception as error:
                if _code(error) not in absent:
                    raise
                return None

        return await self.read(doing, asked)

    async def _change(self, doing: str, call: Callable[[], T]) -> T:
        try:
            return await self._calls.change(doing, call)
        finally:
            self._calls.allow(self.budget.at_once(self._config.calls_at_once))

    def _translate(self, doing: str, error: Exception) -> BackendError | None:
        answer = answer_of(error)
        if answer is None:
            return None
        return MEANINGS.error(self._context.name, doing, answer.code, retry_after_s=answer.retry_after_s)

    def _hear(self, headers: dict[str, str]) -> None:
        self.budget.hear(headers)
        self._now_ms = server_ms(headers) or self._now_ms

    @property
    def is_heard(self) -> bool:
        """Whether Azure has told its time."""
        return bool(self._now_ms)

    @property
    def now_ms(self) -> UtcMs:
        """The time by Azure's clock, as of the last answer, or by ours before there was any."""
        return self._now_ms or UtcMs(self._context.clock.utc_ms())

    # --- for sale -----------------------------------------------------------------------------------

    async def fetch(self) -> Catalog:
        """Read sizes and prices, location by location; one that does not answer is left out."""
        found = await self._in_each_location(self._rows)
        rows = sorted((row for part in found.values() for row in part), key=lambda row: row.key)
        return Catalog(self._context.name, _KIND, UtcMs(self._context.clock.utc_ms()), tuple(rows))

    async def _rows(self, location: Location) -> list[CatalogRow]:
        sizes = await self.sizes_of(location, is_fresh=True)
        currency = self._config.currency
        items = await self.read("read prices", lambda: self.arm.prices(location.name, currency))
        prices = catalog.read_prices(items, location.name, currency)
        observed_at = UtcMs(self._context.clock.utc_ms())
        return list(catalog.rows(self._config, location, sizes.values(), prices, observed_at))

    async def sizes_of(self, location: Location, *, is_fresh: bool) -> Mapping[str, Size]:
        """Return the sizes of a location that the subscription may use, as read in this process or, fresh, now."""
        if is_fresh or location.name not in self._sizes:
            skus = await self.read("list sizes", lambda: self.arm.skus(location.name))
            read = (read_size(sku, location.name) for sku in skus)
            self._sizes[location.name] = {size.name: size for size in read if size is not None}
        return self._sizes[location.name]

    async def room(self) -> Callable[[CatalogRow], bool]:
        """Read the quotas of every location."""
        rooms = await self._in_each_location(self._room)

        def has_room(row: CatalogRow) -> bool:
            size, room = self._sizes.get(row.region, {}).get(row.shape), rooms.get(row.region)
            if size is None or room is None or not catalog.is_on_sale(self._config, row):
                return False
            return room.holds(size.family, size.vcpus, spot=row.spot)

        return has_room

    async def _room(self, location: Location) -> Room:
        await self.sizes_of(location, is_fresh=False)
        return read_room(await self.read("list quotas", lambda: self.arm.usages(location.name)))

    async def _in_each_location(self, ask: Callable[[Location], Awaitable[T]]) -> dict[str, T]:
        """Return the answers by location; a place that is silent or closed is left out, unless all are."""
        found, failures = await answers({location.name: partial(ask, location) for location in self._config.locations})
        silences = {name: error for name, error in failures.items() if isinstance(error, UnavailableError)}
        for name, error in silences.items():
            logger.warning("%s is left out: %s", name, error)
        grave = [error for error in failures.values() if not isinstance(error, UnavailableError)]
        if grave or (failures and not found):
            raise (grave or [*failures.values()])[0]
        return found

    # --- making and ending --------------------------------------------------------------------------

    async def create(self, order: Order) -> None:
        """Send the one PUT, if the image can serve; where the name has its machine the listing tells."""
        if not await self._is_to_make(order):
            return
        document = body.machine_body(self._config, order)
        name = order.ownership.name

        def put() -> None:
            try:
                self.arm.create_machine(name, document)
            except Exception as error:
                answer = answer_of(error)
                if answer is None or not (answer.status == _TAKEN or answer.code in ALREADY_THERE):
                    raise

        try:
            await self._change(f"create {name}", put)
        finally:
            # Also where the answer was lost.
            self._made[InstanceId(name)] = self.now_ms
        self._ended.pop(InstanceId(name), None)

    async def _is_to_make(self, order: Order) -> bool:
        """Return whether there is something to make: an attempt before may have made it while the image served."""
        size = self._sizes.get(order.offer.region, {}).get(order.offer.shape)
        try:
            await self.image_facts.check(order, size)
        except UnservableError:
            machines = await self.read("list machines", self.arm.machines)
            if not any(one.get("name") == order.ownership.name for one in machines):
                raise
            return False
        return True

    async def _read_image(self, location: str, urn: str) -> Told:
        return await self.look(f"read image {urn} in {location}", lambda: self.arm.image(location, urn), NO_IMAGE)

    async def delete(self, machine: Machine) -> None:
        """Delete the machine, or what of it has stayed."""
        if not machine.stays:
            await self._delete_machine(machine.id)
        for part in self._loose.get(machine.id, ()) if machine.stays else ():
            await self._delete_part(part)

    async def discard(self, order: Order, machines: Machines) -> None:
        """Delete by the name, which is the token's alone; whatever stays of it the listing shows."""
        name = InstanceId(order.ownership.name)
        machine = machines.get(name)
        await (self.delete(machine) if machine is not None else self._delete_machine(name))

    async def _delete_machine(self, name: InstanceId) -> None:
        await self._change(f"delete {name}", lambda: _or_absent(lambda: self.arm.delete_machine(name)))
        self._ended[name] = self.now_ms
        self._made.pop(name, None)
        _forget_oldest(self._ended)

    async def _delete_part(self, part: Part) -> None:
        calls = {NIC: self.arm.delete_nic, ADDRESS: self.arm.delete_address, DISK: self.arm.delete_disk}
        call = calls[part.kind]
        await self._change(f"delete {part.kind} {part.name}", lambda: _or_absent(lambda: call(part.name)))

    # --- the truth ----------------------------------------------------------------------------------

    async def machines(self, place: str) -> Machines:
        """Read the group. Parts come first: one whose machine a later list does not have has none."""
        nics, addresses, disks = await self._together(self.arm.nics, self.arm.addresses, self.arm.disks)
        machines, statuses = await self._together(self.arm.machines, self.arm.statuses)
        read = Listings(nics, addresses, disks, machines, statuses, self.now_ms)
        account = Account(self._context.name, self._config.owner, self._known, self._coming())
        # A thousand machines take a while to read.
        seen = await to_thread.run_sync(account.machines, read)
        found, self._loose = seen.machines, seen.loose
        self._vanished |= {id_: tags for id_, tags in self._known.items() if id_ not in found}
        _forget_oldest(self._vanished)
        self._known = {id_: machine.tags for id_, machine in found.items()}
        return found

    def _coming(self) -> frozenset[InstanceId]:
        self._made = {name: at_ms for name, at_ms in self._made.items() if self.now_ms - at_ms < _WINDOW_MS}
        return frozenset(self._made)

    async def _together(self, *calls: Callable[[], T]) -> list[T]:
        found = await every({str(at): partial(self.read, "list machines", call) for at, call in enumerate(calls)})
        return [found[str(at)] for at in range(len(calls))]

    async def metered(self, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
        """Read CPU and network from Azure Monitor, where the table says so."""
        if not self._config.metrics:
            return allocated
        place, shape = machine.tags.offer.split("/")[:2]
        until_ms = self.now_ms
        read = partial(self.arm.metrics, machine.id, NAMES, WINDOW, machine.started_at, until_ms)
        told = await self.read("read metrics", read)
        size = self._sizes.get(place.partition("-")[0], {}).get(shape)
        vcpus = size.guest_vcpus if size is not None else -(-machine.tags.size.cpu_millis // 1000)
        return metered(allocated, told, vcpus, until_ms)

    async def exit_of(self, instance: InstanceId) -> InstanceExit | None:
        """Return what this process knows of an end: Azure keeps no record of it where the lists are."""
        if instance in self._ended:
            return InstanceExit(ExitCause.TERMINATED, self._ended[instance], "deleted by this bridge")
        tags = self._known.get(instance) or self._vanished.get(instance)
        if tags is not None and tags.offer.endswith(_SPOT):
            return InstanceExit(ExitCause.PREEMPTED, UtcMs(0), "a spot machine that vanished")
        return None


def _code(error: Exception) -> str:
    answer: Answer | None = answer_of(error)
    return answer.code if answer is not None else ""


def _or_absent(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception as error:
        if _code(error) not in ABSENT:
            raise


def _forget_oldest(memory: dict[InstanceId, T]) -> None:
    while len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]
