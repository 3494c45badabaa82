"""The backend port over one cloud: the life of a machine, told once for all clouds."""

import logging
from collections.abc import Callable
from typing import NoReturn

import anyio
from attrs import evolve

from compute_bridge.cloud.catalog_offers import CatalogOffers
from compute_bridge.cloud.listing import Listing
from compute_bridge.cloud.machine import Cloud, Machine, MachineState
from compute_bridge.cloud.places import Places, Seen
from compute_bridge.cloud.settings import CloudSettings, HostKey
from compute_bridge.cloud.ssh import rotate_host_key, shown_host_key
from compute_bridge.cloud.watch import Watch
from compute_bridge.model.catalog import Catalog
from compute_bridge.model.ids import BackendName, InstanceId, Token
from compute_bridge.model.resources import Capability, Requirements
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import UNMEASURED, Figure, UsageMetrics, UsageSource
from compute_bridge.ports.backend import (
    Backend,
    BackendContext,
    DeadMansSwitch,
    ExitCause,
    Instance,
    InstanceExit,
    Offer,
    Order,
    SupportsDeadMansSwitch,
)
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    NotYetTerminatedError,
    StopFailoverError,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.ports.remains import Remains, SupportsRemains

logger = logging.getLogger(__name__)

_OPEN_ENDED = (UnavailableError, ThrottledError, CredentialsError)
_PROBE_MS = 1000
_METERED_MS = 1000
_PROBE_S = 10.0
_UNDO_S = 90.0
_ENDING_S = 60.0
# Where a machine without an address is said to be; this name never resolves. Source: RFC 2606, section 2.
_NOWHERE = "pending.invalid"


