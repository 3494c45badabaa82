"""An interruption notice for one lease: journalled, told to the operator, signed and published, once."""

import logging
from datetime import UTC, datetime

import anyio
from attrs import define, field

from compute_bridge.host.lease_book import LeaseBook
from compute_bridge.host.lease_state import LeaseState, Noticed, Running
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.model import channels
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import short
from compute_bridge.model.notice import InterruptionNotice
from compute_bridge.model.units import HOUR_MS, UtcMs
from compute_bridge.ports.errors import RecordConflictError
from compute_bridge.ports.notices import Interruption
from compute_bridge.wire.signing import Signed, sign

logger = logging.getLogger(__name__)

PAST_MS = HOUR_MS
"""How long ago an interruption may have been due: clocks differ, and a listing comes late."""
AHEAD_MS = 30 * 24 * HOUR_MS
"""How long before an interruption a backend may tell of it."""


@define
class LeaseNotice:
    """The one notice that a lease may have; the first counts, whatever its backend says later."""

    tools: LeaseTools
    grant: Signed[ComputeGrant]
    book: LeaseBook
    _came: anyio.Event = field(factory=anyio.Event, init=False)

    async def take(self, interruption: Interruption) -> None:
        """Take in what the backend says of this lease's machine, if it runs and nothing was said before."""
        facts, running = self.book.facts, self.book.facts.get(Running)
        is_live = facts.state in (LeaseState.RUNNING, LeaseState.DELIVERED)
        if running is None or not is_live or facts.get(Noticed) is not None:
            return
        at = self._believed(interruption.at, running)
        signed = sign(self._notice(at), self.tools.current.signing, domain=self.tools.identity.domain)
        when = f"at {_utc(at)}" if at else "soon"
        logger.warning("lease %s: backend %s will take its machine away %s", self._name, running.backend, when)
        detail = " ".join(interruption.detail.split())
        await self.book.remember(Noticed(at, detail, signed.raw, signed.hash))
        self._came.set()

    async def publish(self) -> None:
        """Wait for the notice, or find it in the journal, and send it: the same bytes each time."""
        while (noticed := self.book.facts.get(Noticed)) is None:
            await self._came.wait()
        outbox, order = self.tools.outbox, self.book.facts.sequence_of(Noticed)
        try:
            await outbox.send(order, channels.NOTICES, self.book.id, noticed.notice)
        except RecordConflictError as error:
            # Anybody may have taken the id, which is public; whoever reads notices looks under any.
            logger.error("alarm: lease %s: %s; sent under its hash", self._name, error)  # noqa: TRY400
            await outbox.send(order, channels.NOTICES, noticed.hash, noticed.notice)

    def _notice(self, at: UtcMs) -> InterruptionNotice:
        tools = self.tools
        return InterruptionNotice(self.book.id, tools.identity.provider, tools.epoch, at, tools.market.now)

    def _believed(self, at: UtcMs, running: Running) -> UtcMs:
        """Return when it will be, or 0 where that cannot be: a machine is not taken away before it starts."""
        now = self.tools.clock.utc_ms()
        if not at or max(now - PAST_MS, running.instance.started_at) <= at <= now + AHEAD_MS:
            return at
        logger.warning("lease %s: backend %s told a notice for an impossible time", self._name, running.backend)
        return UtcMs(0)

    @property
    def _name(self) -> str:
        return short(self.book.id)


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
