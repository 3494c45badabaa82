"""From clearing records to grants: published, reserved for and remembered, from the record alone."""

import logging
import sqlite3
from collections.abc import Sequence
from functools import partial

from attrs import define

from compute_bridge.model import channels
from compute_bridge.model.card import ProviderCard
from compute_bridge.model.clearing import Award, ClearingRecord
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.projection import project_grant
from compute_bridge.model.units import Milliseconds, Tick
from compute_bridge.ports.errors import MarketError, RecordConflictError
from compute_bridge.ports.network import Entry
from compute_bridge.wire.signing import Signed
from compute_bridge_market import ledger
from compute_bridge_market.book import Book, Effects
from compute_bridge_market.charges import reservation, ticks_of
from compute_bridge_market.module import Module
from compute_bridge_market.occupancy import Awarded, book_award
from compute_bridge_market.publishing import Publisher
from compute_bridge_market.requests import Asked, close_request, find_request
from compute_bridge_market.roster import Roster

logger = logging.getLogger(__name__)


class NotYetError(MarketError):
    """A record stands on another one that is still unread; read on, then come back to it."""


@define
class Awarding:
    """Projects each clearing record, once and in order."""

    publisher: Publisher
    book: Book
    roster: Roster

    async def take(self, entry: Entry) -> Effects:
        """Publish the grants of a record, and return what they change in the book.

        :raises RecordError: if it is not a record of this market.
        :raises NotYetError: if it awards a request that was not taken in yet.
        """
        record = self.publisher.open(entry.record, ClearingRecord)
        awarded = [await self._awarded(record.value, award) for award in record.value.awards]
        await self._publish([self.publisher.sign(one.grant) for one in awarded])
        for one in awarded:
            logger.info("round %d: grant %s", record.value.round, one.grant.id.hex()[:12])
        return partial(book_awards, awarded=awarded)

    async def _awarded(self, record: ClearingRecord, award: Award) -> Awarded:
        asked = await self.book.run(lambda db: find_request(db, award.request_id))
        if asked is None:
            raise NotYetError(
                f"round {record.round} awards request {award.request_id.hex()}, which the intake has not brought; "
                "if it never does, restore the network's data"
            )
        card = (await self.roster.card(award.card_hash)).card
        return make_award(self.publisher.module, record, award, asked, card)

    async def _publish(self, grants: Sequence[Signed[ComputeGrant]]) -> None:
        try:
            await self.publisher.append_all(channels.GRANT_STREAM, [(grant.value.id, grant.raw) for grant in grants])
        except RecordConflictError:
            for grant in grants:
                await self.publisher.once(channels.GRANT_STREAM, grant.value.id, grant.value)
        for grant in grants:
            await self._set_latest(grant)

    async def _set_latest(self, grant: Signed[ComputeGrant]) -> None:
        def stands(current: ComputeGrant) -> bool:
            return current.round >= grant.value.round

        await self.publisher.put(channels.GRANTS, grant.value.request_id, grant, stands=stands)


def make_award(module: Module, record: ClearingRecord, award: Award, asked: Asked, card: ProviderCard) -> Awarded:
    """Return the grant that an award stands for; the same record always makes the same grant."""
    config = module.config
    grant = project_grant(award, asked.request, record, accept_within=config.accept_within_ticks)
    lasts = ticks_of(grant.duration_ms, config.cadence_ms)
    return Awarded(
        grant=grant,
        account=asked.account,
        requester_fee=record.requester_fee,
        provider_fee=record.provider_fee,
        card_epoch=card.epoch,
        duration_ms=grant.duration_ms,
        longest_ms=_longest(card, grant),
        silent_after=Tick(grant.valid_to + lasts + module.limits.grace_ticks),
    )


def _longest(card: ProviderCard, grant: ComputeGrant) -> Milliseconds:
    """Return how long the card lets a grant run at most: its band's end, or its capability's."""
    bands = [band.max_duration_ms for band in card.bands if band.name == grant.band]
    served = [
        one.max_duration_ms
        for one in card.capabilities
        if (one.region, one.posture) == (grant.region, grant.posture) and one.serves(grant.requirements)
    ]
    return min(max(bands, default=grant.duration_ms), max(served, default=grant.duration_ms))


def book_awards(db: sqlite3.Connection, awarded: Sequence[Awarded]) -> None:
    """Remember grants as open, set the credit aside, and take their requests out of the rounds."""
    for one in awarded:
        if book_award(db, one):
            grant = one.grant
            amount = reservation(grant.rate, one.duration_ms, one.requester_fee)
            ledger.reserve(db, grant.id, 0, one.account, amount)
            close_request(db, grant.request_id, grant.id)
