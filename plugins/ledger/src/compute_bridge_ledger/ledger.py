"""``ledger``: the market's ledger moves the money; we claim, and hold its statements against our own book."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread
from attrs import frozen

from compute_bridge.api import Settlement, SettlementContext, SettlementResult, SettlementState
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import Claim, SettlementStatement
from compute_bridge_ledger.book import Book, name_of, open_book

logger = logging.getLogger(__name__)

T = TypeVar("T")

FILE = "ledger.sqlite"


@frozen(kw_only=True)
class LedgerConfig:
    """``[settlement]`` with ``kind = "ledger"``; it has no keys of its own."""


@asynccontextmanager
async def open_ledger(context: SettlementContext, _config: LedgerConfig) -> AsyncGenerator[Settlement]:
    """Open the book ``ledger.sqlite`` in the settlement's folder, or begin it there.

    :raises SettlementError: if the file is no such book, is damaged, or is from a newer version.
    """
    path = context.state_dir / FILE
    book = await anyio.to_thread.run_sync(open_book, path)
    try:
        yield Ledger(context, book)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(book.close)


class Ledger(Settlement):
    """Claims what is owed, once for each key, and books what the market says of each claim."""

    def __init__(self, context: SettlementContext, book: Book) -> None:
        self._context = context
        self._book = book
        # One connection, so one thread at a time.
        self._one = anyio.CapacityLimiter(1)

    async def settle(self, claim: Claim) -> SettlementResult:
        """Book the claim, then publish it; a claim that was booked but not published is published now."""
        entry = await self._run(lambda: self._book.claim(claim, at_ms=self._context.clock.utc_ms()))
        if entry.published:
            logger.info("%s: %s, nothing changes", name_of(claim.key), Reason.ALREADY_SETTLED)
        else:
            await self._context.publish(claim)
            await self._run(lambda: self._book.mark_published(claim.key))
        if entry.result is not None:
            return entry.result
        return SettlementResult(SettlementState.CLAIMED, Reason.CHARGED if claim.amount else Reason.NOTHING_DUE)

    async def reconcile(self, statement: SettlementStatement) -> SettlementResult:
        """Book the statement; one that differs from the claim is kept as it came, and told."""
        result = await self._run(lambda: self._reconciled(statement))
        if result.state is SettlementState.DIFFERS:
            what, stated = name_of(statement.key), f"{statement.charge} {statement.currency}"
            logger.error("%s: the market states %s, which is not what we claimed; both are in the book", what, stated)
        return result

    async def balance(self) -> int:
        """Return what the agreed statements owe us: charges less the provider's fees, less refunds."""
        return await self._run(self._book.agreed_micros)

    def _reconciled(self, statement: SettlementStatement) -> SettlementResult:
        claim = self._book.claim_of(statement.key)
        if _agree(claim, statement):
            result = SettlementResult(SettlementState.AGREED, statement.reason)
        else:
            result = SettlementResult(SettlementState.DIFFERS, Reason.CLAIM_MISMATCH)
        return self._book.state(statement, result, at_ms=self._context.clock.utc_ms())

    async def _run(self, work: Callable[[], T]) -> T:
        # Not abandoned on cancel: what was begun in the book ends before its connection is used again.
        return await anyio.to_thread.run_sync(work, limiter=self._one)


def _agree(claim: Claim, statement: SettlementStatement) -> bool:
    return (
        (claim.provider_id, claim.log_hash) == (statement.provider_id, statement.log_hash)
        and (claim.rate, claim.billable_ms) == (statement.rate, statement.billable_ms)
        and (claim.amount, claim.currency) == (statement.charge, statement.currency)
    )
