"""EC2 behind the cloud port: what is asked of AWS to make, see and end a machine."""

from collections.abc import Callable
from functools import partial
from typing import Any

from compute_bridge.cloud.machine import Machine, Machines
from compute_bridge.cloud.notices import NoticedCloud, Recent
from compute_bridge.cloud.tags import OWNER, token_word
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.resources import Posture
from compute_bridge.model.units import Milliseconds
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import DeadMansSwitch, InstanceExit, Offer, Order
from compute_bridge.ports.errors import BackendError, UnavailableError, UnservableError
from compute_bridge.ports.notices import Interruption
from compute_bridge_aws.account import Account, code_of
from compute_bridge_aws.catalog import Shelf
from compute_bridge_aws.config import AwsConfig, AwsRegion
from compute_bridge_aws.errors import MISMATCH, NOT_FOUND
from compute_bridge_aws.group import Groups
from compute_bridge_aws.image import Images
from compute_bridge_aws.launch import MAX_USER_DATA, launch_request, user_data
from compute_bridge_aws.machine_of import exit_in, failure_in, machine_of, split, vcpus_in
from compute_bridge_aws.metrics import Metering
from compute_bridge_aws.notices import Notices
from compute_bridge_aws.quotas import Quotas

# EC2's listings are eventually consistent; a machine that was accepted may be missing for about a minute.
_WINDOW_MS = Milliseconds(60_000)
_GROUP_AGAIN_MS = 2000
_ENDED = ("shutting-down", "terminated", "stopping", "stopped")


def _named(name: str, *values: str) -> dict[str, Any]:
    return {"Name": name, "Values": list(values)}


