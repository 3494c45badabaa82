"""One attempt at an order: the image, the workload, its SSH server; and all of it taken back on failure."""

import logging
import secrets

import anyio

from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Instance, Order
from compute_bridge.ports.clock import Clock, poll
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    StopFailoverError,
    UnavailableError,
    UnservableError,
)
from compute_bridge_baremetal.rack import Made, RackHost
from compute_bridge_baremetal.ssh import shows_host_key

logger = logging.getLogger(__name__)

_READY_S = 30
_READY_EVERY_MS = 50
_UNDO_S = 60
# After these nothing is concluded, or nothing more can be done: the lease may stand.
_OPEN_ENDED = (UnavailableError, CredentialsError, StopFailoverError)


class Attempt:
    """One call of ``provision``, known to the rack host by a number of its own.

    So it takes back what it made, and never what another attempt at the same order did.
    """

    def __init__(self, rack: RackHost, order: Order, clock: Clock) -> None:
        self._rack = rack
        self._order = order
        self._clock = clock
        self._number = secrets.token_hex(32)

    async def make(self) -> Instance:
        """Return the ready instance, made now or before."""
        rack, order = self._rack, self._order
        met = await self._met()
        left = 0 if met else await self._prepared()
        try:
            made = met or await rack.create(order, attempt=self._number, remaining_ms=left)
            await self._await_ready(made.instance, is_ours=made.is_new)
        except _OPEN_ENDED:
            raise
        except BaseException as error:
            await self._take_back(error)
            raise
        return made.instance

    async def _met(self) -> Made | None:
        """Return what was made before, where the end has passed: it may be our clock that leapt."""
        if self._order.ends_at > self._clock.utc_ms():
            return None
        met = (await self._rack.listing()).leases.get(self._order.token)
        return None if met is None else Made(met, is_new=False)

    async def _prepared(self) -> int:
        """Bring the image, and return how long the lease may then still run, in milliseconds."""
        rack, order = self._rack, self._order
        remaining_ms(order.ends_at, self._clock, rack.place)
        if order.image.is_oci:
            await rack.bring_image(order.image.digest_hex)
        # Reckoned again, for to bring an image may take long.
        return remaining_ms(order.ends_at, self._clock, rack.place)

    async def _await_ready(self, instance: Instance, *, is_ours: bool) -> None:
        async def probe() -> bool | None:
            shown = await shows_host_key(instance.host, instance.port, instance.host_key)
            if shown is None:
                await self._refuse_ended(instance)
            return shown

        place = self._rack.place
        try:
            with anyio.fail_after(_READY_S):
                is_right = await poll(self._clock, _READY_EVERY_MS, probe)
        except TimeoutError as error:
            kind = UnservableError if is_ours else UnavailableError
            raise kind(
                f"{place}: no SSH server answered on port {instance.port} within {_READY_S} s; "
                "see that the bridge reaches the guests' address on every port of port_range"
            ) from error
        if not is_right:
            raise UnservableError(f"{place}: another server answers on port {instance.port}; keep port_range free")

    async def _refuse_ended(self, instance: Instance) -> None:
        listing = await self._rack.listing([instance.token])
        if not listing.tells_end(instance.token):
            return
        end = listing.ends.get(instance.token)
        told = f"{end.cause}: {end.detail}" if end else "it is gone"
        raise UnservableError(f"{self._rack.place}: the workload ended at once ({told}); see that the image starts")

    async def _take_back(self, error: BaseException) -> None:
        is_done = False
        with anyio.move_on_after(_UNDO_S, shield=True):
            try:
                await self._rack.terminate(self._order.token, attempt=self._number)
                is_done = True
            except BackendError as refusal:
                logger.warning("%s: cannot take back an attempt: %s", self._rack.place, refusal)
        if not is_done and isinstance(error, BackendError):
            raise StopFailoverError(
                f"{self._rack.place}: the attempt failed and could not be taken back; "
                "end the lease when the machine answers"
            ) from error


def remaining_ms(ends_at: UtcMs, clock: Clock, place: str) -> int:
    """Return how long a lease may still run; a rack host is told the span, so its wrong clock ends nothing early.

    :raises UnservableError: if the end has passed.
    """
    remaining = ends_at - clock.utc_ms()
    if remaining <= 0:
        raise UnservableError(f"{place}: the end of the lease has passed; order with a later one")
    return remaining
