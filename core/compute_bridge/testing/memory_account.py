"""A cloud that lives in this process: what a vendor's service and its SDK are to a real backend.

It speaks in its own words and raises its own errors, so that a backend over it has the work that every backend
has: to translate. Nothing here knows what a backend is.
"""

import hmac
from collections.abc import Callable, Mapping
from itertools import count
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import checkpoint
from attrs import evolve, field, frozen

from compute_bridge.ports.clock import Clock
from compute_bridge.testing.held import Held
from compute_bridge.testing.vendor_clock import VendorClock

_GONE = ("crashed", "deleted", "expired", "preempted")


class CloudError(Exception):
    """What this cloud's SDK raises; ``code`` is the vendor's word for what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@frozen
class Shape:
    """One size of machine in one place; ``rates`` is nanos an hour for a vCPU, a GiB of RAM, of disk, and a GPU."""

    name: str
    region: str
    zone: str
    cpus: int
    mem_gib: int
    disk_gib: int
    gpus: int
    confidential: bool
    egress: bool
    max_hours: int
    rates: tuple[int, int, int, int]


SHAPES = (
    Shape("small", "eu-north", "eu-north-a", 4, 8, 40, 0, False, True, 24, (9_000_000, 1_200_000, 40_000, 0)),
    Shape("sealed", "eu-north", "eu-north-b", 8, 32, 80, 0, True, False, 240, (14_000_000, 1_900_000, 40_000, 0)),
    Shape("wide", "eu-north", "eu-north-a", 32, 16, 20, 0, False, True, 24, (7_000_000, 1_200_000, 40_000, 0)),
    Shape("gpu", "us-west", "us-west-a", 16, 64, 200, 4, False, True, 48, (8_000_000, 1_100_000, 30_000, 900_000_000)),
)
IMAGES = ("plain",)


@frozen
class Machine:
    """One machine as the cloud describes it: a snapshot.

    ``state`` is starting, ready, off, crashed, deleted, expired or preempted; ``leaves_ms`` is when it will be
    preempted, 0 where nobody has announced that.
    """

    id: str
    name: str
    shape: str
    image: str
    tags: Mapping[str, str]
    login: Mapping[str, str] = field(repr=False)
    started_ms: int
    ended_ms: int = 0
    state: str = "starting"
    address: str = "192.0.2.1"
    leaves_ms: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether the machine has ended and nothing of it stands."""
        return self.state in _GONE

    @property
    def is_live(self) -> bool:
        """Whether the machine runs or will: one that is off does not, and stands until somebody deletes it."""
        return not self.is_gone and self.state != "off"


class Account:
    """The account at the vendor: its machines, the timers that end them, and whatever ails it.

    A machine's name is taken for good, also after its end. A timer is due at a moment of the vendor's clock, and what
    is overdue is ended before anybody looks, so no task has to run for it. ``ailment`` is the code that every call
    meets, and ``scarcity`` the one that every create meets. ``next_hold`` holds the next machine before it is ready:
    its boot, or with ``holds_answer`` the answer to the create itself.
    """

    clock: Clock
    next_hold: Held | None

    def __init__(self, clock: Clock, api_key: bytes) -> None:
        self.clock = VendorClock(clock)
        self.api_key = api_key
        self.timers: dict[str, int] = {}
        self.ailment = ""
        self.scarcity = ""
        self.next_hold = None
        self.holds_answer = False
        self.loses_next_answer = False
        self.held: dict[str, Held] = {}
        self._machines: dict[str, Machine] = {}
        self._ids = count(1)
        self._changed = anyio.Event()

    @property
    def machines(self) -> Mapping[str, Machine]:
        """Every machine by its id, as it is now, ended ones also."""
        self._expire()
        return self._machines

    def start(self, *, name: str, shape: str, image: str, tags: Mapping[str, str], login: Mapping[str, str]) -> Machine:
        """Start a machine and return it as it is just then."""
        machine = Machine(f"m-{next(self._ids)}", name, shape, image, tags, login, self.clock.utc_ms())
        self._machines[machine.id] = machine
        if self.next_hold is not None:
            self.held[machine.id], self.next_hold = self.next_hold, None
            self.held[machine.id].reached.set()
        return machine

    async def hold(self, machine: str) -> None:
        """Return once nobody holds the machine."""
        if machine in self.held:
            await self.held[machine].released.wait()

    def arm(self, machine: str, run_ms: int) -> None:
        """Let the machine end ``run_ms`` from now, whatever its timer said before."""
        self.timers[machine] = self.clock.utc_ms() + run_ms
        self.stir()

    def end(self, machine: str, state: str) -> None:
        """End a machine that has not ended yet, and its timer with it; whoever waits for it is told."""
        self._expire()
        self._end(machine, state, self.clock.utc_ms())

    def _end(self, machine: str, state: str, at_ms: int) -> None:
        now = self._machines.get(machine)
        if now is not None and not now.is_gone:
            self.timers.pop(machine, None)
            self.put(evolve(now, state=state, ended_ms=now.ended_ms or at_ms))

    def _expire(self) -> None:
        now = self.clock.utc_ms()
        for machine, due_ms in [timer for timer in self.timers.items() if timer[1] <= now]:
            self._end(machine, "expired", due_ms)

    def put(self, machine: Machine) -> None:
        """Set what a machine is now and tell whoever waits."""
        self._machines[machine.id] = machine
        self.stir()

    def stir(self) -> None:
        """Let every waiter look again."""
        self._changed.set()
        self._changed = anyio.Event()

    def announce(self, machine: str, notice_ms: int) -> None:
        """Tell that the machine will be preempted ``notice_ms`` from now."""
        self.put(evolve(self.machines[machine], leaves_ms=self.clock.utc_ms() + notice_ms))

    async def change(self, machine: str) -> None:
        """Return when something has changed, or when the machine's timer is due."""
        async with anyio.create_task_group() as tasks:
            if machine in self.timers:
                tasks.start_soon(self._stir_at, self.timers[machine])
            await self._changed.wait()
            tasks.cancel_scope.cancel()

    async def _stir_at(self, due_ms: int) -> None:
        await self.clock.sleep_ms(due_ms - self.clock.utc_ms())
        self.stir()


