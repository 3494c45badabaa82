"""Compute Engine behind the backend port: what is sent, and how the answers are read."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from uuid import uuid4

from attrs import evolve

from compute_bridge.cloud.calls import Calls
from compute_bridge.cloud.machine import Machine, Machines, MachineState
from compute_bridge.cloud.notices import NoticedCloud, Recent
from compute_bridge.cloud.watch import CAUSE_MS
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.model.resources import Posture
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import BackendContext, DeadMansSwitch, ExitCause, InstanceExit, Offer, Order
from compute_bridge.ports.errors import BackendError, NoCapacityError, Scope, UnavailableError, UnservableError
from compute_bridge.ports.notices import Interruption
from compute_bridge_gcp.body import machine_body, owned_by, request_id
from compute_bridge_gcp.catalog import catalog_of
from compute_bridge_gcp.config import MAX_RUN_S, GcpConfig, GcpImage, GcpRegion
from compute_bridge_gcp.ending import exit_in, is_target, where_target
from compute_bridge_gcp.errors import ALREADY_EXISTS, INVALID, MEANINGS, NOT_FOUND, NOT_READY
from compute_bridge_gcp.facts import Operation, Seen
from compute_bridge_gcp.image import Images
from compute_bridge_gcp.listing import explained, failed_machine, instance_id, machines_in
from compute_bridge_gcp.metering import Metering
from compute_bridge_gcp.preemption import Preemptions
from compute_bridge_gcp.room import room_in
from compute_bridge_gcp.sdk import Sdk, answer_of
from compute_bridge_gcp.zones import Zones

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A machine stands in the listing as soon as its create is accepted; this leaves room for a replica that lags.
_WINDOW_MS = Milliseconds(10_000)
# For how long the operation that stopped a machine is looked for. Less than the watch waits for it, by more than a
# listing takes: else a machine that was powered off from inside would be told as lost.
_CAUSE_MS = CAUSE_MS * 3 // 4


def zone_and_name(instance: InstanceId) -> tuple[str, str] | None:
    """Return the zone and the name in an id of ours, or None for any other id."""
    zone, slash, name = instance.partition("/")
    return (zone, name) if slash and zone and name and "/" not in name else None


class GcpCloud(NoticedCloud):
    """One project. What a create was answered is remembered until its machine runs or is known to have failed."""

    def __init__(self, context: BackendContext, config: GcpConfig, sdk: Sdk) -> None:
        self._context = context
        self._config = config
        self._sdk = sdk
        self._pending: dict[Token, tuple[Order, Operation]] = {}
        # Since when each machine has been seen to end, by our clock; and of those that stopped what operations tell.
        self._ending: dict[InstanceId, int] = {}
        self._stops: dict[InstanceId, InstanceExit | None] = {}
        self._preemptions = Preemptions(context.name, config.service_account, self._operations_on)
        self.calls = Calls(self._translated, at_once=config.calls_at_once)
        self._metering = Metering(context, self.calls, sdk)
        self._zones = Zones(context.name, config)
        self._images = Images(context, config, self.calls, sdk)

    @property
    def switch(self) -> DeadMansSwitch:
        """The vendor's own limit of a run."""
        return DeadMansSwitch.CLOUD_SIDE

    @property
    def images(self) -> tuple[str, ...]:
        """The names in the table."""
        return tuple(image.name for image in self._config.images)

    @property
    def window_ms(self) -> Milliseconds:
        """How far a listing may be behind."""
        return _WINDOW_MS

    def reaches(self, offer: Offer) -> bool:
        """Return whether the table names the zone of ``offer``, itself or all of its region.

        A listing shows any other too, while it answers; while it does not, the listing may do without.
        """
        return self._config.region_of(offer.zone) is not None

    # --- failures -------------------------------------------------------------------------------

    def _translated(self, doing: str, error: Exception) -> BackendError | None:
        answer = answer_of(error)
        if answer is None:
            return None
        return MEANINGS.error(self._context.name, doing, answer.code, retry_after_s=answer.retry_after_s)

    @staticmethod
    def _code(error: BackendError) -> str:
        answer = answer_of(error.__cause__) if isinstance(error.__cause__, Exception) else None
        return answer.code if answer is not None else ""

    async def _asked(self, doing: str, call: Callable[[], T]) -> T:
        """Return what a call returns that serves no order: what is not served then is not known."""
        try:
            return await self.calls.read(doing, call)
        except UnservableError as error:
            raise UnavailableError(str(error)) from error.__cause__

    def _failure(self, order: Order, operation: Operation) -> BackendError:
        """Return why a create came to nothing. Its request id is spent, so what would pass by itself is no answer."""
        doing = f"make {order.ownership.name} in {order.offer.zone}"
        code = operation.codes[0]
        error = MEANINGS.error(self._context.name, doing, code)
        if MEANINGS.knows(code) and isinstance(error, UnavailableError):
            return NoCapacityError(str(error), scope=Scope.OFFER)
        return self._or_not_here(order, error, code)

    @staticmethod
    def _or_not_here(order: Order, error: BackendError, code: str) -> BackendError:
        if order.offer.posture is not Posture.NONE and code in INVALID:
            # No API tells where confidential machines are made; a bad request is how one hears of it.
            return NoCapacityError(f"{error}; {order.offer.posture} seems not to be made here", scope=Scope.OFFER)
        return error

    # --- making ---------------------------------------------------------------------------------

    def refuse(self, order: Order) -> None:
        """Refuse what the table no longer has, what runs too long, and an image that is not for confidential ones."""
        name = f"backend {self._context.name}: {order.ownership.name}"
        if order.ends_at - self._context.clock.utc_ms() > MAX_RUN_S * 1000:
            raise UnservableError(f"{name} would run beyond the vendor's limit of {MAX_RUN_S} s; sell shorter leases")
        _, image = self._place(order)
        if order.offer.posture is not Posture.NONE and not image.confidential:
            raise UnservableError(f"{name}: image {image.name} is not marked confidential; give another or mark it")

    def _place(self, order: Order) -> tuple[GcpRegion, GcpImage]:
        region = self._config.region_of(order.offer.zone)
        image = self._config.image_called(order.image.name.removeprefix("vm:"))
        if region is None or image is None:
            raise UnservableError(
                f"backend {self._context.name}: the table has no {order.offer.zone} or no image {order.image.name}"
            )
        return region, image

    async def create(self, order: Order) -> None:
        """Send the insert; what it is answered decides, and after that the listing."""
        region, image = self._place(order)
        if not await self._boots(order, image):
            return
        zone, name = order.offer.zone, order.ownership.name
        body = machine_body(self._config, region, image, order, now_ms=self._context.clock.utc_ms())
        insert = partial(self._sdk.insert, zone, request_id(order.token), body)
        try:
            operation = await self.calls.change(f"make {name} in {zone}", insert)
        except BackendError as error:
            code = self._code(error)
            if code in ALREADY_EXISTS:
                return
            if (meant := self._or_not_here(order, error, code)) is not error:
                raise meant from error.__cause__
            raise
        await self._accept(order, operation)

    async def _boots(self, order: Order, image: GcpImage) -> bool:
        """Return whether there is something to make: False where it was made before the image went bad.

        :raises UnservableError: if it was not, and would not boot.
        """
        try:
            await self._images.require(image, order.offer.posture)
        except UnservableError:
            if not await self._exists(order):
                raise
            return False
        return True

    async def _accept(self, order: Order, operation: Operation) -> None:
        if operation.codes and not ALREADY_EXISTS.isdisjoint(operation.codes):
            return
        if operation.is_done and operation.codes:
            self._pending.pop(order.token, None)
            raise self._failure(order, operation)
        if operation.is_done and not await self._exists(order):
            raise UnservableError(
                f"backend {self._context.name}: {order.ownership.name} was made before and has ended; "
                "its token is used up"
            )
        self._pending[order.token] = (order, operation)

    async def _exists(self, order: Order) -> bool:
        zone, name = order.offer.zone, order.ownership.name
        try:
            await self.calls.read(f"look at {name} in {zone}", partial(self._sdk.instance, zone, name))
        except BackendError as error:
            if self._code(error) in NOT_FOUND:
                return False
            raise
        return True

    # --- the truth ------------------------------------------------------------------------------

    async def machines(self, place: str) -> Machines:
        """List the project once; ask for an operation only where its machine is not to be seen, or is stopping."""
        doing = "list machines"
        seen, silent = await self._asked(doing, partial(self._sdk.instances, owned_by(self._config.owner)))
        ours = machines_in(seen, is_public=self._config.public_address)
        self._zones.note(id_.partition("/")[0] for id_ in ours)
        self._zones.require(doing, silent, shows_machines=True)
        machines = await self._going(seen, ours)
        by_token = {machine.tags.token: machine for machine in machines.values()}
        for token, (order, operation) in list(self._pending.items()):
            machine = by_token.get(token)
            if machine is not None:
                if machine.state is not MachineState.PENDING:
                    self._pending.pop(token, None)
            elif failure := await self._failed(order, operation):
                stands_for = failed_machine(self._config, order, failure)
                machines[stands_for.id] = stands_for
        return await self._explained(machines)

    async def _going(self, seen: list[Seen], machines: dict[InstanceId, Machine]) -> dict[InstanceId, Machine]:
        """Return the machines, those that are being preempted as running: until they are gone, they are there."""
        ours = [one for one in seen if instance_id(one.zone, one.name) in machines]
        self._metering.note(ours)
        await self._preemptions.look(ours)
        return machines | {id_: self._preemptions.going(machines[id_]) for id_ in self._preemptions.standing}

    async def interruptions(self, recent: Recent) -> tuple[Interruption, ...]:
        """Return the spot machines that are being preempted; nothing is asked where no spot capacity is sold."""
        if not self._config.spot:
            return ()
        machines = await recent()
        return tuple(notice for id_, notice in self._preemptions.standing.items() if id_ in machines)

    async def metered(self, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
        """Return ``allocated`` with Cloud Monitoring's figures, where the table wants them."""
        return await self._metering.metered(machine, allocated) if self._config.metrics else allocated

    async def _explained(self, machines: Machines) -> Machines:
        """Return the machines, the stopped ones with their causes: asked for until they are told, for few stop.

        A stop whose operation is not listed yet is of no cause until a while has passed; the watch counts from when
        the machine began to stop, and so does this.
        """
        now_ms = self._context.clock.monotonic_ms()
        ending = {id_ for id_, machine in machines.items() if machine.state is MachineState.ENDING}
        self._ending = {id_: self._ending.get(id_, now_ms) for id_ in ending}
        stops: dict[InstanceId, InstanceExit | None] = {}
        for id_ in (id_ for id_ in ending if machines[id_].exit is not None and machines[id_].failure is None):
            cause = self._stops.get(id_)
            # Once at least, for a guest may take longer than that to shut down.
            if cause is None and (id_ not in self._stops or now_ms - self._ending[id_] <= _CAUSE_MS):
                cause = await self.exit_of(id_)
            stops[id_] = cause
        self._stops = stops
        return {id_: self._with_cause(machine, now_ms) for id_, machine in machines.items()}

    def _with_cause(self, machine: Machine, now_ms: int) -> Machine:
        cause = self._stops.get(machine.id)
        if machine.id in self._stops and cause is None and now_ms - self._ending.get(machine.id, now_ms) < _CAUSE_MS:
            return evolve(machine, exit=None)
        return explained(machine, cause)

    async def _failed(self, order: Order, operation: Operation) -> BackendError | None:
        if not operation.is_done:
            operation = await self._looked_up(order, operation)
            if order.token in self._pending:
                self._pending[order.token] = (order, operation)
        if not operation.is_done:
            return None
        # Without a code it was made, and has ended since; with one, somebody hears of it before the lease is over.
        if not operation.codes or order.ends_at < self._context.clock.utc_ms():
            self._pending.pop(order.token, None)
            return None
        return self._failure(order, operation)

    async def _looked_up(self, order: Order, operation: Operation) -> Operation:
        look = partial(self._sdk.operation, order.offer.zone, operation.name)
        try:
            return await self.calls.read(f"look at the making of {order.ownership.name}", look)
        except BackendError as error:
            if self._code(error) in NOT_FOUND:
                return evolve(operation, is_done=True)
            raise

    async def exit_of(self, instance: InstanceId) -> InstanceExit | None:
        """Return what the zone's operations tell of an end."""
        place = zone_and_name(instance)
        if place is None:
            return None
        try:
            operations = await self._operations_on(instance)
        except BackendError as error:
            if self._code(error) in NOT_FOUND | INVALID:
                return None
            raise
        exit_ = exit_in(operations, self._config.service_account)
        if exit_ is not None and exit_.cause is ExitCause.PREEMPTED:
            logger.warning("backend %s: %s was preempted", self._context.name, instance)
        return exit_

    async def _operations_on(self, instance: InstanceId) -> list[Operation]:
        zone, _, name = instance.partition("/")
        doing = f"read the end of {instance}"
        try:
            found = await self.calls.read(doing, partial(self._sdk.operations, zone, where_target(zone, name)))
        except BackendError as error:
            if self._code(error) not in INVALID:
                raise
            # Where the vendor does not take the filter, it is ours to choose.
            found = await self.calls.read(doing, partial(self._sdk.operations, zone, ""))
        return [one for one in found if is_target(one, zone, name)]

    # --- ending ---------------------------------------------------------------------------------

    async def delete(self, machine: Machine) -> None:
        """Delete the machine; its disk and its address go with it."""
        place = zone_and_name(machine.id)
        if place is not None:
            await self._delete(*place)

    async def discard(self, order: Order, machines: Machines) -> None:
        """Delete by name, whether or not a listing shows it, and forget the attempt."""
        self._pending.pop(order.token, None)
        await self._delete(order.offer.zone, order.ownership.name)

    async def _delete(self, zone: str, name: str) -> None:
        delete = partial(self._sdk.delete, zone, name, str(uuid4()))
        try:
            operation = await self.calls.change(f"end {name} in {zone}", delete)
        except BackendError as error:
            if self._code(error) in NOT_FOUND | NOT_READY:
                return
            if isinstance(error, UnservableError):
                raise UnavailableError(f"{error}; it runs on") from error.__cause__
            raise
        if operation.codes and operation.codes[0] not in NOT_FOUND | NOT_READY:
            failure = MEANINGS.error(self._context.name, f"end {name} in {zone}", operation.codes[0])
            raise UnavailableError(f"{failure}; it runs on")

    # --- for sale -------------------------------------------------------------------------------

    async def fetch(self) -> Catalog:
        """Read zones, machine types and prices."""
        zones = await self._asked("list zones", self._sdk.zones)
        shapes, silent = await self._asked("list machine types", self._sdk.shapes)
        self._zones.require("list machine types", silent, shows_machines=False)
        skus = await self._asked("read the price list", self._sdk.skus)
        now = UtcMs(self._context.clock.utc_ms())
        return catalog_of(self._context.name, self._config, zones, shapes, skus, observed_at=now)

    async def room(self) -> Callable[[CatalogRow], bool]:
        """Ask for every region's quotas in one call."""
        regions = await self._asked("read quotas", self._sdk.regions)
        return room_in(regions, has_addresses=self._config.public_address)
