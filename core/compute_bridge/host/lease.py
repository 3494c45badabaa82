"""One grant from machine to usage log, journalled: every step writes its intent before its effect."""

import logging

import anyio
from attrs import define, field

from compute_bridge.host.envelopes import await_envelope, open_envelope, require_opening
from compute_bridge.host.identity import BootSecrets
from compute_bridge.host.lease_book import LeaseBook
from compute_bridge.host.lease_close import Closing
from compute_bridge.host.lease_delivery import Delivery
from compute_bridge.host.lease_notice import LeaseNotice
from compute_bridge.host.lease_run import RunningLease
from compute_bridge.host.lease_state import (
    AttemptFailed,
    Ended,
    Ending,
    Extended,
    LeaseFacts,
    LeaseState,
    Metered,
    Opened,
    ProvisionIntended,
    Released,
    Running,
    draft,
    routed,
)
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.host.listing import find_machine
from compute_bridge.host.orders import make_order, offer_of
from compute_bridge.host.routing import Placement, PlacementError
from compute_bridge.model.control import ControlAction, ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import GrantId, short
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import Outcome, UsageMetrics
from compute_bridge.ports.backend import Offer, Order
from compute_bridge.ports.errors import ComputeBridgeError, EnvelopeError, MarketError, NetworkError, RecordError
from compute_bridge.ports.journal import JournalUnwritableError
from compute_bridge.wire import codec
from compute_bridge.wire.signing import Domain, Signed

logger = logging.getLogger(__name__)

ASK_AGAIN_MS = 5_000


class LeaseRefusedError(ComputeBridgeError):
    """The grant cannot be served; end it with this outcome and reason, and keep serving the others."""

    def __init__(self, reason: Reason, detail: str, *, outcome: Outcome = Outcome.REFUSED) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.outcome = outcome

    @property
    def ended(self) -> Ended:
        """What the journal says of it: nothing started, nothing billable."""
        return Ended(self.outcome.value, self.reason, self.detail[:500], UtcMs(0), Milliseconds(0), UsageMetrics())