class Client:
    """A session with the account, as an SDK gives one. Every call may raise :class:`CloudError`."""

    def __init__(self, account: Account, api_key: bytes) -> None:
        self._account = account
        self._api_key = api_key

    async def shapes(self) -> tuple[Shape, ...]:
        """Return what can be had now."""
        await self._call()
        return () if self._account.scarcity else SHAPES

    async def create(
        self,
        *,
        name: str,
        shape: str,
        image: str,
        tags: Mapping[str, str],
        login: Mapping[str, str],
        run_ms: int | None = None,
    ) -> Machine:
        """Start a machine; it is ready once :meth:`wait_ready` has returned, and ends by itself after ``run_ms``.

        Codes: ``no-such-shape``, ``name-taken``, ``exhausted``, ``quota``. An image is looked up only as the
        machine boots.
        """
        await self._call()
        account = self._account
        self._refuse(name, shape)
        machine = account.start(name=name, shape=shape, image=image, tags=tags, login=login)
        if run_ms is not None:
            account.arm(machine.id, run_ms)
        if account.holds_answer:
            await account.hold(machine.id)
        if account.loses_next_answer:
            account.loses_next_answer = False
            raise CloudError("timeout", "connection reset")
        return machine

    async def wait_ready(self, machine: str) -> Machine:
        """Return when the machine takes logins. Codes: ``no-such-image``, ``not-found``."""
        await self._call()
        await self._account.hold(machine)
        now = self._get(machine)
        if not now.is_live:
            raise CloudError("not-found", machine)
        if now.image not in IMAGES:
            raise CloudError("no-such-image", now.image)
        if now.state == "starting":
            self._account.put(evolve(now, state="ready"))
        return self._get(machine)

    async def wait_gone(self, machine: str) -> Machine:
        """Return when the machine has ended or is off. Codes: ``not-found``."""
        while True:
            await self._call()
            if not self._get(machine).is_live:
                return self._get(machine)
            await self._account.change(machine)

    async def wait_announced(self, tag: str, told: frozenset[str]) -> tuple[Machine, ...]:
        """Return the machines with a tag that will be preempted, as soon as one is not among the ids ``told``."""
        while True:
            await self._call()
            live = [one for one in self._account.machines.values() if one.is_live]
            standing = tuple(one for one in live if one.leaves_ms and tag in one.tags)
            if {one.id for one in standing} - told:
                return standing
            await self._account.change("")

    async def list(self, matches: Callable[[Machine], bool]) -> tuple[Machine, ...]:
        """Return the machines that match, ended ones also."""
        await self._call()
        return tuple(machine for machine in self._account.machines.values() if matches(machine))

    async def delete(self, machine: str) -> None:
        """End the machine. Codes: ``not-found``, also for one that has ended."""
        await self._call()
        if self._get(machine).is_gone:
            raise CloudError("not-found", machine)
        self._account.end(machine, "deleted")

    async def tag(self, machine: str, tags: Mapping[str, str]) -> None:
        """Set tags of a machine, beside those that it has. Codes: ``not-found``, also for one that has ended."""
        await self._call()
        now = self._get(machine)
        if now.is_gone:
            raise CloudError("not-found", machine)
        self._account.put(evolve(now, tags={**now.tags, **tags}))

    async def end_in(self, machine: str, run_ms: int) -> None:
        """Let the machine end by itself ``run_ms`` from now. Codes: ``not-found``, also for one that has ended."""
        await self._call()
        if self._get(machine).is_gone:
            raise CloudError("not-found", machine)
        self._account.arm(machine, run_ms)

    async def wall_ms(self, machine: str) -> int:
        """Return for how many milliseconds the machine has run. Codes: ``not-found``."""
        await self._call()
        now = self._get(machine)
        return (now.ended_ms or self._account.clock.utc_ms()) - now.started_ms

    async def _call(self) -> None:
        await checkpoint()
        if not hmac.compare_digest(self._account.api_key, self._api_key):
            raise CloudError("auth", "the key is not accepted")
        if self._account.ailment:
            raise CloudError(self._account.ailment, "try again later")

    def _refuse(self, name: str, shape: str) -> None:
        if shape not in {known.name for known in SHAPES}:
            raise CloudError("no-such-shape", shape)
        if any(machine.name == name for machine in self._account.machines.values()):
            raise CloudError("name-taken", name)
        if self._account.scarcity:
            raise CloudError(self._account.scarcity, shape)

    def _get(self, machine: str) -> Machine:
        if machine not in self._account.machines:
            raise CloudError("not-found", machine)
        return self._account.machines[machine]


_ACCOUNTS: WeakValueDictionary[str, Account] = WeakValueDictionary()


def publish(endpoint: str, account: Account) -> None:
    """Let :func:`connect` find ``account`` under ``endpoint`` for as long as somebody holds it."""
    _ACCOUNTS[endpoint] = account


def connect(endpoint: str, api_key: bytes) -> Client:
    """Return a session with the account at ``endpoint``; like most SDKs, it checks the key at the first call.

    :raises CloudError: if nobody published an account there.
    """
    account = _ACCOUNTS.get(endpoint)
    if account is None:
        raise CloudError("timeout", f"nothing answers at {endpoint}")
    return Client(account, api_key)
