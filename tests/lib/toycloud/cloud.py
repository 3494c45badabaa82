"""The toy cloud as ``compute_bridge.cloud`` wants to have it: everything that differs from other clouds."""

import json
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

from compute_bridge.cloud.backend import CloudBackend
from compute_bridge.cloud.calls import Calls
from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.machine import Cloud, Machine, Machines, MachineState
from compute_bridge.cloud.meanings import Meaning, Meanings
from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.cloud.tags import OwnedTags, tags_of, token_word
from compute_bridge.model.boot import SecretRef, about
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Region, Resources, Zone
from compute_bridge.model.units import Milliseconds, NanosPerHour, UtcMs
from compute_bridge.ports.backend import (
    Backend,
    BackendContext,
    BackendKind,
    DeadMansSwitch,
    ExitCause,
    InstanceExit,
    Offer,
    Order,
)
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    NoCapacityError,
    QuotaError,
    RecordError,
    Scope,
    ThrottledError,
    UnavailableError,
    UnservableError,
)

_GRACE_MS = 30_000

MEANINGS = Meanings(
    {
        "no-answer": Meaning(UnavailableError, "nobody answers; look at the endpoint and the network"),
        "credentials": Meaning(CredentialsError, "the api_key is refused; put the right one into the boot file"),
        "throttled": Meaning(ThrottledError, "too many calls; lower calls_at_once"),
        "capacity": Meaning(NoCapacityError, "nothing is free there", Scope.ZONE),
        "quota": Meaning(QuotaError, "the quota is used up; ask for more", Scope.REGION),
        "token-used-up": Meaning(UnservableError, "its machine has ended and is not made again"),
        "token-mismatch": Meaning(UnservableError, "another order has this token; report it"),
        "not-found": Meaning(UnavailableError, "the account does not know it"),
        "bad-request": Meaning(UnservableError, "the cloud does not take such a request; report it"),
    }
)
_STATES = {
    "pending": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "ending": MachineState.ENDING,
    "gone": MachineState.GONE,
}
_CAUSES = {
    "api": ExitCause.TERMINATED,
    "preempted": ExitCause.PREEMPTED,
    "crashed": ExitCause.LOST,
    "guest": ExitCause.EXITED,
}


