"""Machines of open leases that their backend no longer shows: gone only when it says so twice, and once more."""

import logging
from collections.abc import Callable, Iterable

from attrs import define, field, frozen

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.listing import Listing, find_machine
from compute_bridge.host.open_leases import OpenLease
from compute_bridge.model.ids import GrantId, Token, short
from compute_bridge.model.reason import Reason
from compute_bridge.ports.errors import ComputeBridgeError

logger = logging.getLogger(__name__)


ENDING_MS = 300_000
"""For how long the watch has the first word on a machine that has ended and still stands: it knows why."""


@frozen
class Missing:
    """An open lease whose running machine stands in no listing, for how long, and what follows from it.

    ``reason`` is ``lost`` where its end is beyond doubt, ``missing`` where nothing follows yet.
    """

    lease: OpenLease
    for_ms: int
    reason: Reason
    detail: str


@define
class MissingMachines:
    """Counts in how many listings the machine of an open lease was missing, and since when.

    ``tell`` is what ends a lease whose machine is gone.
    """

    fleet: Fleet
    tell: Callable[[GrantId], None]
    answer_s: float
    count: int = field(default=0, init=False)
    _since: dict[GrantId, int] = field(factory=dict, init=False)
    _told: set[GrantId] = field(factory=set, init=False)

    async def look(self, listing: Listing, leases: Iterable[OpenLease], now_ms: int) -> tuple[Missing, ...]:
        """Return what is missing in ``listing``; one listing that shows a machine forgets that it was missing.

        ``now_ms`` is from after the leases were read, so a machine is at least as old as the first time that it
        was missing. It must be missing again in a listing that began later by more than the backend's window.
        """
        shown: set[Token] = {one.token for one in listing.machines}
        remaining: set[Token] = {one.token for one in listing.remains}
        found: list[Missing] = []
        silence = ""
        for lease in leases:
            if lease.backend != listing.backend:
                continue
            if not lease.is_running or lease.token in shown:
                self._since.pop(lease.grant, None)
                continue
            since_ms = self._since.setdefault(lease.grant, now_ms)
            for_ms = max(0, listing.began_ms - since_ms)
            patience_ms, why = listing.window_ms, "not yet for longer than the backend may be behind"
            if lease.token in remaining:
                patience_ms, why = max(patience_ms, ENDING_MS), "it has ended and still stands"
            if silence or for_ms <= patience_ms:
                found.append(Missing(lease, for_ms, Reason.MISSING, silence or why))
                continue
            try:
                found += await self._confirmed(lease, for_ms)
            except ComputeBridgeError as error:
                # It is asked no more in this sweep: every question could wait as long.
                silence = str(error)
                found.append(Missing(lease, for_ms, Reason.MISSING, silence))
        return tuple(found)

    def forget_all_but(self, leases: Iterable[OpenLease]) -> None:
        """Forget leases that are no longer open."""
        grants = {lease.grant for lease in leases}
        self._since = {grant: since for grant, since in self._since.items() if grant in grants}
        self._told &= grants

    def end(self, missing: Missing) -> None:
        """Tell the lease, once, if it is beyond doubt that its machine is gone."""
        if missing.reason is not Reason.LOST or missing.lease.grant in self._told:
            return
        self._told.add(missing.lease.grant)
        name, lease = short(missing.lease.grant), missing.lease
        logger.error("lease %s: instance %s is gone from backend %s", name, lease.instance, lease.backend)
        self.count += 1
        self.tell(lease.grant)

    async def _confirmed(self, lease: OpenLease, for_ms: int) -> list[Missing]:
        """Return the loss, or nothing where ``find`` contradicts the listing."""
        machine = await find_machine(self.fleet.backend(lease.backend), lease.token, answer_s=self.answer_s)
        if machine is None:
            return [Missing(lease, for_ms, Reason.LOST, "in no listing twice, and not found under its token")]
        logger.warning("backend %s: instance %s is in no listing, but there", lease.backend, machine.id)
        self._since.pop(lease.grant, None)
        return []
