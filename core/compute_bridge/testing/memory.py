"""The reference backend, over the cloud in memory: complete, small, and passing the whole conformance kit.

Read it as one example of every promise in :class:`~compute_bridge.ports.backend.Backend`; its shape fits most clouds.
"""

import logging
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

import anyio
from attrs import field, frozen

from compute_bridge.model.boot import SecretRef, about
from compute_bridge.model.ids import BackendName, InstanceId, OfferId, Token
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Capability, NetworkPolicy, Posture, Region, Requirements, Resources, Zone
from compute_bridge.model.units import HOUR_MS, Milliseconds, NanosPerHour, UtcMs
from compute_bridge.model.usage import Figure, UsageMetrics, UsageSource
from compute_bridge.ports import errors
from compute_bridge.ports.backend import (
    Backend,
    BackendContext,
    BackendKind,
    DeadMansSwitch,
    ExitCause,
    HostKeySource,
    Instance,
    InstanceExit,
    Offer,
    Order,
    Ownership,
    SupportsDeadMansSwitch,
    SupportsExtend,
)
from compute_bridge.ports.notices import Interruption, SupportsNotices
from compute_bridge.ports.remains import Remains, SupportsRemains
from compute_bridge.testing.memory_account import IMAGES, SHAPES, Client, CloudError, Machine, Shape, connect

logger = logging.getLogger(__name__)

_UNDO_S = 30
_RETRY_MS = 1000
_GRACE_MS = 60_000
_TAG = "cb-token"
_END_TAG = "cb-ends-at"

# The vendor's codes and what each means to the host. What is not here is a bug of ours, and leaves as one.
_MEANINGS: dict[str, tuple[type[errors.BackendError], str]] = {
    "exhausted": (errors.NoCapacityError, "nothing is free; try another offer"),
    "quota": (errors.QuotaError, "the account's quota is used up; ask the vendor for more"),
    "throttled": (errors.ThrottledError, "too many calls; wait"),
    "auth": (errors.CredentialsError, "the api_key is refused; check the backend's table in the boot file"),
    "timeout": (errors.UnavailableError, "no answer; try again"),
    "not-found": (errors.UnavailableError, "the account does not know this machine"),
    "no-such-shape": (errors.UnservableError, "this shape is not sold; read the offers again"),
    "no-such-image": (errors.UnservableError, f"this image is not there; the images are {', '.join(IMAGES)}"),
}
# After these nothing is concluded: the machine may be there, and the same token may be tried again.
_OPEN_ENDED = (errors.UnavailableError, errors.ThrottledError, errors.CredentialsError)
_CAUSES = {
    "deleted": ExitCause.TERMINATED,
    "off": ExitCause.EXITED,
    "crashed": ExitCause.LOST,
    "expired": ExitCause.DEADLINE,
    "preempted": ExitCause.PREEMPTED,
}


@frozen(kw_only=True)
class MemoryConfig:
    """``[[backend]]`` with ``kind = "memory"``."""

    endpoint: str = field(metadata=about("the endpoint of the account in this process"))
    api_key: SecretRef = field(metadata=about("the key of the account"))


@asynccontextmanager
async def open_memory_backend(context: BackendContext, config: MemoryConfig) -> AsyncGenerator[Backend]:
    """Open the reference backend on the account at ``config.endpoint``."""
    key = context.read_secret(config.api_key)
    with _translated(context.name, f"connect to {config.endpoint}"):
        client = connect(config.endpoint, key)
    yield MemoryBackend(context, client)


MEMORY = BackendKind("memory", MemoryConfig, open_memory_backend)


