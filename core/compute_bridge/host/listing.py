"""What a backend shows of its account, asked within a time limit and checked before anybody believes it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from attrs import frozen, validate

from compute_bridge.host.plugin_call import PluginResultError, backend_call, reason_of
from compute_bridge.model.ids import BackendName, Token
from compute_bridge.model.reason import Reason
from compute_bridge.ports.backend import Backend, Instance, Ownership
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import ComputeBridgeError, UnavailableError

T = TypeVar("T")

ANSWER_S = 60.0
"""How long a backend may take for one answer, in real seconds."""
MAX_MACHINES = 100_000

_INLINE = 1000


@frozen
class Listing:
    """The live machines that carry tags of ours or look like it.

    ``began_ms`` is monotonic and from before the backend was asked. ``window_ms`` is how long after its making
    the backend may still miss a machine.
    """

    backend: BackendName
    machines: tuple[Instance, ...]
    began_ms: int
    window_ms: int


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
        return Listing(backend.name, await _checked(backend.name, found), began_ms, _window(backend))
    except ComputeBridgeError as error:
        return Silence(backend.name, reason_of(error), str(error))


async def find_machine(backend: Backend, token: Token, *, answer_s: float = ANSWER_S) -> Instance | None:
    """Return the live machine of ``token``, or None if there is none.

    :raises ComputeBridgeError: if the backend does not say.
    """

    async def find() -> object:
        return await backend.find(token)

    found = await answer(backend.name, "find", find, within_s=answer_s)
    if found is None:
        return None
    machine = _machine(backend.name, "find", found)
    if machine.token != token:
        raise PluginResultError(f"backend {backend.name}: find returned the machine of another token; report it")
    return machine


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


async def _checked(backend: BackendName, found: object) -> tuple[Instance, ...]:
    where = f"backend {backend}: list_owned"
    if not isinstance(found, tuple):
        raise PluginResultError(f"{where} returned {type(found).__name__}, no tuple; report it to its author")
    if len(found) > MAX_MACHINES:
        raise PluginResultError(f"{where} returned {len(found)} machines, more than {MAX_MACHINES}; report it")
    if len(found) <= _INLINE:
        machines = _machines(backend, found)
    else:
        # A long listing takes longer to check than the event loop may stand still.
        machines = await anyio.to_thread.run_sync(_machines, backend, found)
    if len({one.id for one in machines}) != len(machines):
        raise PluginResultError(f"{where} returned one instance id twice; report it to its author")
    return machines


def _machines(backend: BackendName, found: tuple[object, ...]) -> tuple[Instance, ...]:
    return tuple(_machine(backend, "list_owned", one) for one in found)


def _machine(backend: BackendName, doing: str, found: object) -> Instance:
    """Return ``found`` when it is a whole instance; who goes round its constructor can make half ones."""
    ownership: object = getattr(found, "ownership", None)
    if not isinstance(found, Instance) or not isinstance(ownership, Ownership):
        raise PluginResultError(f"backend {backend}: {doing} returned {type(found).__name__}, no Instance; report it")
    try:
        validate(found)
        validate(ownership)
    except (AttributeError, TypeError, ValueError) as error:
        raise PluginResultError(f"backend {backend}: {doing} returned no whole Instance: {error}; report it") from error
    return found


def _window(backend: Backend) -> int:
    with backend_call(backend.name, "consistency_window_ms"):
        window: object = backend.consistency_window_ms
    if type(window) is not int or window < 0:
        raise PluginResultError(f"backend {backend.name}: consistency_window_ms {window!r} is no time; report it")
    return window