class ToyError(Exception):
    """What the toy cloud answers instead of what was asked for."""

    def __init__(self, code: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after_s = retry_after_s


@frozen(kw_only=True)
class ToySettings(CloudSettings):
    """``[[backend]]`` with ``kind = "toy"``."""

    port: int = field(metadata=about("the port of the toy cloud on this machine"))
    api_key: SecretRef = field(metadata=about("the key of the account"))
    window_ms: int = field(default=0, metadata=about("how long a listing of this cloud may be behind"))


class ToyApi:
    """The SDK of the toy cloud: blocking calls that raise :class:`ToyError`."""

    def __init__(self, port: int, api_key: str) -> None:
        self._port = port
        self._head = {"Authorization": f"Bearer {api_key}"}

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer to one request."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._head)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException) as error:
            raise ToyError("no-answer") from error
        finally:
            connection.close()
        if response.status >= 400:
            wait = response.headers.get("Retry-After")
            raise ToyError(answer["code"], retry_after_s=float(wait) if wait else None)
        return answer


class ToyCloud(Cloud):
    """One account at the toy cloud."""

    def __init__(self, context: BackendContext, settings: ToySettings, api: ToyApi) -> None:
        self._context = context
        self._settings = settings
        self._api = api
        self._calls = Calls(self._translate, at_once=settings.calls_at_once)

    def _translate(self, doing: str, error: Exception) -> BackendError | None:
        if not isinstance(error, ToyError):
            return None
        return MEANINGS.error(self._context.name, doing, error.code, retry_after_s=error.retry_after_s)

    @property
    def switch(self) -> DeadMansSwitch:
        """A timer in the guest; this cloud ends what has powered off."""
        return DeadMansSwitch.GUEST_TIMER

    @property
    def images(self) -> tuple[str, ...]:
        """The one there is."""
        return ("plain",)

    @property
    def window_ms(self) -> Milliseconds:
        """How long a listing may miss what was made."""
        return Milliseconds(self._settings.window_ms)

    def reaches(self, offer: Offer) -> bool:
        """Return that it does: every listing shows the whole account."""
        return True

    def refuse(self, order: Order) -> None:
        """Refuse nothing: what this cloud has it has everywhere."""

    async def fetch(self) -> Catalog:
        """Read the shapes."""
        shapes = await self._calls.read("read its shapes", lambda: self._api.ask("GET", "/shapes"))
        now = UtcMs(self._context.clock.utc_ms())
        rows = [_row(shape, now, spot=spot) for shape in shapes for spot in (False, True)]
        return Catalog(self._context.name, "toy", now, tuple(sorted(rows, key=lambda row: row.key)))

    async def room(self) -> Callable[[CatalogRow], bool]:
        """Ask what is free."""
        shapes = await self._calls.read("list what is free", lambda: self._api.ask("GET", "/shapes"))
        free = {shape["zone"] for shape in shapes if shape["free"]}
        return lambda row: row.zone in free

    async def create(self, order: Order) -> None:
        """Make the machine; the same token gets the same one."""
        document = cloud_config(order, self._settings, grace_ms=_GRACE_MS)
        wanted = {
            "token": token_word(order.token),
            "name": order.ownership.name,
            "shape": order.offer.shape,
            "zone": order.offer.zone,
            "spot": order.offer.spot,
            "tags": tags_of(order, self._settings),
            "user_data": b64encode(document.encode()).decode(),
        }
        await self._calls.change("create a machine", lambda: self._api.ask("POST", "/machines", wanted))

    async def machines(self, place: str) -> Machines:
        """List what carries our owner's tag and all the others of ours."""
        path = f"/machines?owner={quote(self._settings.owner)}"
        told = await self._calls.read("list machines", lambda: self._api.ask("GET", path))
        read = [_machine(self._context.name, one) for one in told]
        return {machine.id: machine for machine in read if machine is not None}

    async def delete(self, machine: Machine) -> None:
        """End a machine; the toy cloud's disks end with theirs."""
        await self._calls.change("end a machine", lambda: self._end(machine.id))

    def _end(self, machine: InstanceId) -> None:
        try:
            self._api.ask("DELETE", f"/machines/{machine}")
        except ToyError as error:
            if error.code != "not-found":
                raise

    async def discard(self, order: Order, machines: Machines) -> None:
        """End the machine of ``order``; nothing else is ever left."""
        for machine in machines.values():
            if machine.tags.token == order.token:
                await self.delete(machine)

    async def exit_of(self, instance: InstanceId) -> InstanceExit | None:
        """Return nothing: what no listing shows any more is forgotten."""
        return None


@asynccontextmanager
async def open_toy(context: BackendContext, settings: ToySettings) -> AsyncGenerator[Backend]:
    """Open a backend on the toy cloud."""
    key = context.read_secret(settings.api_key).decode()
    yield CloudBackend(context, settings, ToyCloud(context, settings, ToyApi(settings.port, key)))


TOY = BackendKind("toy", ToySettings, open_toy)


def _row(shape: dict[str, Any], now: UtcMs, *, spot: bool) -> CatalogRow:
    nanos = NanosPerHour(shape["spot_nanos" if spot else "nanos"])
    return CatalogRow(
        region=Region(shape["region"]),
        zone=Zone(shape["zone"]),
        shape=shape["shape"],
        resources=Resources(shape["vcpus"] * 1000, shape["mem_mib"], shape["disk_gib"]),
        cost=CostBasis("EUR", UnitNanos(machine=nanos), now, "toy"),
        spot=spot,
    )


def _machine(backend: BackendName, told: dict[str, Any]) -> Machine | None:
    try:
        tags = OwnedTags.read(told["tags"], name=told["name"])
    except RecordError:
        return None
    failure = None
    if told["why"] == "failed":
        failure = MEANINGS.error(backend, "start a machine", told["code"])
    return Machine(
        id=InstanceId(told["id"]),
        state=_STATES[told["state"]],
        tags=tags,
        host=told["address"],
        started_at=UtcMs(told["started_ms"]),
        exit=_exit(told, tags) if told["why"] else None,
        failure=failure,
    )


def _exit(told: dict[str, Any], tags: OwnedTags) -> InstanceExit:
    cause = _CAUSES.get(told["why"], ExitCause.LOST)
    if cause is ExitCause.EXITED and told["ended_ms"] >= tags.ends_at:
        cause = ExitCause.DEADLINE
    return InstanceExit(cause, UtcMs(told["ended_ms"]))
