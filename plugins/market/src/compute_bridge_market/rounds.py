"""Rounds: one for each tick, committed by a single append."""

import logging
from functools import partial

import anyio.to_thread
from attrs import define, field

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.clearing import ClearingRecord
from compute_bridge.ports.errors import RecordConflictError, TailMovedError
from compute_bridge.wire.signing import Signed
from compute_bridge_market.almanac import last_own
from compute_bridge_market.book import Book
from compute_bridge_market.drafting import Draft, draft_round
from compute_bridge_market.module import Module
from compute_bridge_market.outcome_check import RuleError
from compute_bridge_market.publishing import Publisher
from compute_bridge_market.requests import expire_requests
from compute_bridge_market.roster import Roster
from compute_bridge_market.selection import View, select

logger = logging.getLogger(__name__)

_TRIES = 64


@define
class Rounds:
    """Clears what waits. ``term`` counts the market's starts, as clearing records tell them."""

    publisher: Publisher
    book: Book
    roster: Roster
    term: int = field(default=1, init=False)

    async def begin_term(self) -> None:
        """Take the term after the last one that committed a round."""
        latest = await self._latest()
        self.term = latest.value.term + 1 if latest else 1

    async def hold(self, tick: Signed[AlmanacTick]) -> bool:
        """Commit the round that closed with the tick before ``tick``; return whether there was one to commit.

        Everything but the clearing record is only content until that record names it, so whoever appends the
        record at the expected tail has committed, and nobody else can.
        """
        await self.book.run(lambda db: expire_requests(db, tick.value.tick))
        tail = await self.publisher.network.tail(channels.CLEARING)
        if tick.value.tick < 2 or await self.book.position(channels.CLEARING) != tail:
            return False
        # From the book and the network, not from memory: another leader may have filled both.
        await self.roster.load()
        view = await self.book.run(partial(select, module=self._module, roster=self.roster, tick=tick))
        if not view.requests:
            return False
        try:
            return await self._commit(view, tail)
        except TailMovedError:
            logger.warning("round after tick %d: another leader was faster; reading on", view.closed_at)
        except RuleError as error:
            logger.error("round after tick %d: %s", view.closed_at, error)  # noqa: TRY400 - the message says it all
        return False

    async def _commit(self, view: View, tail: int) -> bool:
        latest = await self._latest()
        if latest is not None and latest.value.closed_at >= view.closed_at:
            return False
        first = latest.value.round + 1 if latest else 1
        for number in range(first, first + _TRIES):
            draft = await anyio.to_thread.run_sync(
                partial(draft_round, self._module, view, number=number, term=self.term, previous=latest)
            )
            if latest is not None and _says_nothing_new(latest.value, draft.record):
                return False
            try:
                await self._publish(draft, tail)
            except RecordConflictError as error:
                logger.warning("round %d was begun before and never committed, or by others: %s", number, error)
                continue
            return True
        logger.error("rounds %d and on are held by others; let only the market write its streams", first)
        return False

    async def _publish(self, draft: Draft, tail: int) -> None:
        sign, number = self.publisher.sign, channels.number(draft.record.round)
        network = self.publisher.network
        await network.append(channels.CLEARING_INPUTS, number, sign(draft.inputs).raw)
        chunks = [(number + channels.number(chunk.index), sign(chunk).raw) for chunk in draft.chunks]
        await self.publisher.append_all(channels.VERDICTS, chunks)
        await network.append(channels.CLEARING, number, sign(draft.record).raw, expect_last=tail)

    async def _latest(self) -> Signed[ClearingRecord] | None:
        return await last_own(self.publisher, channels.CLEARING, ClearingRecord)

    @property
    def _module(self) -> Module:
        return self.publisher.module


def _says_nothing_new(latest: ClearingRecord, now: ClearingRecord) -> bool:
    """Return whether a round awards nothing and loses every bid for the reasons that the last record gave."""
    told = (latest.awards, latest.verdict_root, latest.verdict_count)
    return told == ((), now.verdict_root, now.verdict_count)