class MemoryBackend(Backend, SupportsExtend, SupportsDeadMansSwitch, SupportsNotices, SupportsRemains):
    """The backend port over a session with the cloud in memory."""

    def __init__(self, context: BackendContext, client: Client) -> None:
        self._context = context
        self._client = client
        self._announced: frozenset[str] = frozenset()

    @property
    def name(self) -> BackendName:
        """The name that the operator gave this backend."""
        return self._context.name

    @property
    def dead_mans_switch(self) -> DeadMansSwitch:
        """The vendor's own timer, which nobody in the guest can reach."""
        return DeadMansSwitch.CLOUD_SIDE

    @property
    def dead_mans_grace_ms(self) -> Milliseconds:
        """A minute: the vendor is on time, but is told what is left a moment after that was counted."""
        return Milliseconds(_GRACE_MS)

    def capabilities(self) -> tuple[Capability, ...]:
        """Return the vendor's catalogue, which is known without asking."""
        return tuple(self._offer(shape).capability for shape in SHAPES)

    def can_satisfy(self, needs: Requirements) -> bool:
        """Return whether one shape of the catalogue serves these requirements."""
        return any(capability.serves(needs) for capability in self.capabilities())

    async def offers(self) -> tuple[Offer, ...]:
        """Return the shapes that are free now."""
        with self._translated("list offers"):
            return tuple(self._offer(shape) for shape in await self._client.shapes())

    async def provision(self, order: Order) -> Instance:
        """Make the machine of ``order``; its name is taken from the order, so it cannot be made twice."""
        self._refuse_unservable(order)
        try:
            machine = await self._make(order)
        except _OPEN_ENDED:
            raise
        except BaseException as error:
            await self._undo(order, error)
            raise
        return _instance(machine)

    async def find(self, token: Token) -> Instance | None:
        """Return the live machine that carries ``token``."""
        with self._translated("find a machine"):
            machines = await self._live(token)
        return _instance(machines[0]) if machines else None

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return every live machine that carries a token."""
        with self._translated("list machines"):
            return tuple(_instance(machine) for machine in await self._live())

    async def list_remains(self) -> tuple[Remains, ...]:
        """Return every machine that carries a token and was powered off."""
        with self._translated("list what remains"):
            return tuple(_remains(machine) for machine in await self._standing() if not machine.is_live)

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return when the machine has ended; wait while the account cannot say."""
        while True:
            try:
                with self._translated(f"watch {instance}"):
                    machine = await self._client.wait_gone(instance)
                return InstanceExit(_CAUSES[machine.state], UtcMs(machine.ended_ms))
            except errors.BackendError as error:
                if _is_unknown(error.__cause__):
                    return InstanceExit(ExitCause.LOST, UtcMs(0), "the account does not know this machine")
                logger.warning("backend %s: cannot watch, trying again: %s", self.name, error)
            await self._context.clock.sleep_ms(_RETRY_MS)

    async def usage(self, instance: InstanceId) -> UsageMetrics:
        """Return the running time, and the cores that were reserved for that time."""
        with self._translated(f"meter {instance}"):
            wall_ms = await self._client.wall_ms(instance)
            machine = (await self._client.list(lambda machine: machine.id == instance))[0]
        cpus = next(shape.cpus for shape in SHAPES if shape.name == machine.shape)
        return UsageMetrics(
            wall_ms=Figure(wall_ms, UsageSource.BACKEND), core_ms=Figure(wall_ms * cpus, UsageSource.ALLOCATION)
        )

    async def terminate(self, instance: InstanceId) -> None:
        """End the machine if it is one of ours and still there."""
        with self._translated(f"terminate {instance}"):
            await self._delete(machine for machine in await self._standing() if machine.id == instance)

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Move the end: the timer first, for a tag that promises more than the timer keeps would be a lie."""
        with self._translated(f"extend {instance}"):
            live = [machine for machine in await self._live() if machine.id == instance]
            for machine in live:
                await self._client.end_in(machine.id, self._left_ms(ends_at))
                await self._client.tag(machine.id, {_END_TAG: str(ends_at)})
        if not live:
            raise errors.UnservableError(f"backend {self.name}: {instance} is gone and cannot be extended")

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return what the vendor announces, once it announces a machine that it did not before."""
        with self._translated("wait for notices"):
            standing = await self._client.wait_announced(_TAG, self._announced)
        self._announced = frozenset(machine.id for machine in standing)
        return tuple(Interruption(InstanceId(machine.id), UtcMs(machine.leaves_ms)) for machine in standing)

    def _refuse_unservable(self, order: Order) -> None:
        if not order.offer.serves(order.requirements):
            raise errors.UnservableError(
                f"backend {self.name}: offer {order.offer.id} does not serve these requirements; route to another offer"
            )

    async def _make(self, order: Order) -> Machine:
        with self._translated(f"provision {order.offer.id}"):
            try:
                # An end that has passed by a clock that leapt: a machine made before is met all the same.
                is_late = self._left_ms(order.ends_at) == 0
                machine = await (self._made_before(order) if is_late else self._create(order))
            except CloudError as error:
                if error.code != "name-taken":
                    raise
                machine = await self._made_before(order)
            return await self._client.wait_ready(machine.id)

    async def _create(self, order: Order) -> Machine:
        return await self._client.create(
            name=order.ownership.name,
            shape=order.offer.shape,
            image=order.image.name.removeprefix("vm:"),
            tags=_tags(order),
            login={
                "user": order.access.user,
                "authorized_key": order.access.authorized_key,
                "host_key": order.access.host_key_private,
            },
            run_ms=self._left_ms(order.ends_at),
        )

    def _left_ms(self, ends_at: UtcMs) -> int:
        return max(0, ends_at - self._context.clock.utc_ms())

    async def _made_before(self, order: Order) -> Machine:
        live = await self._live(order.token)
        if not live:
            raise errors.UnservableError(
                f"backend {self.name}: machine {order.ownership.name} has ended and is not made again; "
                "use a new token and an end that is to come"
            )
        return live[0]

    async def _undo(self, order: Order, error: BaseException) -> None:
        try:
            with anyio.fail_after(_UNDO_S, shield=True), self._translated(f"undo {order.ownership.name}"):
                # By token, not by id: a create that was cancelled has told us no id.
                await self._delete(await self._standing(order.token))
        except (errors.BackendError, TimeoutError) as stuck:
            self._give_up(order, error, stuck)

    def _give_up(self, order: Order, error: BaseException, stuck: Exception) -> None:
        message = f"backend {self.name}: {order.ownership.name} may be left behind; compute-bridge sweep tells"
        if isinstance(error, Exception):
            raise errors.StopFailoverError(message) from stuck
        logger.error("%s: %s", message, stuck)

    async def _live(self, token: Token | None = None) -> tuple[Machine, ...]:
        return tuple(machine for machine in await self._standing(token) if machine.is_live)

    async def _standing(self, token: Token | None = None) -> tuple[Machine, ...]:
        wanted = None if token is None else token.hex()
        return await self._client.list(
            lambda machine: (
                not machine.is_gone and _TAG in machine.tags and (wanted is None or machine.tags[_TAG] == wanted)
            )
        )

    async def _delete(self, machines: Iterable[Machine]) -> None:
        for machine in machines:
            try:
                await self._client.delete(machine.id)
            except CloudError as error:
                if error.code != "not-found":
                    raise

    def _offer(self, shape: Shape) -> Offer:
        networks = (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED) if shape.egress else (NetworkPolicy.ISOLATED,)
        vcpu, ram, disk, gpu = (NanosPerHour(rate) for rate in shape.rates)
        units = UnitNanos(vcpu=vcpu, ram_gib=ram, disk_gib=disk, gpu=gpu)
        return Offer(
            id=OfferId(f"{shape.zone}/{shape.name}"),
            backend=self.name,
            region=Region(shape.region),
            zone=Zone(shape.zone),
            shape=shape.name,
            resources=Resources(shape.cpus * 1000, shape.mem_gib * 1024, shape.disk_gib, shape.gpus),
            posture=Posture.TDX if shape.confidential else Posture.NONE,
            networks=networks,
            cost=CostBasis("EUR", units, UtcMs(self._context.clock.utc_ms()), "catalogue"),
            runs_oci=False,
            images=IMAGES,
            max_duration_ms=Milliseconds(shape.max_hours * HOUR_MS),
        )

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return _translated(self.name, doing)


