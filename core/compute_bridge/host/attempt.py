"""One order at one backend, asked until the answer is definite, and cleaned up where it is not usable."""

import ipaddress
import logging
import re

import anyio
from attrs import frozen

from compute_bridge.host.listing import remains_of
from compute_bridge.host.plugin_call import PluginResultError, backend_call
from compute_bridge.ports.backend import Backend, Instance, Order
from compute_bridge.ports.clock import Clock, poll
from compute_bridge.ports.errors import (
    BackendError,
    ComputeBridgeError,
    CredentialsError,
    NoCapacityError,
    NotYetTerminatedError,
    QuotaError,
    StopFailoverError,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.ports.remains import Remains

logger = logging.getLogger(__name__)

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_LOOK_AGAIN_MS = 1000
# After these the machine may be there all the same.
_OPEN_ENDED = (UnavailableError, ThrottledError, CredentialsError)
_DEFINITE = (NoCapacityError, QuotaError, UnservableError)


@frozen
class AttemptLimits:
    """How long one order is asked for: retries of silence, with doubling pauses; waits that were asked for.

    ``undo_s`` is how long the clean-up of an unusable machine may take, in real seconds.
    """

    retries: int = 4
    first_pause_ms: int = 500
    throttle_waits: int = 10
    longest_wait_ms: int = 60_000
    undo_s: float = 120.0


@frozen
class Attempt:
    """The making of one order's machine. The same token is asked for throughout, so asking again is safe.

    ``is_resumed``: the order was asked for before by a process that did not learn what came of it.
    """

    backend: Backend
    order: Order
    clock: Clock
    limits: AttemptLimits = AttemptLimits()
    is_resumed: bool = False

    async def make(self) -> Instance:
        """Return the order's machine, checked against the order.

        Every error but the last two is definite: nothing is left behind, another offer may be tried.

        :raises NoCapacityError: if nothing is free.
        :raises QuotaError: if a quota forbids it.
        :raises UnservableError: if the offer cannot serve the order.
        :raises ThrottledError: if it was refused as one call too many to the end.
        :raises CredentialsError: if our credentials are refused, and ``find`` shows no machine all the same.
        :raises PluginResultError: if the machine was not the one ordered; it is gone.
        :raises BackendError: if anything else left the backend, of whatever class; what it made is gone.
        :raises UnavailableError: if nothing can be concluded; only the same token may be asked for again.
        :raises StopFailoverError: if something may be left behind that could not be removed.
        """
        try:
            return await self._made()
        except (*_DEFINITE, *_OPEN_ENDED, StopFailoverError):
            raise
        except (BackendError, PluginResultError) as error:
            await self._undo(error)
            raise

    async def _made(self) -> Instance:
        try:
            made = await self._asked()
        except (ThrottledError, CredentialsError) as error:
            await self._require_absent(error)
            raise
        return check_instance(self.order, made)

    async def _asked(self) -> object:
        silences = throttles = 0
        while True:
            try:
                with backend_call(self.backend.name, "provision"):
                    return await self.backend.provision(self.order)
            except ThrottledError as error:
                throttles += 1
                if throttles > self.limits.throttle_waits:
                    raise
                pause_ms = self._told(error.retry_after_s)
            except UnavailableError:
                silences += 1
                if silences > self.limits.retries:
                    raise
                pause_ms = self.limits.first_pause_ms << (silences - 1)
            except _DEFINITE as error:
                if silences or throttles or self.is_resumed:
                    await self._refused_now(error)
                raise
            await self.clock.sleep_ms(min(pause_ms, self.limits.longest_wait_ms))

    async def _require_absent(self, error: BackendError) -> None:
        """Conclude nothing where the machine may be there: what ``find`` shows are tags, and whoever may write them.

        Only a provision that returns has seen the host key shown; so the same order is asked for again, later.
        """
        try:
            found = await self._find() or await self._remains()
        except BackendError as silence:
            raise UnavailableError(f"{self._name} may or may not exist, nothing is concluded: {error}") from silence
        if found is not None:
            raise UnavailableError(f"{self._name} exists, and is not known to show its own host key yet: {error}")

    async def _refused_now(self, error: BackendError) -> None:
        """Remove what a call before may have made: what is refused now tells nothing of that."""
        try:
            await self._undo(error)
        except StopFailoverError as stuck:
            raise UnavailableError(f"{self._name} may have been made before it was refused: {error}") from stuck

    async def _undo(self, error: ComputeBridgeError) -> None:
        """Remove what the order made, by its token alone: an id that a faulty plugin gave may be another lease's."""
        try:
            with anyio.fail_after(self.limits.undo_s, shield=True):
                await poll(self.clock, _LOOK_AGAIN_MS, self._terminated)
        except (BackendError, PluginResultError, TimeoutError) as stuck:
            raise StopFailoverError(f"{self._name} may be left behind, compute-bridge sweep tells: {error}") from stuck

    async def _terminated(self) -> bool | None:
        try:
            found = await self._find() or await self._remains()
            if found is None:
                return True
            with backend_call(self.backend.name, "terminate"):
                await self.backend.terminate(found.id)
            if await self._look() is None and await self._remains() is None:
                return True
        except (NotYetTerminatedError, UnavailableError, ThrottledError) as error:
            logger.info("%s is not gone yet: %s", self._name, error)
        return None

    async def _remains(self) -> Remains | None:
        try:
            return await remains_of(self.backend, self.order.token)
        except ComputeBridgeError as error:
            # It does not run: an order must not wait for what the sweep can end as well.
            logger.warning("what remains of %s is not known: %s", self._name, error)
            return None

    async def _find(self) -> Instance | None:
        """Return the order's machine; its absence is believed only beyond the window."""
        found = await self._look()
        if found is None and self.backend.consistency_window_ms > 0:
            await self.clock.sleep_ms(self.backend.consistency_window_ms)
            found = await self._look()
        return found

    async def _look(self) -> Instance | None:
        with backend_call(self.backend.name, "find"):
            found: object = await self.backend.find(self.order.token)
        if found is None:
            return None
        if not isinstance(found, Instance) or found.token != self.order.token:
            raise PluginResultError(f"{self._name}: find returned something else; report it to the plugin's author")
        return found

    def _told(self, seconds: object) -> int:
        # Also false for what is no number, so that nobody can make us wait for ever.
        if isinstance(seconds, int | float) and 0 <= seconds * 1000 <= self.limits.longest_wait_ms:
            return int(seconds * 1000)
        return self.limits.longest_wait_ms

    @property
    def _name(self) -> str:
        return f"backend {self.backend.name}: {self.order.ownership.name}"


def check_instance(order: Order, made: object) -> Instance:
    """Return ``made`` when it is the machine of ``order`` and can be reached as the order says.

    :raises PluginResultError: if it is not; the message names the backend, the offer and the field.
    """
    where = f"backend {order.offer.backend}: offer {order.offer.id}"
    if not isinstance(made, Instance):
        raise PluginResultError(f"{where}: provision returned {type(made).__name__}, no Instance; report it")
    wanted = {
        "token": order.token,
        "ownership": order.ownership,
        "offer": order.offer.id,
        "host_key": order.access.host_key_by(made.host_key_source),
    }
    for name, value in wanted.items():
        if getattr(made, name) != value:
            raise PluginResultError(f"{where}: the instance's {name} is not the order's; report it")
    if not _is_host(made.host) or _USER.fullmatch(made.user) is None:
        raise PluginResultError(f"{where}: nobody can log in to the instance's user and host; report it")
    # The start is by the backend's clock, and an end that is the order's by ours, which may be hours behind.
    if made.ends_at <= made.started_at and made.ends_at != order.ends_at:
        raise PluginResultError(f"{where}: the instance ends before it starts; report it")
    _check_image(order, made, where)
    return made


def _check_image(order: Order, made: Instance, where: str) -> None:
    if not order.image.is_oci:
        return
    verified = made.image_digest == bytes.fromhex(order.image.digest_hex)
    if not verified and (made.image_digest or order.offer.image_verifier != "nobody"):
        raise PluginResultError(f"{where}: the instance's image_digest is not that of the order's image; report it")


def _is_host(host: str) -> bool:
    if _HOSTNAME.fullmatch(host):
        return True
    try:
        # A scope after % may be any text, and this one goes into a requester's command line.
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False
