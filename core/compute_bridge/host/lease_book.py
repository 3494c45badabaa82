"""One lease's part of the journal: every event passes here, so that no state is skipped and no fact forgotten."""

import logging

from attrs import define

from compute_bridge.host.lease_state import LeaseFacts, LeaseState, draft, next_state
from compute_bridge.model.ids import GrantId, short
from compute_bridge.ports.journal import EventDraft, Journal, JournalUnwritableError

logger = logging.getLogger(__name__)


@define
class LeaseBook:
    """What the journal knows of one lease, and the one way to tell it more."""

    journal: Journal
    facts: LeaseFacts

    @property
    def id(self) -> GrantId:
        """The grant's id, which is the lease's."""
        return self.facts.grant

    async def record(self, body: object, *, state: LeaseState | None = None, blob: bytes | None = None) -> None:
        """Append one event.

        :raises JournalError: if ``state`` may not follow the lease's; nothing is written then.
        :raises JournalUnwritableError: if the journal takes nothing now.
        """
        await self.record_all(draft(self.id, body, state=state, blob=blob))

    async def record_all(self, *drafts: EventDraft) -> None:
        """Append several events, all or none.

        :raises JournalError: if a state may not follow the one before it; nothing is written then.
        :raises JournalUnwritableError: if the journal takes nothing now.
        """
        state = self.facts.state
        for one in drafts:
            if one.state is not None:
                state = next_state(state, LeaseState(one.state), self.id)
        for event in await self.journal.record(*drafts):
            self.facts.apply(event)

    async def remember(self, body: object) -> None:
        """Append one event that changes no state; where it cannot be written, hold it for this process's life."""
        try:
            await self.record(body)
        except JournalUnwritableError as error:
            logger.error("lease %s: held in memory alone: %s", short(self.id), error)  # noqa: TRY400
            self.facts.note(body)