@contextmanager
def _translated(backend: BackendName, doing: str) -> Generator[None]:
    try:
        yield
    except CloudError as error:
        # The vendor's message is left out of ours: nobody promised that it holds no credential.
        meaning, mend = _MEANINGS[error.code]
        raise meaning(f"backend {backend}: cannot {doing}: {mend}") from error


def _is_unknown(error: BaseException | None) -> bool:
    return isinstance(error, CloudError) and error.code == "not-found"


def _tags(order: Order) -> dict[str, str]:
    return {
        _TAG: order.token.hex(),
        "cb-grant": order.ownership.grant_hash.hex(),
        "cb-mac": order.ownership.mac.hex(),
        "cb-offer": order.offer.id,
        "cb-user": order.access.user,
        "cb-host-key": order.access.host_key,
        _END_TAG: str(order.ends_at),
    }


def _remains(machine: Machine) -> Remains:
    return Remains(InstanceId(machine.id), _token(machine), _ownership(machine), "was powered off by its guest")


def _token(machine: Machine) -> Token:
    return Token(bytes.fromhex(machine.tags[_TAG]))


def _ownership(machine: Machine) -> Ownership:
    tags = machine.tags
    return Ownership(machine.name, bytes.fromhex(tags["cb-grant"]), bytes.fromhex(tags["cb-mac"]))


def _instance(machine: Machine) -> Instance:
    tags = machine.tags
    return Instance(
        id=InstanceId(machine.id),
        token=_token(machine),
        ownership=_ownership(machine),
        offer=OfferId(tags["cb-offer"]),
        host=machine.address,
        port=22,
        user=tags["cb-user"],
        host_key=tags["cb-host-key"],
        host_key_source=HostKeySource.INJECTED,
        started_at=UtcMs(machine.started_ms),
        ends_at=UtcMs(int(tags[_END_TAG])),
    )