class AwsCloud(NoticedCloud):
    """One account at AWS, in the regions of its table."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._config: AwsConfig = account.config
        self._sdk = account.sdk
        self._groups = Groups(account)
        self._images = Images(account)
        self._quotas = Quotas(account)
        self._shelf = Shelf(account, self._images)
        self._metering = Metering(account, window_ms=_WINDOW_MS)
        self._notices = Notices(account)

    @property
    def switch(self) -> DeadMansSwitch:
        """A timer in the guest, which its root can stop: EC2 ends no machine by itself."""
        return DeadMansSwitch.GUEST_TIMER

    @property
    def images(self) -> tuple[str, ...]:
        """The names that every region of the table maps."""
        return self._config.image_names

    @property
    def window_ms(self) -> Milliseconds:
        """How long EC2's listings may be behind."""
        return _WINDOW_MS

    def reaches(self, offer: Offer) -> bool:
        """Return whether the table still names the region of ``offer``: its listing shows every zone."""
        return self._config.region(offer.region) is not None

    def _table(self, offer: Offer) -> AwsRegion:
        table = self._config.region(offer.region)
        if table is None or offer.zone not in table.subnets:
            raise UnservableError(
                f"backend {self._account.name}: the table names no subnet in {offer.zone or offer.region}; add one"
            )
        return table

    def refuse(self, order: Order) -> None:
        """Refuse a zone without a subnet, and a document that EC2 would not take."""
        self._table(order.offer)
        size = len(user_data(order, self._config).encode())
        if size > MAX_USER_DATA:
            raise UnservableError(
                f"backend {self._account.name}: the guest's document has {size} bytes, EC2 takes {MAX_USER_DATA}; "
                "let the requester send a shorter key"
            )

    async def fetch(self) -> Catalog:
        """Read shapes and prices of every region."""
        return await self._shelf.fetch()

    async def room(self) -> Callable[[CatalogRow], bool]:
        """Compare the quotas of each region with what runs there."""
        has_room = await self._quotas.room()
        return lambda row: self._is_sold(row) and has_room(row)

    def _is_sold(self, row: CatalogRow) -> bool:
        # The catalog may be one that was kept, and the table another by now.
        table = self._config.region(row.region)
        posture = Posture.SEV_SNP if self._config.confidential else Posture.NONE
        is_same = (row.architecture, row.posture) == (self._config.architecture, posture)
        return is_same and table is not None and row.zone in table.subnets

    # --- making ---------------------------------------------------------------------------------

    async def create(self, order: Order) -> None:
        """Send ``RunInstances``, once."""
        try:
            made = await self._run(order)
        except BackendError as error:
            if code_of(error) != MISMATCH:
                raise
            # The token has its machine, made by a table that said otherwise then.
            await self._require_live(order)
            return
        if made["State"]["Name"] in _ENDED:
            # It may have failed while we were being answered, or have been made and ended before.
            raise failure_in(made, self._account.name, order.offer.region) or self._used_up(order)

    async def _run(self, order: Order) -> dict[str, Any]:
        try:
            return await self._sent(order)
        except BackendError as error:
            if code_of(error) != "InvalidGroup.NotFound":
                raise
        # The group is too new to be seen everywhere, or somebody has deleted it since we looked.
        await self._account.clock.sleep_ms(_GROUP_AGAIN_MS)
        self._groups.forget(order.offer.region, order.requirements.network)
        return await self._sent(order)

    async def _sent(self, order: Order) -> dict[str, Any]:
        table = self._table(order.offer)
        image = await self._images.of(table.name, order.image.name.removeprefix("vm:"))
        group = await self._groups.of(table.name, order.requirements.network)
        request = launch_request(order, self._config, table, image=image, group=group)
        doing = f"start a machine in {order.offer.zone}"
        return await self._account.change(doing, partial(self._sdk.run, table.name, request))

    async def _require_live(self, order: Order) -> None:
        states = {one["State"]["Name"] for one in await self._of_token(order)}
        if not states:
            raise UnavailableError(
                f"backend {self._account.name}: the token of {order.ownership.name} has a machine that no listing "
                "shows yet; nothing is concluded"
            )
        if states <= set(_ENDED):
            raise self._used_up(order)

    def _used_up(self, order: Order) -> UnservableError:
        return UnservableError(
            f"backend {self._account.name}: the token of {order.ownership.name} was used up by a machine that has "
            "ended; nothing is made under it again"
        )

    async def _of_token(self, order: Order) -> list[dict[str, Any]]:
        region = order.offer.region
        filters = [_named("client-token", token_word(order.token)), _named(f"tag:{OWNER}", self._config.owner)]
        return await self._account.read(
            f"look for a machine in {region}", partial(self._sdk.instances, region, filters)
        )

    # --- the truth ------------------------------------------------------------------------------

    @property
    def places(self) -> tuple[str, ...]:
        """The regions of the table: each has an API of its own."""
        return tuple(region.name for region in self._config.regions)

    def place_of(self, instance: InstanceId) -> str:
        """Return the region, which the id begins with."""
        return split(instance)[0]

    def place_for(self, offer: Offer) -> str:
        """Return the region."""
        return offer.region

    async def machines(self, place: str) -> Machines:
        """List one region."""
        filters = [_named(f"tag:{OWNER}", self._config.owner)]
        answers = await self._account.read(f"list machines in {place}", partial(self._sdk.instances, place, filters))
        now = self._account.clock.utc_ms()
        read = partial(
            machine_of, backend=self._account.name, region=place, public=self._config.public_address, now=now
        )
        told = [(machine, answer) for answer in answers if (machine := read(answer)) is not None]
        found = {machine.id: machine for machine, _ in told}
        self._metering.note(place, found, {machine.id: vcpus_in(answer) for machine, answer in told})
        return found

    async def exit_of(self, instance: InstanceId) -> InstanceExit | None:
        """Return what EC2 remembers of an end, for about an hour."""
        region, id_ = split(instance)
        if self._config.region(region) is None:
            return None
        filters = [_named("instance-id", id_), _named(f"tag:{OWNER}", self._config.owner)]
        answers = await self._account.read(
            f"look for a machine in {region}", partial(self._sdk.instances, region, filters)
        )
        return exit_in(answers[0], now=self._account.clock.utc_ms()) if answers else None

    async def interruptions(self, recent: Recent) -> tuple[Interruption, ...]:
        """Return the machines whose spot requests are marked for termination; EC2 does not say for when.

        One call a region, and none at all where no spot capacity is sold.
        """
        return await self._notices.standing()

    async def metered(self, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
        """Return ``allocated`` with CloudWatch's figures, where the table wants them."""
        return await self._metering.metered(machine, allocated) if self._config.metrics else allocated

    # --- ending ---------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Delete the security groups that nothing runs in any more."""
        await self._groups.leave()

    async def delete(self, machine: Machine) -> None:
        """End a machine; its disk, NIC and address go with it."""
        await self._terminate(*split(machine.id))

    async def discard(self, order: Order, machines: Machines) -> None:
        """End whatever the token made, by the listing and by the token itself."""
        ids = {machine.id for machine in machines.values() if machine.tags.token == order.token}
        made = {split(id_) for id_ in ids} | {
            (order.offer.region, one["InstanceId"]) for one in await self._of_token(order)
        }
        for region, id_ in sorted(made):
            await self._terminate(region, id_)

    async def _terminate(self, region: str, id_: str) -> None:
        try:
            await self._account.change(f"end {id_} in {region}", partial(self._sdk.terminate, region, id_))
        except BackendError as error:
            if code_of(error) not in NOT_FOUND:
                raise
