"""The end of a stray: reaped only beyond doubt, and written down before and after."""

import logging
from functools import partial

from attrs import define, field

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.journal_events import events_of, read_event
from compute_bridge.host.lease_state import KIND_OF, Reaped, ReapIntended, draft
from compute_bridge.host.listing import Listing, answer, find_standing
from compute_bridge.host.strays import Key, Stray
from compute_bridge.model.ids import GrantId
from compute_bridge.model.reason import Reason
from compute_bridge.ports.errors import ComputeBridgeError
from compute_bridge.ports.journal import Journal, JournalUnwritableError

logger = logging.getLogger(__name__)

TERMINATE_S = 60.0
"""How long a backend may take to end a machine in one sweep, in real seconds; the next sweep goes on."""


@define
class Reaper:
    """Ends strays for which the rule has spoken: the intent in the journal first, ``reaped`` when it is gone."""

    fleet: Fleet
    journal: Journal
    answer_s: float
    count: int = field(default=0, init=False)
    _intended: dict[Key, bytes] = field(factory=dict, init=False)
    _is_current: bool = field(default=False, init=False)

    async def resume(self) -> None:
        """Learn, once, what an earlier process began to end and did not see gone; each stands under its lease.

        :raises JournalError: if the journal cannot be read.
        """
        if not self._is_current:
            intended, reaped = await _latest(self.journal, ReapIntended), await _latest(self.journal, Reaped)
            for key, (sequence, lease) in intended.items():
                if sequence > reaped.get(key, (0, b""))[0]:
                    self._intended[key] = lease
            self._is_current = True

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
            if not await self._is_gone(stray.key):
                # Never on its word alone: whoever takes what is off for gone would have us say so for ever.
                return stray.judged(Reason.REAP_UNFINISHED, "the backend says that it is gone, and shows it still")
            await self._conclude(stray.key, stray.lease)
        except ComputeBridgeError as error:
            # Where only the journal failed it is gone all the same; a later sweep writes that down.
            logger.warning("instance %s is being reaped: %s", stray.machine.id, error)
            return stray.judged(Reason.REAP_UNFINISHED, str(error))
        return stray.judged(Reason.REAPED, stray.detail)

    async def conclude(self, listing: Listing) -> None:
        """Write ``reaped`` for what a sweep began to end and of which the backend no longer shows anything."""
        shown = {(listing.backend, one.id, one.token) for one in listing.standing}
        unseen = [key for key in self._intended if key[0] == listing.backend and key not in shown]
        try:
            for key in unseen:
                if await self._is_gone(key):
                    await self._conclude(key, self._intended[key])
        except ComputeBridgeError as error:
            # It is asked no more in this sweep: every question could wait as long.
            logger.warning("backend %s: what was ended is not written down as gone yet: %s", listing.backend, error)

    async def _doubt(self, stray: Stray) -> str | None:
        """Return why the id may not be that machine's any more; asked at the last moment."""
        machine = stray.machine
        try:
            backend = self.fleet.backend(stray.backend)
            found = await find_standing(backend, machine.id, machine.token, answer_s=self.answer_s)
        except ComputeBridgeError as error:
            return str(error)
        if found is None:
            return "the backend shows nothing under its token any more"
        if (found.id, found.ownership) != (machine.id, machine.ownership):
            return f"the backend shows instance {found.id} under its token"
        return None

    async def _is_gone(self, key: Key) -> bool:
        name, instance, token = key
        found = await find_standing(self.fleet.backend(name), instance, token, answer_s=self.answer_s)
        return found is None or found.id != instance

    async def _intend(self, stray: Stray) -> None:
        if stray.key in self._intended:
            return
        machine = stray.machine
        intent = ReapIntended(
            machine.token, stray.backend, machine.id, machine.ownership.grant_hash, stray.age_ms, stray.detail
        )
        await self.journal.record(draft(GrantId(stray.lease), intent))
        self._intended[stray.key] = stray.lease

    async def _conclude(self, key: Key, lease: bytes) -> None:
        name, instance, token = key
        await self.journal.record(draft(GrantId(lease), Reaped(token, name, instance)))
        logger.warning("backend %s: instance %s, a stray, is reaped", name, instance)
        self._intended.pop(key, None)
        self.count += 1


async def _latest(journal: Journal, of: type[ReapIntended | Reaped]) -> dict[Key, tuple[int, bytes]]:
    """Return the sequence and the lease of the last event of a kind for each machine."""
    found: dict[Key, tuple[int, bytes]] = {}
    async for event in events_of(journal, kind=KIND_OF[of]):
        reap = read_event(event)
        if isinstance(reap, of):
            found[reap.backend, reap.instance, reap.token] = event.sequence, event.lease
    return found
