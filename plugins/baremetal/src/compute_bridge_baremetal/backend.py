"""The backend port over rack hosts: each machine is one offer, and remembers its own leases."""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio import to_thread

from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import BackendName, InstanceId, Token
from compute_bridge.model.resources import Capability, Requirements
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import UsageMetrics
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
    SupportsExtend,
)
from compute_bridge.ports.errors import BackendError, UnavailableError, UnservableError
from compute_bridge.wire.keys import require_ssh_public_line
from compute_bridge_baremetal.attempt import Attempt, remaining_ms
from compute_bridge_baremetal.config import BaremetalConfig, Driver, RackMachine
from compute_bridge_baremetal.offers import capability, complaint, free_of, offer_of
from compute_bridge_baremetal.protocol import script
from compute_bridge_baremetal.rack import RackHost
from compute_bridge_baremetal.record import Facts, parse_instance_id
from compute_bridge_baremetal.ssh import LoginKey, SshLink, Target, read_login_key
from compute_bridge_baremetal.watch import Watch

logger = logging.getLogger(__name__)

T = TypeVar("T")

_GRACE_MS = 60_000
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@asynccontextmanager
async def open_backend(context: BackendContext, config: BaremetalConfig) -> AsyncGenerator[Backend]:
    """Open the rack of ``config``; a machine is dialled when it is first asked.

    :raises CredentialsError: if the SSH key cannot be used.
    """
    text = await to_thread.run_sync(context.read_secret, config.ssh_key)
    key = read_login_key(text, place=f"backend {context.name}")
    # Read once, in a thread; later calls find it in memory.
    await to_thread.run_sync(script)
    links = {machine.name: _link(context.name, machine, key) for machine in config.machines}
    try:
        yield BaremetalBackend(context, config, links)
    finally:
        for link in links.values():
            await link.close()


def _link(backend: BackendName, machine: RackMachine, key: LoginKey) -> SshLink:
    host_key = require_ssh_public_line(machine.host_key)
    return SshLink(Target(_place(backend, machine), machine.address, machine.port, machine.user, host_key), key)


def _place(backend: BackendName, machine: RackMachine) -> str:
    return f"backend {backend}: rack host {machine.name}"


