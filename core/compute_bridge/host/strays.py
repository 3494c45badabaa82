"""What looks like ours and belongs to no open lease: judged one by one, and reaped only beyond doubt."""

import logging
from functools import partial

from attrs import define, evolve, field, frozen

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.grant_standing import GrantStandings, Standing
from compute_bridge.host.identity import Identity
from compute_bridge.host.lease_state import Reaped, ReapIntended, draft
from compute_bridge.host.listing import Listing, Shown, answer, find_standing
from compute_bridge.host.orders import is_ours
from compute_bridge.model.ids import BackendName, Fingerprint, GrantId, InstanceId, Token
from compute_bridge.model.reason import Reason
from compute_bridge.ports.errors import ComputeBridgeError
from compute_bridge.ports.journal import Journal, JournalUnwritableError
from compute_bridge.wire.keys import instance_name

logger = logging.getLogger(__name__)

TERMINATE_S = 60.0
"""How long a backend may take to end a machine in one sweep, in real seconds; the next sweep goes on."""


@frozen
class Stray:
    """A machine that looks like ours and belongs to no open lease, or what stands of one.

    ``age_ms`` is for how long we have seen it so, ``reason`` what becomes of it and ``detail`` why.
    """

    backend: BackendName
    machine: Shown
    age_ms: int
    reason: Reason
    detail: str = ""
    grant: GrantId | None = None
    lease: bytes = b""

    @property
    def key(self) -> tuple[BackendName, InstanceId, Token]:
        """What it is known by from one listing to the next."""
        return self.backend, self.machine.id, self.machine.token

    def judged(self, reason: Reason, detail: str) -> "Stray":
        """Return it with another judgement."""
        return evolve(self, reason=reason, detail=detail[:500])


Key = tuple[BackendName, InstanceId, Token]

_STANDING_REASONS = {
    Standing.OPEN: Reason.NOT_REAPED_GRANT_OPEN,
    Standing.SILENT: Reason.NOT_REAPED_MARKET_SILENT,
    Standing.CLOSED: Reason.REAPABLE,
}


@frozen
class StrayRule:
    """The rule: a right mac, seen for longer than the window, and a market that does not show its grant open."""

    identity: Identity
    standings: GrantStandings
    intent_window_ms: int

    async def judge(self, listing: Listing, machine: Shown, age_ms: int) -> Stray:
        """Return what the rule makes of a machine that no open lease names.

        :raises JournalError: if the journal cannot be read.
        """
        stray = Stray(listing.backend, machine, age_ms, Reason.NOT_REAPED_MAC)
        # The mac binds the name and not the token; a copied one stands under another token's name.
        if machine.ownership.name != instance_name(machine.token) or not is_ours(self.identity, machine.ownership):
            return stray.judged(Reason.NOT_REAPED_MAC, "its tags do not prove that this identity made it")
        window_ms = max(self.intent_window_ms, listing.window_ms)
        if age_ms <= window_ms:
            return stray.judged(Reason.NOT_REAPED_YOUNG, f"seen for {age_ms} ms, which is not beyond {window_ms} ms")
        found = await self.standings.of(Fingerprint(machine.ownership.grant_hash))
        stray = evolve(stray, grant=found.grant, lease=found.lease)
        return stray.judged(_STANDING_REASONS[found.standing], found.detail)


@define
class Reaper:
    """Ends strays for which the rule has spoken: the intent in the journal first, ``reaped`` when it is gone."""

    fleet: Fleet
    journal: Journal
    answer_s: float
    count: int = field(default=0, init=False)
    _intended: dict[Key, Stray] = field(factory=dict, init=False)

    async def reap(self, stray: Stray) -> Stray:
        """Return the stray with what came of it; an unfinished one is gone on with by the next sweep."""
        if (doubt := await self._doubt(stray)) is not None:
            return stray.judged(Reason.NOT_REAPED_UNCONFIRMED, doubt)
        try:
            await self._intend(stray)
        except JournalUnwritableError as error:
            logger.error("instance %s is not reaped: %s", stray.machine.id, error)  # noqa: TRY400 - says it all
            return stray.judged(Reason.NOT_REAPED_JOURNAL, str(error))
        backend = self.fleet.backend(stray.backend)
        terminate = partial(backend.terminate, stray.machine.id)
        try:
            await answer(stray.backend, "terminate", terminate, within_s=TERMINATE_S)
            is_gone = await self._is_gone(stray)
        except ComputeBridgeError as error:
            logger.warning("instance %s is being reaped: %s", stray.machine.id, error)
            return stray.judged(Reason.REAP_UNFINISHED, str(error))
        if not is_gone:
            # Never on its word alone: whoever takes what is off for gone would have us say so for ever.
            return stray.judged(Reason.REAP_UNFINISHED, "the backend says that it is gone, and shows it still")
        return await self._conclude(stray)

    async def conclude(self, listing: Listing) -> None:
        """Write ``reaped`` for what a sweep began to end and of which the backend no longer shows anything."""
        shown = {(listing.backend, one.id, one.token) for one in listing.standing}
        unseen = [stray for key, stray in self._intended.items() if key[0] == listing.backend and key not in shown]
        try:
            for stray in unseen:
                if await self._is_gone(stray):
                    await self._conclude(stray)
        except ComputeBridgeError as error:
            # It is asked no more in this sweep: every question could wait as long.
            logger.warning("backend %s: whether what was ended is gone is not known: %s", listing.backend, error)

    async def _doubt(self, stray: Stray) -> str | None:
        """Return why the id may not be that machine's any more; asked at the last moment."""
        machine = stray.machine
        try:
            found = await find_standing(self.fleet.backend(stray.backend), machine, answer_s=self.answer_s)
        except ComputeBridgeError as error:
            return str(error)
        if found is None:
            return "the backend shows nothing under its token any more"
        if (found.id, found.ownership) != (machine.id, machine.ownership):
            return f"the backend shows instance {found.id} under its token"
        return None

    async def _is_gone(self, stray: Stray) -> bool:
        backend = self.fleet.backend(stray.backend)
        found = await find_standing(backend, stray.machine, answer_s=self.answer_s)
        return found is None or found.id != stray.machine.id

    async def _intend(self, stray: Stray) -> None:
        if stray.key in self._intended:
            return
        machine = stray.machine
        intent = ReapIntended(
            machine.token, stray.backend, machine.id, machine.ownership.grant_hash, stray.age_ms, stray.detail
        )
        await self.journal.record(draft(GrantId(stray.lease), intent))
        self._intended[stray.key] = stray

    async def _conclude(self, stray: Stray) -> Stray:
        reaped = Reaped(stray.machine.token, stray.backend, stray.machine.id)
        try:
            await self.journal.record(draft(GrantId(stray.lease), reaped))
        except JournalUnwritableError as error:
            # It is gone all the same; a later sweep, which does not find it, writes it down.
            logger.error("instance %s is reaped: %s", stray.machine.id, error)  # noqa: TRY400 - says it all
            return stray.judged(Reason.REAP_UNFINISHED, str(error))
        logger.warning("backend %s: instance %s, a stray, is reaped", stray.backend, stray.machine.id)
        self._intended.pop(stray.key, None)
        self.count += 1
        return stray.judged(Reason.REAPED, stray.detail)