@define
class Lease:
    """The serving of one grant. ``secrets`` are those of the boot on whose card it was cleared.

    ``is_resumed`` says that an earlier start of the bridge took the grant on.
    """

    tools: LeaseTools
    grant: Signed[ComputeGrant]
    secrets: BootSecrets = field(repr=False)
    facts: LeaseFacts
    is_resumed: bool = False
    book: LeaseBook = field(init=False)
    running: RunningLease | None = field(default=None, init=False)
    notice: LeaseNotice = field(init=False)
    _is_new: bool = field(default=False, init=False)
    _concluded: Reason | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.book = LeaseBook(self.tools.journal, self.facts)
        self.notice = LeaseNotice(self.tools, self.grant, self.book)

    @property
    def id(self) -> GrantId:
        """The grant's id, which is the lease's."""
        return self.grant.value.id

    async def serve(self) -> None:
        """Serve the grant from where the journal shows it to where it is settled."""
        if self.facts.get(Ended) is None:
            try:
                await self._serve_machine()
            except LeaseRefusedError as refusal:
                await self.refuse(refusal)
        closing = Closing(self.tools, self.grant, self.book)
        await closing.log()
        await closing.settle()

    async def _serve_machine(self) -> None:
        body = await self._open()
        running = await self._provision(body)
        reason = await self._run(body, running)
        await self._end(running, reason)

    # --- open -------------------------------------------------------------------------------

    async def _open(self) -> EnvelopeBody:
        opened = self.facts.get(Opened)
        if opened is not None:
            return open_envelope(opened.sealed, self.grant, self.secrets.sealing, self._domain)
        sealed, body = await self._await_envelope()
        try:
            require_opening(body, self.grant.value)
        except EnvelopeError as error:
            logger.error("alarm: grant %s: %s", self._name, error)  # noqa: TRY400 - no traceback: it names nothing
            raise LeaseRefusedError(Reason.ENVELOPE_MISMATCH, str(error)) from error
        await self.book.record(Opened(sealed), state=LeaseState.OPENED)
        return body

    async def _await_envelope(self) -> tuple[bytes, EnvelopeBody]:
        wait_s = self.tools.settings.envelope_wait_s
        with anyio.move_on_after(wait_s):
            try:
                return await await_envelope(self.tools.shuffle, self.grant, self.secrets.sealing, self._domain)
            except EnvelopeError as error:
                raise LeaseRefusedError(Reason.ENVELOPE_ABSENT, str(error), outcome=Outcome.NO_SHOW) from error
        raise LeaseRefusedError(Reason.ENVELOPE_ABSENT, f"no envelope within {wait_s} s", outcome=Outcome.NO_SHOW)

    # --- provision ----------------------------------------------------------------------------

    async def _provision(self, body: EnvelopeBody) -> Running:
        running = self.facts.get(Running)
        if running is not None:
            return running
        while (placement := await self._placed(body)) is None:
            await self.tools.clock.sleep_ms(ASK_AGAIN_MS)
        self._is_new = True
        running = Running(placement.instance, placement.order.offer.backend)
        await self.book.record_all(
            draft(self.id, routed(placement.lines)),
            draft(self.id, running, state=LeaseState.RUNNING),
        )
        return running

    async def _placed(self, body: EnvelopeBody) -> Placement | None:
        """Return the machine; ``None`` where a backend that this start has not heard yet may still have one."""
        interrupted = self._interrupted(body)
        if interrupted is not None:
            await self._require_own(interrupted[0])
        elif self.is_resumed:
            await self._require_unsettled()
        try:
            return await self.tools.router.place(
                self.grant.value,
                body.manifest.image,
                order_for=lambda offer, attempt: self._order(body, offer, attempt),
                intend=self._intend,
                failed=self._attempt_failed,
                resume=interrupted,
                first_attempt=self._next_attempt,
            )
        except PlacementError as error:
            if self.is_resumed and (unheard := self.tools.fleet.unheard):
                logger.warning("lease %s waits for backends %s: %s", self._name, ", ".join(unheard), error)
                return None
            await self.book.record(routed(error.lines))
            raise LeaseRefusedError(error.reason, str(error)[:500], outcome=_outcome(error)) from error

    async def _require_own(self, order: Order) -> None:
        """Take back what runs under an order whoever is the last epoch; only the last may make it."""
        try:
            found = await find_machine(self.tools.fleet.backend(order.offer.backend), order.token)
        except ComputeBridgeError as error:
            logger.info("lease %s: whether its machine runs is not known: %s", self._name, error)
            found = None
        if found is None:
            await self.tools.fence()

    async def _require_unsettled(self) -> None:
        """Make no machine for a grant that the market gave up while the bridge was away: nobody would pay it."""
        if await self._is_settled():
            told = "the market settled the grant before it was served"
            raise LeaseRefusedError(Reason.GRANT_SETTLED, told, outcome=Outcome.FAILED)

    async def _is_settled(self) -> bool:
        try:
            await self.tools.market.statement(self.id)
        except (MarketError, RecordError):
            return False
        return True

    def _order(self, body: EnvelopeBody, offer: Offer, attempt: int) -> Order:
        intended = self.facts.get(ProvisionIntended)
        if intended is not None and intended.attempt == attempt:
            ends_at = intended.ends_at
        else:
            allowance = 1000 * self.tools.settings.provision_allowance_s
            ends_at = UtcMs(self.tools.clock.utc_ms() + self.grant.value.duration_ms + allowance)
        return make_order(self.tools.identity, self.grant, body, offer=offer, attempt=attempt, ends_at=ends_at)

    def _interrupted(self, body: EnvelopeBody) -> tuple[Order, int] | None:
        """Return the attempt whose outcome the journal does not show, to be made again unchanged."""
        intended, failed = self.facts.get(ProvisionIntended), self.facts.get(AttemptFailed)
        if intended is None or (failed is not None and failed.token == intended.token):
            return None
        return self._order(body, offer_of(intended.offer), intended.attempt), intended.attempt

    @property
    def _next_attempt(self) -> int:
        intended = self.facts.get(ProvisionIntended)
        return intended.attempt + 1 if intended else 0

    async def _intend(self, order: Order, attempt: int) -> None:
        await self.tools.fence()
        intent = ProvisionIntended(order.token, order.offer.backend, codec.encode(order.offer), attempt, order.ends_at)
        # One record call: a full disk that stops the create must not stop the terminate.
        await self.book.record_all(
            draft(self.id, intent, state=LeaseState.PROVISIONING),
            draft(self.id, intent, kind="terminate-intended"),
        )

    async def _attempt_failed(self, order: Order, reason: Reason, detail: str) -> None:
        await self.book.record(AttemptFailed(order.token, reason, detail[:500]))

    # --- run and end --------------------------------------------------------------------------

    async def _run(self, body: EnvelopeBody, running: Running) -> Reason:
        ending = self.facts.get(Ending)
        if ending is not None:
            return ending.reason
        going = self._running(running)
        if self.facts.get(Released) is not None:
            going.conclude(Reason.RELEASED)
        elif self._concluded is not None:
            going.conclude(self._concluded)
        delivery = Delivery(self.tools, self.grant, self.secrets, self.book)
        async with anyio.create_task_group() as tasks:
            # Beside it, not before: a receipt that cannot be replied keeps no lease from its end.
            tasks.start_soon(delivery.deliver, body, running)
            tasks.start_soon(self.notice.publish)
            if self.is_resumed:
                tasks.start_soon(self._heed_settlement, going)
            reason = await going.until_end()
            tasks.cancel_scope.cancel()
        try:
            await self.book.record(Ending(reason), state=LeaseState.ENDING)
        except JournalUnwritableError as error:
            # The duty to terminate has stood in the journal since before the machine was made.
            logger.error("lease %s: ending it all the same: %s", self._name, error)  # noqa: TRY400
        return reason

    async def _heed_settlement(self, going: RunningLease) -> None:
        """End a machine whose grant the market settled while the bridge was away: nobody pays it any more."""
        while True:
            try:
                settled = await self._is_settled()
            except NetworkError as error:
                logger.warning("lease %s: whether its grant is still open is not known: %s", self._name, error)
            else:
                return going.conclude(Reason.GRANT_SETTLED) if settled else None
            await self.tools.clock.sleep_ms(ASK_AGAIN_MS)

    async def _end(self, running: Running, reason: Reason) -> None:
        ended = await self._running(running).end(reason, self.facts)
        if self.facts.state is not LeaseState.ENDING:
            await self.book.record(Ending(reason), state=LeaseState.ENDING)
        await self.book.record(ended, state=LeaseState.ENDED)

    def _running(self, running: Running) -> RunningLease:
        """Return the running part, one for the life of this process, so that its clock runs on."""
        if self.running is None:
            metered = self.facts.get(Metered)
            # An order that was made long after its intent carries an end that cuts the lease short.
            is_cut = running.instance.ends_at < running.instance.started_at + self.duration_ms
            self.running = RunningLease(
                self.tools,
                self._name,
                running,
                self.duration_ms,
                record=self.book.record,
                counted_ms=metered.elapsed_ms if metered else Milliseconds(0),
                is_resumed=not self._is_new,
                is_extended=is_cut or self.facts.get(Extended) is not None,
            )
        return self.running

    async def refuse(self, refusal: LeaseRefusedError) -> None:
        """End the lease without a machine."""
        logger.info("grant %s %s: %s", self._name, refusal.outcome, refusal.reason)
        await self.book.record(refusal.ended, state=LeaseState.ENDED)

    # --- what the market says ---------------------------------------------------------------------

    async def apply(self, verdict: ControlVerdict) -> None:
        """Take in what the module decided about this lease: a release or an extension.

        It is journalled, since it may come before the machine runs or while the bridge is being restarted.
        """
        if verdict.duration_ms > self.duration_ms:
            await self.book.remember(Extended(verdict.duration_ms))
        if verdict.action is ControlAction.RELEASE and self.facts.get(Released) is None:
            await self.book.remember(Released(verdict.sequence))
        if self.running is not None:
            self.running.apply(verdict)

    def conclude(self, reason: Reason) -> None:
        """Let the machine end, for ``reason``, as soon as it runs; a lease that is past it is left as it is."""
        self._concluded = reason
        if self.running is not None:
            self.running.conclude(reason)

    @property
    def duration_ms(self) -> Milliseconds:
        """The duration in force: as granted, or as the module extended it."""
        extended = self.facts.get(Extended)
        return extended.duration_ms if extended else self.grant.value.duration_ms

    @property
    def _domain(self) -> Domain:
        return self.tools.identity.domain

    @property
    def _name(self) -> str:
        return short(self.id)


def _outcome(error: PlacementError) -> Outcome:
    """A grant that no offer could take was refused; one that was tried and did not work out failed."""
    return Outcome.FAILED if error.attempts else Outcome.REFUSED
