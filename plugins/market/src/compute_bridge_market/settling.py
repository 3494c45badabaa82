"""From usage logs to settlement statements: what the market's own grant and the log say together."""

import logging
import sqlite3
from functools import partial

from attrs import define

from compute_bridge.model import channels
from compute_bridge.model.ids import Fingerprint, GrantId
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.units import Micros, Milliseconds, Tick, charge
from compute_bridge.model.usage import ComputeLog, Outcome
from compute_bridge.ports.errors import RecordError
from compute_bridge.ports.network import Entry
from compute_bridge.wire.signing import Signed, open_self_signed
from compute_bridge_market import ledger
from compute_bridge_market.book import Book, Effects
from compute_bridge_market.charges import fees
from compute_bridge_market.occupancy import NO_LOG, Awarded, end_award, find_award, silent_awards
from compute_bridge_market.publishing import Publisher
from compute_bridge_market.requests import reopen_request
from compute_bridge_market.roster import Roster

logger = logging.getLogger(__name__)

FIRST = 0
"""The sequence of the statement that counts."""
AGAIN = 1
"""The sequence of the statement that answers a second log for the same grant."""


@define
class Settling:
    """Settles each grant once: by its log, or as abandoned when none comes."""

    publisher: Publisher
    book: Book
    roster: Roster

    async def take(self, entry: Entry) -> Effects | None:
        """Publish the statement for a log, and return what it changes in the book.

        :raises RecordError: if it is not a log by the provider of one of our grants.
        """
        log = open_self_signed(entry.record, ComputeLog, self.publisher.module.domain, signer=self.roster.log_key)
        award = await self.book.run(lambda db: find_award(db, log.value.grant_id))
        name = log.value.grant_id.hex()[:12]
        if award is None:
            raise RecordError(f"log for grant {name}: the market has awarded no such grant")
        if log.value.provider_id != award.grant.provider_id:
            raise RecordError(f"log for grant {name}: the grant is another provider's")
        if log.value.epoch < award.card_epoch:
            raise RecordError(f"log for grant {name}: of epoch {log.value.epoch}, won in epoch {award.card_epoch}")
        if not award.is_open:
            await self._answer_again(award, log)
            return None
        return await self._end(award, make_statement(award, log), is_void=_is_void(log.value))

    async def abandon(self, now: Tick) -> None:
        """End the grants whose log is overdue; their requests go to others."""
        for grant in await self.book.run(lambda db: silent_awards(db, now)):
            award = await self.book.run(partial(find_award, grant=grant))
            if award is not None:
                logger.warning("grant %s is abandoned: no log came by tick %d", grant.hex()[:12], award.silent_after)
                await self.book.run(await self._end(award, make_statement(award, None), is_void=True))

    async def _end(self, award: Awarded, statement: SettlementStatement, *, is_void: bool) -> Effects:
        told = (await self._tell(statement)).value
        logger.info("grant %s: %s %d micros", award.grant.id.hex()[:12], told.reason, told.charge)
        if told.log_hash != statement.log_hash:
            # Said before a crash, or by another leader, about a log that came or did not.
            is_void = told.log_hash == NO_LOG
        return partial(book_end, award=award, statement=told, is_void=is_void)

    async def _answer_again(self, award: Awarded, log: Signed[ComputeLog]) -> None:
        """Say of a log that comes second that the first one counts, unless it is the same."""
        if log.hash == award.log_hash:
            logger.info("grant %s: %s by this very log", award.grant.id.hex()[:12], Reason.ALREADY_SETTLED)
            return
        reason = Reason.ALREADY_SETTLED if award.log_hash == NO_LOG else Reason.LOG_DISPUTED
        logger.warning("grant %s: %s by a second log", award.grant.id.hex()[:12], reason)
        await self._tell(_statement(award, AGAIN, log.hash, reason, Milliseconds(0), Micros(0)))

    async def _tell(self, statement: SettlementStatement) -> Signed[SettlementStatement]:
        record_id = statement.key.grant_id + channels.number(statement.key.sequence)
        return await self.publisher.once(channels.SETTLEMENTS, record_id, statement)


def _is_void(log: ComputeLog) -> bool:
    """Return whether the request should go to another provider; a requester who did not show up is not helped."""
    return log.outcome is not Outcome.SERVED and log.reason is not Reason.ENVELOPE_ABSENT


def make_statement(award: Awarded, log: Signed[ComputeLog] | None) -> SettlementStatement:
    """Return what a grant costs by its log, or nothing without one; the same inputs, the same statement."""
    if log is None:
        return _statement(award, FIRST, Fingerprint(NO_LOG), Reason.NOTHING_DUE, Milliseconds(0), Micros(0))
    value = log.value
    billable = Milliseconds(min(value.billable_ms, award.duration_ms, value.ended_at - value.started_at))
    amount = charge(award.grant.rate, billable)
    reason = Reason.CHARGED if amount else Reason.NOTHING_DUE
    return _statement(award, FIRST, log.hash, reason, billable, amount)


def _statement(
    award: Awarded, sequence: int, log_hash: Fingerprint, reason: Reason, billable: Milliseconds, amount: Micros
) -> SettlementStatement:
    requester_fee, provider_fee = fees(amount, award.requester_fee, award.provider_fee)
    return SettlementStatement(
        key=SettlementKey(GrantId(award.grant.id), EntryKind.CHARGE, sequence),
        provider_id=award.grant.provider_id,
        log_hash=log_hash,
        reason=reason,
        rate=award.grant.rate,
        billable_ms=billable,
        charge=amount,
        requester_fee=requester_fee,
        provider_fee=provider_fee,
        currency=award.grant.currency,
    )


def book_end(db: sqlite3.Connection, award: Awarded, statement: SettlementStatement, is_void: bool) -> None:
    """Book the statement, free the slot, and put the request back into the rounds where the grant was void."""
    grant = award.grant
    if not end_award(db, grant.id, statement.log_hash):
        return
    ledger.settle(db, statement, award.account)
    if is_void:
        reopen_request(db, grant.request_id, grant.id, grant.provider_id)
