"""Lease control: what the holder of a request key asks of its lease, and the market's answer."""

import logging
import sqlite3
from functools import partial

from attrs import define, evolve

from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction, ControlVerdict, LeaseControl
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, Tick
from compute_bridge.ports.errors import RecordError
from compute_bridge.ports.network import Entry
from compute_bridge.wire.signing import Signed, open_self_signed
from compute_bridge_market import ledger
from compute_bridge_market.almanac import Almanac
from compute_bridge_market.book import Book, Effects
from compute_bridge_market.charges import reservation, ticks_of
from compute_bridge_market.module import Module
from compute_bridge_market.occupancy import Awarded, change_award, find_award
from compute_bridge_market.publishing import Publisher

logger = logging.getLogger(__name__)

_CHANGES = (ControlAction.EXTEND, ControlAction.ACCEPT_LATE)


@define
class Controls:
    """Answers each lease control once; only an applied one has an effect."""

    publisher: Publisher
    book: Book
    almanac: Almanac

    async def take(self, entry: Entry) -> Effects | None:
        """Publish the answer, and return what it changes in the book.

        :raises RecordError: if it is no control record, or for none of our grants.
        """
        domain = self.publisher.module.domain
        control = open_self_signed(entry.record, LeaseControl, domain, signer=lambda one: one.request_key)
        award = await self.book.run(lambda db: find_award(db, control.value.grant_id))
        if award is None:
            raise RecordError(f"control for grant {control.value.grant_id.hex()[:12]}: no such grant")
        if control.value.request_key != award.grant.request_key:
            # Under its own hash: under the grant's number it would take the place of the holder's answer.
            await self._tell(control, award, Reason.CONTROL_SIGNATURE, record_id=control.hash)
            return None
        record_id = control.value.grant_id + channels.number(control.value.sequence)
        if control.value.sequence <= award.control:
            await self._tell(control, award, Reason.CONTROL_SEQUENCE, record_id=record_id)
            return None
        told = await self._answer(control, award, record_id)
        return partial(book_control, module=self.publisher.module, award=award, verdict=told.value)

    async def _answer(self, control: Signed[LeaseControl], award: Awarded, record_id: bytes) -> Signed[ControlVerdict]:
        reason = await self._decide(control.value, award)
        if reason is Reason.CONTROL_APPLIED:
            longer = Milliseconds(award.duration_ms + control.value.extend_ms)
            award = evolve(award, duration_ms=longer)
        return await self._tell(control, award, reason, record_id=record_id)

    async def _decide(self, control: LeaseControl, award: Awarded) -> Reason:
        if control.action in _CHANGES and not award.is_open:
            return Reason.EXTENSION_REFUSED
        if control.action is ControlAction.EXTEND and not await self._may_extend(control, award):
            return Reason.EXTENSION_REFUSED
        return Reason.CONTROL_APPLIED

    async def _may_extend(self, control: LeaseControl, award: Awarded) -> bool:
        longer = Milliseconds(award.duration_ms + control.extend_ms)
        account = self.publisher.module.accounts.get(award.account)
        if account is None or longer > award.longest_ms:
            return False
        more = reservation(award.grant.rate, longer, award.requester_fee)
        return await self.book.run(
            lambda db: (
                more - ledger.reserved(db, award.grant.id, award.account)
                <= ledger.free_credit(db, award.account, account.credit_micros)
            )
        )

    async def _tell(
        self, control: Signed[LeaseControl], award: Awarded, reason: Reason, *, record_id: bytes
    ) -> Signed[ControlVerdict]:
        value = control.value
        logger.info("grant %s: %s: %s", value.grant_id.hex()[:12], value.action, reason)
        verdict = ControlVerdict(
            value.grant_id, value.sequence, value.action, reason, award.duration_ms, self.almanac.now
        )
        return await self.publisher.once(channels.CONTROL_VERDICTS, record_id, verdict)


def book_control(db: sqlite3.Connection, module: Module, award: Awarded, verdict: ControlVerdict) -> None:
    """Remember an answer, and where it was applied set the credit for the longer lease aside."""
    grant, duration, silent_after = award.grant, award.duration_ms, award.silent_after
    if verdict.reason == Reason.CONTROL_APPLIED and verdict.duration_ms > duration and award.is_open:
        duration = verdict.duration_ms
        silent_after = Tick(
            silent_after + ticks_of(Milliseconds(duration - award.duration_ms), module.config.cadence_ms)
        )
        total = reservation(grant.rate, duration, award.requester_fee)
        more = total - ledger.reserved(db, grant.id, award.account)
        if more > 0:
            ledger.reserve(db, grant.id, verdict.sequence, award.account, more)
    if verdict.reason == Reason.CONTROL_APPLIED and verdict.action is ControlAction.ACCEPT_LATE:
        late = verdict.tick + module.config.accept_within_ticks + ticks_of(duration, module.config.cadence_ms)
        silent_after = Tick(max(silent_after, late + module.limits.grace_ticks))
    change_award(db, grant.id, control=verdict.sequence, duration_ms=duration, silent_after=silent_after)
