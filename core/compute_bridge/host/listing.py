"""What a backend shows of its account, asked within a time limit and checked before anybody believes it."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import anyio
import anyio.to_thread
from attrs import evolve, frozen, validate

from compute_bridge.host.plugin_call import PluginResultError, backend_call, reason_of
from compute_bridge.model.ids import BackendName, InstanceId, Token
from compute_bridge.model.reason import Reason
from compute_bridge.ports.backend import Backend, Instance, Ownership
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import ComputeBridgeError, UnavailableError
from compute_bridge.ports.remains import Remains, SupportsRemains

T = TypeVar("T")
Kind = TypeVar("Kind", Instance, Remains)
Shown: TypeAlias = Instance | Remains

ANSWER_S = 60.0
"""How long a backend may take for one answer, in real seconds."""
MAX_MACHINES = 100_000

_INLINE = 1000


@frozen
class Listing:
    """The live machines that carry tags of ours or look like it.

    ``began_ms`` is monotonic and from before the backend was asked. ``window_ms`` is how long after its making
    the backend may still miss a machine. ``remains`` is what stands of machines that do not run; where the backend did
    not tell that, it is empty, and ``silence`` says why.
    """

    backend: BackendName
    machines: tuple[Instance, ...]
    began_ms: int
    window_ms: int
    remains: tuple[Remains, ...] = ()
    silence: "Silence | None" = None

    @property
    def standing(self) -> tuple[Shown, ...]:
        """Whatever may cost something: the machines, and what stands of others."""
        return (*self.machines, *self.remains)


@frozen
class Silence:
    """A backend that did not tell its machines, or nothing that can be used; nothing follows from it."""

    backend: BackendName
    reason: Reason
    detail: str


async def list_machines(backend: Backend, clock: Clock, *, answer_s: float = ANSWER_S) -> Listing | Silence:
    """Return the machines of ``backend``; never raises for what a backend does."""
    began_ms = clock.monotonic_ms()
    try:
        found: object = await answer(backend.name, "list_owned", backend.list_owned, within_s=answer_s)
        machines = await _checked(backend.name, "list_owned", found, Instance)
        listing = Listing(backend.name, machines, began_ms, _window(backend))
    except ComputeBridgeError as error:
        return Silence(backend.name, reason_of(error), str(error))
    try:
        # Asked last: what ends in between is told twice, and otherwise would not be told at all.
        live = {one.id for one in machines}
        remains = tuple(one for one in await _remains(backend, answer_s) if one.id not in live)
        return evolve(listing, remains=remains)
    except ComputeBridgeError as error:
        # What runs is told all the same, and what is missing of it.
        return evolve(listing, silence=Silence(backend.name, reason_of(error), str(error)))


async def find_machine(backend: Backend, token: Token, *, answer_s: float = ANSWER_S) -> Instance | None:
    """Return the live machine of ``token``, or None if there is none.

    :raises ComputeBridgeError: if the backend does not say.
    """

    async def find() -> object:
        return await backend.find(token)

    found = await answer(backend.name, "find", find, within_s=answer_s)
    if found is None:
        return None
    machine = _whole(backend.name, "find", found, Instance)
    if machine.token != token:
        raise PluginResultError(f"backend {backend.name}: find returned the machine of another token; report it")
    return machine


async def find_standing(
    backend: Backend, instance: InstanceId, token: Token, *, answer_s: float = ANSWER_S
) -> Shown | None:
    """Return what stands under a machine's token: what lives, else what remains of itself, else of another.

    :raises ComputeBridgeError: if the backend does not say.
    """
    found = await find_machine(backend, token, answer_s=answer_s)
    if found is not None:
        return found
    standing = [one for one in await _remains(backend, answer_s) if one.token == token]
    return next((one for one in standing if one.id == instance), standing[0] if standing else None)


async def remains_of(backend: Backend, token: Token, *, answer_s: float = ANSWER_S) -> Remains | None:
    """Return what stands of the machine of ``token`` that does not run, or None if nothing does.

    :raises ComputeBridgeError: if the backend does not say.
    """
    return next((one for one in await _remains(backend, answer_s) if one.token == token), None)


async def _remains(backend: Backend, answer_s: float) -> tuple[Remains, ...]:
    if not isinstance(backend, SupportsRemains):
        return ()
    found: object = await answer(backend.name, "list_remains", backend.list_remains, within_s=answer_s)
    return await _checked(backend.name, "list_remains", found, Remains)


async def answer(backend: BackendName, doing: str, call: Callable[[], Awaitable[T]], *, within_s: float) -> T:
    """Return what the backend answers to ``call``.

    :raises UnavailableError: if it does not within ``within_s`` real seconds.
    :raises ComputeBridgeError: as the port names it.
    """
    try:
        with anyio.fail_after(within_s), backend_call(backend, doing):
            return await call()
    except TimeoutError as error:
        raise UnavailableError(
            f"backend {backend}: {doing} has no answer within {within_s} s; nothing is concluded"
        ) from error


async def _checked(backend: BackendName, doing: str, found: object, kind: type[Kind]) -> tuple[Kind, ...]:
    where = f"backend {backend}: {doing}"
    if not isinstance(found, tuple):
        raise PluginResultError(f"{where} returned {type(found).__name__}, no tuple; report it to its author")
    if len(found) > MAX_MACHINES:
        raise PluginResultError(f"{where} returned {len(found)} machines, more than {MAX_MACHINES}; report it")
    if len(found) <= _INLINE:
        machines = _all_whole(backend, doing, found, kind)
    else:
        # A long listing takes longer to check than the event loop may stand still.
        machines = await anyio.to_thread.run_sync(_all_whole, backend, doing, found, kind)
    if len({one.id for one in machines}) != len(machines):
        raise PluginResultError(f"{where} returned one instance id twice; report it to its author")
    return machines


def _all_whole(backend: BackendName, doing: str, found: tuple[object, ...], kind: type[Kind]) -> tuple[Kind, ...]:
    return tuple(_whole(backend, doing, one, kind) for one in found)


def _whole(backend: BackendName, doing: str, found: object, kind: type[Kind]) -> Kind:
    """Return ``found`` when it is a whole ``kind``; who goes round its constructor can make half ones."""
    where, name = f"backend {backend}: {doing} returned", kind.__name__
    ownership: object = getattr(found, "ownership", None)
    if not isinstance(found, kind) or not isinstance(ownership, Ownership):
        raise PluginResultError(f"{where} {type(found).__name__}, no {name}; report it")
    try:
        validate(found)
        validate(ownership)
    except (AttributeError, TypeError, ValueError) as error:
        raise PluginResultError(f"{where} no whole {name}: {error}; report it") from error
    return found


def _window(backend: Backend) -> int:
    with backend_call(backend.name, "consistency_window_ms"):
        window: object = backend.consistency_window_ms
    if type(window) is not int or window < 0:
        raise PluginResultError(f"backend {backend.name}: consistency_window_ms {window!r} is no time; report it")
    return window