class BaremetalBackend(Backend, SupportsExtend, SupportsDeadMansSwitch):
    """One rack of the boot file."""

    def __init__(self, context: BackendContext, config: BaremetalConfig, links: dict[str, SshLink]) -> None:
        self._context = context
        self._config = config
        self._racks = {
            machine.name: RackHost(machine, config, links[machine.name], place=_place(context.name, machine))
            for machine in config.machines
        }
        self._watches = {
            name: Watch(rack.listing, context.clock, every_ms=config.watch_ms, place=rack.place)
            for name, rack in self._racks.items()
        }
        self._complaints: dict[str, str] = {}

    @property
    def name(self) -> BackendName:
        """The name that the operator gave this rack."""
        return self._context.name

    @property
    def dead_mans_switch(self) -> DeadMansSwitch:
        """The keeper on the rack host: beyond the reach of a container, but not of whoever is its own user there."""
        return DeadMansSwitch.CLOUD_SIDE if self._config.driver is Driver.PODMAN else DeadMansSwitch.GUEST_TIMER

    @property
    def dead_mans_grace_ms(self) -> Milliseconds:
        """A minute: the keeper looks as often as it meters, and a container may take its time to stop."""
        return Milliseconds(_GRACE_MS)

    # --- for sale -------------------------------------------------------------------------------

    def capabilities(self) -> tuple[Capability, ...]:
        """Return what each machine serves while nothing runs on it."""
        return tuple(capability(self._config, machine, machine.resources) for machine in self._config.machines)

    def can_satisfy(self, needs: Requirements) -> bool:
        """Return whether one machine serves these requirements while nothing runs on it."""
        return any(serves.serves(needs) for serves in self.capabilities())

    def reaches(self, offer: Offer) -> bool:
        """Return whether the boot file still names the machine of ``offer``."""
        return offer.id in self._racks

    async def offers(self) -> tuple[Offer, ...]:
        """Return an offer of each machine that answers, is fit and has something free.

        A machine that fails is logged and left out; the failure is raised where no machine answers.
        """
        answers = await self._ask_each(self._offer)
        failures = [answer for answer in answers if isinstance(answer, BackendError)]
        if len(failures) == len(answers):
            raise failures[0]
        for failure in failures:
            logger.warning("not offered: %s", failure)
        return tuple(answer for answer in answers if isinstance(answer, Offer))

    async def _offer(self, rack: RackHost) -> Offer | None:
        facts = await rack.facts()
        self._complain(rack, facts)
        free = None if facts.unfit else free_of(rack.machine, await rack.listing())
        if free is None:
            return None
        now = UtcMs(self._context.clock.utc_ms())
        return offer_of(self._config, rack.machine, free, backend=self.name, now=now)

    def _complain(self, rack: RackHost, facts: Facts) -> None:
        text = complaint(rack.machine, facts)
        # Once for each complaint: offers are asked for again and again.
        if text and text != self._complaints.get(rack.machine.name):
            logger.warning("%s: %s", rack.place, text)
        self._complaints[rack.machine.name] = text

    # --- making and ending ----------------------------------------------------------------------

    async def provision(self, order: Order) -> Instance:
        """Make the workload of ``order`` on the machine that its offer names, and wait for its SSH server."""
        rack = self._rack_for(order)
        return await Attempt(rack, order, self._context.clock).make()

    def _rack_for(self, order: Order) -> RackHost:
        rack = self._racks.get(order.offer.id)
        if rack is None or order.offer.backend != self.name:
            raise UnservableError(f"backend {self.name}: no offer {order.offer.id}; read the offers again")
        whole = capability(self._config, rack.machine, rack.machine.resources)
        if not order.offer.serves(order.requirements) or not whole.serves(order.requirements):
            raise UnservableError(f"{rack.place}: the order exceeds its offer; route it to another")
        is_run = self._config.runs_oci if order.image.is_oci else order.image.name[3:] in self._config.vm_images
        if not is_run:
            raise UnservableError(f"{rack.place}: the driver {self._config.driver} does not run {order.image.name}")
        _refuse_odd_access(order, rack.place)
        return rack

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Move the end that the rack host itself enforces."""
        located = self._locate(instance)
        if located is None:
            raise UnservableError(self._unknown(instance))
        rack, token = located
        left = remaining_ms(ends_at, self._context.clock, rack.place)
        await rack.extend(token, ends_at=ends_at, remaining_ms=left)

    async def terminate(self, instance: InstanceId) -> None:
        """End the lease: workload, network, rules, port and record."""
        located = self._locate(instance)
        if located is not None:
            rack, token = located
            await rack.terminate(token)

    # --- the truth ------------------------------------------------------------------------------

    async def find(self, token: Token) -> Instance | None:
        """Return the live lease of ``token``; None only where every machine says so."""

        async def look(rack: RackHost) -> Instance | None:
            return (await rack.listing()).leases.get(token)

        answers = await self._ask_each(look)
        for answer in answers:
            if isinstance(answer, Instance):
                return answer
        _raise_failure(answers)
        return None

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return the live leases of every machine; one that does not answer fails the whole."""

        async def look(rack: RackHost) -> tuple[Instance, ...]:
            return tuple((await rack.listing()).leases.values())

        answers = await self._ask_each(look)
        _raise_failure(answers)
        return tuple(instance for answer in answers if isinstance(answer, tuple) for instance in answer)

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return when the lease has ended, by the machine's own record of it."""
        located = self._locate(instance)
        if located is None:
            return InstanceExit(ExitCause.LOST, UtcMs(0), self._unknown(instance)[:500])
        rack, token = located
        return await self._watches[rack.machine.name].until_exit(token)

    async def usage(self, instance: InstanceId) -> UsageMetrics:
        """Return what the lease has used; after its end, what it had used by then."""
        located = self._locate(instance)
        if located is None:
            raise UnavailableError(self._unknown(instance))
        rack, token = located
        return await rack.usage(token)

    def _locate(self, instance: InstanceId) -> tuple[RackHost, Token] | None:
        parsed = parse_instance_id(instance)
        rack = self._racks.get(parsed[0]) if parsed else None
        return (rack, parsed[1]) if rack and parsed else None

    def _unknown(self, instance: InstanceId) -> str:
        return f"backend {self.name}: no machine of the boot file has {instance}; put the machine back to ask it"

    async def _ask_each(self, ask: Callable[[RackHost], Awaitable[T]]) -> list[T | BackendError]:
        """Ask every machine at once; one that fails keeps no other from answering."""
        answers: dict[str, T | BackendError] = {}

        async def ask_one(rack: RackHost) -> None:
            try:
                answers[rack.machine.name] = await ask(rack)
            except BackendError as failure:
                answers[rack.machine.name] = failure

        async with anyio.create_task_group() as tasks:
            for rack in self._racks.values():
                tasks.start_soon(ask_one, rack)
        return [answers[name] for name in self._racks]


def _raise_failure(answers: list[T | BackendError]) -> None:
    for answer in answers:
        if isinstance(answer, BackendError):
            raise answer


def _refuse_odd_access(order: Order, place: str) -> None:
    """A name or a key of another form would be read by the guest's SSH server as something else."""
    if not _LOGIN.fullmatch(order.access.user):
        raise UnservableError(f"{place}: {order.access.user!r} is no login name; use small letters and digits")
    try:
        require_ssh_public_line(order.access.authorized_key)
        require_ssh_public_line(order.access.host_key)
    except RecordError as error:
        raise UnservableError(f"{place}: the order carries no usable SSH key: {error}") from error