class CloudBackend(Backend, SupportsDeadMansSwitch, SupportsCatalog, SupportsRemains):
    """One account at one cloud. What the account runs is known from its listing alone, never from memory."""

    def __init__(self, context: BackendContext, settings: CloudSettings, cloud: Cloud) -> None:
        self._context = context
        self._settings = settings
        self._cloud = cloud
        self._offers = CatalogOffers(context.name, settings, cloud.images)
        # Probes are not held back: one that waits for a guest that drops them would hold up the guests that answer.
        self._rotations = anyio.CapacityLimiter(settings.calls_at_once)
        self._is_unmetered = False
        # What the metrics told last of each machine that was not ended here: no figure falls while they are silent.
        self._last_metered: dict[InstanceId, tuple[Figure, Figure, Figure]] = {}
        self.places = Places(cloud, context.clock, name=context.name, every_ms=settings.watch_ms)

    @property
    def name(self) -> BackendName:
        """The name that the operator gave this account."""
        return self._context.name

    @property
    def consistency_window_ms(self) -> Milliseconds:
        """How long the cloud's listing may be behind."""
        return self._cloud.window_ms

    @property
    def dead_mans_switch(self) -> DeadMansSwitch:
        """What this cloud has."""
        return self._cloud.switch

    @property
    def dead_mans_grace_ms(self) -> Milliseconds:
        """How late it may be."""
        return self._cloud.switch_grace_ms

    @property
    def dead_mans_leaves_bill(self) -> bool:
        """Whether it only stops a machine."""
        return self._cloud.switch_leaves_bill

    # --- for sale -------------------------------------------------------------------------------

    def capabilities(self) -> tuple[Capability, ...]:
        """Return what the catalog in use declares; nothing before there is one."""
        return self._offers.capabilities

    def can_satisfy(self, needs: Requirements) -> bool:
        """Return whether one row of the catalog serves these requirements."""
        return any(capability.serves(needs) for capability in self.capabilities())

    def reaches(self, offer: Offer) -> bool:
        """Return whether the table still names the place of ``offer``."""
        return self._cloud.reaches(self._offers.there(offer))

    async def offers(self) -> tuple[Offer, ...]:
        """Return the rows of the catalog that the account's quotas have room for."""
        has_room = await self._cloud.room()
        return tuple(offer for row, offer in self._offers.pairs if has_room(row))

    async def fetch_catalog(self) -> Catalog:
        """Read shapes and prices from the cloud."""
        return await self._cloud.fetch()

    def use_catalog(self, catalog: Catalog) -> None:
        """Declare and offer from ``catalog`` from now on."""
        self._offers = CatalogOffers(self.name, self._settings, self._cloud.images, catalog, self._cloud.reaches)

    # --- making ---------------------------------------------------------------------------------

    async def provision(self, order: Order) -> Instance:
        """Make the machine of ``order`` and return when it shows the order's host key."""
        self._refuse_unservable(order)
        order = self._there(order)
        is_refused = False
        try:
            try:
                await self._create(order)
            except BackendError:
                # The cloud's definite no: nothing was made. After any other error only the listing can tell.
                is_refused = True
                raise
            with anyio.fail_after(self._settings.ready_s):
                return await self._ready(order)
        except _OPEN_ENDED:
            raise
        except BaseException as error:
            if not is_refused:
                await self._undo(order, error)
            if isinstance(error, TimeoutError):
                raise self._never_up(order) from error
            raise

    def _refuse_unservable(self, order: Order) -> None:
        if not self._offers.has(order.offer) or not order.offer.serves(order.requirements):
            raise UnservableError(
                f"backend {self.name}: offer {order.offer.id} is not sold or does not serve the order; "
                "read the offers again"
            )
        if not order.offer.runs(order.image):
            raise UnservableError(f"backend {self.name}: no image {order.image.name}; map it in the backend's images")
        self._cloud.refuse(self._there(order))

    def _there(self, order: Order) -> Order:
        return evolve(order, offer=self._offers.there(order.offer))

    def _never_up(self, order: Order) -> UnservableError:
        keeps = self._settings.host_key is HostKey.ROTATED
        return UnservableError(
            f"backend {self.name}: {order.ownership.name} took no login within {self._settings.ready_s} s; "
            "look at the image, the network and the SSH port"
            + ('; where its guests cannot change their host key, set host_key = "injected"' if keeps else "")
        )

    async def _create(self, order: Order) -> None:
        if order.ends_at > self._context.clock.utc_ms():
            await self._cloud.create(order)
        elif (await self.places.where(order.offer).fresh()).of(order.token) is None:
            # An end that has passed by a clock that leapt: a machine made before is met all the same.
            raise UnservableError(f"backend {self.name}: {order.ownership.name} would end before it starts")

    async def _ready(self, order: Order) -> Instance:
        began_ms = self._context.clock.monotonic_ms()

        def up(seen: Seen) -> Machine | None:
            machine = seen.by_token.get(order.token)
            if machine is None:
                self._refuse_absent(order, self._context.clock.monotonic_ms() - began_ms)
                return None
            return machine if self._is_up(order, machine) else None

        machine = await self.places.where(order.offer).until(up)
        told: set[str] = set()
        await poll(self._context.clock, _PROBE_MS, lambda: self._answers(order, told))
        return machine.tags.instance(machine.id, host=machine.host, started_at=machine.started_at)

    def _refuse_absent(self, order: Order, for_ms: int) -> None:
        if for_ms > 2 * self.consistency_window_ms + 2 * self._settings.watch_ms:
            raise UnavailableError(
                f"backend {self.name}: {order.ownership.name} was accepted and is in no listing; nothing is concluded"
            )

    def _is_up(self, order: Order, machine: Machine) -> bool:
        if machine.failure is not None:
            raise machine.failure
        if not machine.is_live:
            raise UnservableError(f"backend {self.name}: {order.ownership.name} has ended and is not made again")
        if machine.tags.host_key_source is not self._settings.host_key_source:
            # Also whoever may write tags could have a weaker key accepted in silence.
            raise UnservableError(
                f"backend {self.name}: the tags of {order.ownership.name} call its host key"
                f" {machine.tags.host_key_source}, and the table says {self._settings.host_key_source};"
                " if the table was not changed meanwhile, see who writes tags in this account"
            )
        return machine.state is MachineState.RUNNING and bool(machine.host)

    async def _answers(self, order: Order, told: set[str]) -> bool | None:
        machine = (await self.places.where(order.offer).recent()).by_token.get(order.token)
        if machine is None or not self._is_up(order, machine):
            return None
        where = (machine.host, machine.tags.port)
        shown = await shown_host_key(*where, within_s=_PROBE_S)
        if shown == order.access.host_key != machine.tags.host_key:
            async with self._rotations:
                error = await rotate_host_key(*where, order.access, within_s=_PROBE_S)
            if error:
                # Once an attempt, which probes each second.
                level = logging.DEBUG if told else logging.WARNING
                logger.log(level, "the host key of %s is not rotated yet: %s", order.ownership.name, error)
                told.add(error)
            shown = await shown_host_key(*where, within_s=_PROBE_S)
        return True if shown == machine.tags.host_key else None

    async def _undo(self, order: Order, error: BaseException) -> None:
        try:
            with anyio.fail_after(_UNDO_S, shield=True):
                await self._discard(order)
        except (BackendError, TimeoutError) as stuck:
            self._give_up(order, error, stuck)

    async def _discard(self, order: Order) -> None:
        listing = self.places.where(order.offer)
        machines = await listing.fresh()
        if machines.of(order.token) is None:
            machines = await self._settled(listing)
        await self._cloud.discard(order, machines)
        await self._emptied(listing, lambda seen: seen.of(order.token))

    async def _emptied(self, listing: Listing[Seen], look: Callable[[Seen], Machine | None]) -> None:
        """Return when ``look`` finds nothing of a machine; what stays behind of it is deleted once more."""

        def over(seen: Seen) -> Machine | bool | None:
            left = look(seen)
            if left is None or left.state is MachineState.GONE:
                return True
            return left if left.stays else None

        while isinstance(left := await listing.until(over), Machine):
            await self._cloud.delete(left)

    async def _settled(self, listing: Listing[Seen]) -> Seen:
        """Return a listing that shows whatever was made before this call."""
        await self._context.clock.sleep_ms(self.consistency_window_ms)
        return await listing.fresh()

    def _give_up(self, order: Order, error: BaseException, stuck: Exception) -> None:
        message = f"backend {self.name}: {order.ownership.name} may be left behind; compute-bridge sweep tells"
        if isinstance(error, Exception):
            raise StopFailoverError(message) from stuck
        logger.error("%s: %s", message, stuck)

    # --- the truth ------------------------------------------------------------------------------

    async def find(self, token: Token) -> Instance | None:
        """Return the live machine of ``token``."""
        machine = await self.places.find(token)
        if machine is None or not machine.is_live:
            return None
        if not machine.host:
            raise UnavailableError(f"backend {self.name}: {machine.id} is still being made; ask again")
        return _instance(machine)

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return every live machine with our owner's tags."""
        machines = await self.places.fresh()
        return tuple(_instance(machine) for machine in machines.values() if machine.is_live)

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return what stands of every machine with our owner's tags that costs or holds something and is not live."""
        machines = await self.places.fresh()
        return tuple(_remains(one) for one in machines.values() if one.state is MachineState.ENDING)

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return when the machine ends, by the cloud's own record."""
        clock = self._context.clock
        watch = Watch(instance, clock, self.consistency_window_ms)
        seen = await self.places.of(instance).until(watch.over, patient=True)
        if isinstance(seen, Machine) and seen.exit is not None:
            return seen.exit
        return await poll(clock, self._settings.watch_ms, lambda: self._recorded(instance))

    async def _recorded(self, instance: InstanceId) -> InstanceExit | None:
        try:
            exit_ = await self._cloud.exit_of(instance)
        except BackendError as error:
            logger.warning("the end of %s is not known yet: %s", instance, error)
            return None
        return exit_ or InstanceExit(ExitCause.LOST, UtcMs(0), f"backend {self.name} has no record of its end")

    async def usage(self, instance: InstanceId) -> UsageMetrics:
        """Return what was allocated for the time since the start, and what the cloud's metrics tell."""
        # Shared among leases that are metered together, and never so old that silence since would be missed.
        listing = self.places.of(instance)
        recent = await listing.recent(within_ms=_METERED_MS)
        machine = recent.get(instance) or (await listing.fresh()).get(instance)
        if machine is None or not machine.started_at:
            raise UnavailableError(f"backend {self.name}: the account tells nothing of {instance}")
        ended = machine.exit.ended_at if machine.exit else 0
        if not machine.is_live and not ended:
            # Not until now: whoever pays for it would pay for what nobody had.
            raise UnavailableError(f"backend {self.name}: nothing tells when {instance} ended, nor how long it ran")
        wall_ms = max(0, (ended or self._context.clock.utc_ms()) - machine.started_at)
        return await self._metered(machine, _allocated(machine, wall_ms))

    async def _metered(self, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
        try:
            told = await self._cloud.metered(machine, allocated)
        except BackendError as error:
            # Time is known all the same, and a lease that runs must be counted.
            if not self._is_unmetered:
                logger.warning("CPU and network are not told just now: %s", error)
            self._is_unmetered = True
            cpu, received, sent = self._last_metered.get(machine.id, (UNMEASURED, UNMEASURED, UNMEASURED))
            return evolve(allocated, core_ms=cpu, net_in_bytes=received, net_out_bytes=sent)
        self._is_unmetered = False
        self._last_metered[machine.id] = (told.core_ms, told.net_in_bytes, told.net_out_bytes)
        return told

    # --- ending ---------------------------------------------------------------------------------

    async def terminate(self, instance: InstanceId) -> None:
        """End the machine and return when no listing shows it, and nothing of it."""
        listing = self.places.of(instance)
        machine = (await listing.fresh()).get(instance) or (await self._settled(listing)).get(instance)
        if machine is None or machine.state is MachineState.GONE:
            return
        await self._cloud.delete(machine)
        with anyio.move_on_after(_ENDING_S) as scope:
            await self._emptied(listing, lambda seen: seen.get(instance))
        if scope.cancelled_caught:
            self._still_going(instance)
        self._last_metered.pop(instance, None)

    def _still_going(self, instance: InstanceId) -> NoReturn:
        raise NotYetTerminatedError(f"backend {self.name}: {instance} is still going away; ask again")


def _instance(machine: Machine) -> Instance:
    return machine.tags.instance(machine.id, host=machine.host or _NOWHERE, started_at=machine.started_at)


def _remains(machine: Machine) -> Remains:
    told = machine.failure or (machine.exit.detail if machine.exit else "is going away")
    return Remains(machine.id, machine.tags.token, machine.tags.ownership, detail=str(told)[:500])


def _allocated(machine: Machine, wall_ms: int) -> UsageMetrics:
    size = machine.tags.size

    def allocated(units: int) -> Figure:
        return Figure(units, UsageSource.ALLOCATION)

    return UsageMetrics(
        core_ms=allocated(size.cpu_millis * wall_ms // 1000),
        ram_mib_ms=allocated(size.mem_mib * wall_ms),
        disk_gib_ms=allocated(size.disk_gib * wall_ms),
        gpu_ms=allocated(size.gpus * wall_ms),
        wall_ms=Figure(wall_ms, UsageSource.BACKEND),
    )
