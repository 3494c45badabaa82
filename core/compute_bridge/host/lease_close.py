"""The end of a lease's books: one signed usage log, one claim; each again is the same bytes and changes nothing."""

import logging

from attrs import define

from compute_bridge.host.lease_book import LeaseBook
from compute_bridge.host.lease_state import Delivered, Ended, LeaseState, Logged, Running, Settled
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.model import channels
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import short
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey
from compute_bridge.model.units import UtcMs, charge
from compute_bridge.model.usage import ComputeLog, Outcome
from compute_bridge.ports.errors import (
    BooksUnwritableError,
    MarketError,
    RecordConflictError,
    RecordError,
    SettlementError,
)
from compute_bridge.wire.signing import Signed, sign

logger = logging.getLogger(__name__)


@define
class Closing:
    """What is owed to the market and by it for one lease that has ended."""

    tools: LeaseTools
    grant: Signed[ComputeGrant]
    book: LeaseBook

    async def log(self) -> None:
        """Sign the usage log once, keep it, and have it sent in the order in which logs were kept."""
        logged = self.book.facts.get(Logged)
        if logged is None:
            signed = sign(self._account(), self.tools.current.signing, domain=self.tools.identity.domain)
            logged = Logged(signed.raw, signed.hash)
            await self.book.record(logged, state=LeaseState.LOGGED)
        outbox, order = self.tools.outbox, self.book.facts.sequence_of(Logged)
        try:
            await outbox.send(order, channels.LOGS, self.book.id, logged.log)
        except RecordConflictError as error:
            # Anybody may have taken the id, which is public; the market reads logs under any.
            logger.error("alarm: grant %s: %s; sent under its hash", short(self.book.id), error)  # noqa: TRY400
            await outbox.send(order, channels.LOGS, logged.hash, logged.log)

    def _account(self) -> ComputeLog:
        facts = self.book.facts
        ended, running, delivered = facts.require(Ended), facts.get(Running), facts.get(Delivered)
        served = ended.outcome == Outcome.SERVED
        return ComputeLog(
            grant_id=self.book.id,
            provider_id=self.tools.identity.provider,
            epoch=self.tools.epoch,
            sequence=0,
            outcome=Outcome(ended.outcome),
            reason=ended.reason,
            started_at=running.instance.started_at if running and served else UtcMs(0),
            ended_at=ended.ended_at if served else UtcMs(0),
            billable_ms=ended.billable_ms,
            usage=ended.usage,
            receipt_hash=delivered.receipt_hash if delivered else b"",
            development_attestation=self.tools.development_attestation,
        )

    async def settle(self) -> None:
        """Claim what is due, once: the claim's key is the grant's, so another apply changes nothing and says so."""
        facts, grant = self.book.facts, self.grant.value
        if facts.get(Settled) is not None:
            logger.info("lease %s: %s", short(self.book.id), Reason.ALREADY_SETTLED)
            return
        ended = facts.require(Ended)
        amount = charge(grant.rate, ended.billable_ms)
        if not amount:
            await self.book.record(Settled(Reason.NOTHING_DUE), state=LeaseState.SETTLED)
            return
        claim = Claim(
            key=SettlementKey(self.book.id, EntryKind.CHARGE, 0),
            provider_id=self.tools.identity.provider,
            log_hash=facts.require(Logged).hash,
            rate=grant.rate,
            billable_ms=ended.billable_ms,
            amount=amount,
            currency=grant.currency,
        )
        result = await self.tools.settlement.settle(claim)
        await self._reconcile()
        await self.book.record(Settled(result.reason), state=LeaseState.SETTLED)

    async def _reconcile(self) -> None:
        """Reconcile a statement that came before our claim: whoever read it then had nothing to compare it with.

        :raises BooksUnwritableError: if the books take nothing now.
        """
        try:
            statement = await self.tools.market.statement(self.book.id)
        except (MarketError, RecordError):
            return
        try:
            await self.tools.settlement.reconcile(statement.value)
        except BooksUnwritableError:
            raise
        except SettlementError as error:
            logger.error("settlement: %s", error)  # noqa: TRY400 - the message says it all
