"""One grant from machine to usage log, journalled: every step writes its intent before its effect."""

import logging

import anyio
from attrs import define, field

from compute_bridge.host.envelopes import await_envelope, open_envelope, require_opening
from compute_bridge.host.identity import BootSecrets
from compute_bridge.host.lease_run import RunningLease
from compute_bridge.host.lease_state import (
    AttemptFailed,
    Delivered,
    Ended,
    Ending,
    Extended,
    LeaseFacts,
    LeaseState,
    Logged,
    Opened,
    ProvisionIntended,
    Released,
    Running,
    Settled,
    draft,
    next_state,
    routed,
)
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.host.orders import bridge_made_key, make_order
from compute_bridge.host.outbox import send
from compute_bridge.host.receipts import make_receipt
from compute_bridge.host.routing import PlacementError
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction, ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import GrantId, short
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey
from compute_bridge.model.units import Milliseconds, UtcMs, charge
from compute_bridge.model.usage import ComputeLog, Outcome, UsageMetrics
from compute_bridge.ports.backend import Offer, Order
from compute_bridge.ports.errors import (
    ComputeBridgeError,
    EnvelopeError,
    MarketError,
    NetworkError,
    RecordConflictError,
    RecordError,
    SettlementError,
)
from compute_bridge.ports.journal import EventDraft, JournalUnwritableError
from compute_bridge.wire import codec
from compute_bridge.wire.signing import Domain, Signed, sign

logger = logging.getLogger(__name__)

DELIVER_AGAIN_MS = 2_000
MAX_OFFER_BYTES = 16 * 1024


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
    """The serving of one grant. ``secrets`` are those of the boot on whose card it was cleared."""

    tools: LeaseTools
    grant: Signed[ComputeGrant]
    secrets: BootSecrets = field(repr=False)
    facts: LeaseFacts
    running: RunningLease | None = field(default=None, init=False)
    _is_new: bool = field(default=False, init=False)

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
        await self._log()
        await self._settle()

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
        await self._record(Opened(sealed), state=LeaseState.OPENED)
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
        try:
            placement = await self.tools.router.place(
                self.grant.value,
                body.manifest.image,
                order_for=lambda offer, attempt: self._order(body, offer, attempt),
                intend=self._intend,
                failed=self._attempt_failed,
                resume=self._interrupted(body),
                first_attempt=self._next_attempt,
            )
        except PlacementError as error:
            await self._record(routed(error.lines))
            raise LeaseRefusedError(error.reason, str(error)[:500], outcome=_outcome(error)) from error
        self._is_new = True
        running = Running(placement.instance, placement.order.offer.backend)
        await self._record_all(
            draft(self.id, routed(placement.lines)),
            draft(self.id, running, state=LeaseState.RUNNING),
        )
        return running

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
        offer = codec.decode(intended.offer, Offer, max_bytes=MAX_OFFER_BYTES, fill=True)
        return self._order(body, offer, intended.attempt), intended.attempt

    @property
    def _next_attempt(self) -> int:
        intended = self.facts.get(ProvisionIntended)
        return intended.attempt + 1 if intended else 0

    async def _intend(self, order: Order, attempt: int) -> None:
        intent = ProvisionIntended(order.token, order.offer.backend, codec.encode(order.offer), attempt, order.ends_at)
        # One record call: a full disk that stops the create must not stop the terminate.
        await self._record_all(
            draft(self.id, intent, state=LeaseState.PROVISIONING),
            draft(self.id, intent, kind="terminate-intended"),
        )

    async def _attempt_failed(self, order: Order, reason: Reason, detail: str) -> None:
        await self._record(AttemptFailed(order.token, reason, detail[:500]))

    # --- deliver ------------------------------------------------------------------------------

    async def _deliver(self, body: EnvelopeBody, running: Running) -> None:
        """Reply the receipt, trying until it is taken; the same bytes each time."""
        while True:
            try:
                sealed = await self._sealed_receipt(body, running)
                return await self.tools.shuffle.reply(self.grant.value.bearer_pointer, sealed)
            except (NetworkError, MarketError, JournalUnwritableError) as error:
                logger.warning("lease %s: its receipt is not out yet: %s", self._name, error)
            await self.tools.clock.sleep_ms(DELIVER_AGAIN_MS)

    async def _sealed_receipt(self, body: EnvelopeBody, running: Running) -> bytes:
        kept = await self.tools.journal.blob(self.facts.receipt_event) if self.facts.receipt_event else None
        return kept or await self._make_receipt(body, running)

    async def _make_receipt(self, body: EnvelopeBody, running: Running) -> bytes:
        intended = self.facts.require(ProvisionIntended)
        private = "" if body.ssh_key else bridge_made_key(self.tools.identity, intended.token)
        _, card = await self.tools.market.card(self.grant.value.card_hash)
        receipt = make_receipt(
            self.grant,
            running.instance,
            codec.decode(intended.offer, Offer, max_bytes=MAX_OFFER_BYTES, fill=True),
            card=card.value,
            secrets=self.secrets,
            recipient=body.sealing_key,
            private_key=private,
            domain=self._domain,
        )
        await self._record(
            Delivered(receipt.hash, receipt.sequence, self.grant.value.bearer_pointer),
            state=LeaseState.DELIVERED,
            blob=receipt.sealed,
        )
        return receipt.sealed

    # --- run and end --------------------------------------------------------------------------

    async def _run(self, body: EnvelopeBody, running: Running) -> Reason:
        ending = self.facts.get(Ending)
        if ending is not None:
            return ending.reason
        going = self._running(running)
        if self.facts.get(Released) is not None:
            going.release()
        async with anyio.create_task_group() as tasks:
            # Beside it, not before: a receipt that cannot be replied keeps no lease from its end.
            tasks.start_soon(self._deliver, body, running)
            reason = await going.until_end()
            tasks.cancel_scope.cancel()
        try:
            await self._record(Ending(reason), state=LeaseState.ENDING)
        except JournalUnwritableError as error:
            # The duty to terminate has stood in the journal since before the machine was made.
            logger.error("lease %s: ending it all the same: %s", self._name, error)  # noqa: TRY400
        return reason

    async def _end(self, running: Running, reason: Reason) -> None:
        ended = await self._running(running).end(reason, self.facts)
        if self.facts.state is not LeaseState.ENDING:
            await self._record(Ending(reason), state=LeaseState.ENDING)
        await self._record(ended, state=LeaseState.ENDED)

    def _running(self, running: Running) -> RunningLease:
        """Return the running part, one for the life of this process, so that its clock runs on."""
        if self.running is None:
            already = 0 if self._is_new else self.tools.clock.utc_ms() - running.instance.started_at
            already_ms = Milliseconds(max(0, min(already, self.duration_ms)))
            self.running = RunningLease(
                self.tools,
                running,
                self.duration_ms,
                record=self._record,
                already_ms=already_ms,
                is_extended=self.facts.get(Extended) is not None,
            )
        return self.running

    async def refuse(self, refusal: LeaseRefusedError) -> None:
        """End the lease without a machine."""
        logger.info("grant %s %s: %s", self._name, refusal.outcome, refusal.reason)
        await self._record(refusal.ended, state=LeaseState.ENDED)

    async def apply(self, verdict: ControlVerdict) -> None:
        """Take in what the module decided about this lease: a release or an extension.

        It is journalled, since it may come before the machine runs or while the bridge is being restarted.
        """
        if verdict.duration_ms > self.duration_ms:
            await self._remember(Extended(verdict.duration_ms))
        if verdict.action is ControlAction.RELEASE and self.facts.get(Released) is None:
            await self._remember(Released(verdict.sequence))
        if self.running is not None:
            await self.running.apply(verdict)

    async def _remember(self, body: object) -> None:
        try:
            await self._record(body)
        except JournalUnwritableError as error:
            logger.error("lease %s: held in memory alone: %s", self._name, error)  # noqa: TRY400
            self.facts.note(body)

    # --- log and settle -------------------------------------------------------------------------

    async def _log(self) -> None:
        logged = self.facts.get(Logged)
        if logged is None:
            signed = sign(self._account(), self.tools.current.signing, domain=self._domain)
            logged = Logged(signed.raw, signed.hash)
            await self._record(logged, state=LeaseState.LOGGED)
        network, clock = self.tools.market.network, self.tools.clock
        try:
            await send(network, channels.LOGS, self.id, logged.log, clock=clock)
        except RecordConflictError as error:
            # Anybody may have taken the id, which is public; the market reads logs under any.
            logger.error("alarm: grant %s: %s; sent under its hash", self._name, error)  # noqa: TRY400
            await send(network, channels.LOGS, logged.hash, logged.log, clock=clock)

    def _account(self) -> ComputeLog:
        ended, running = self.facts.require(Ended), self.facts.get(Running)
        delivered = self.facts.get(Delivered)
        served = ended.outcome == Outcome.SERVED
        return ComputeLog(
            grant_id=self.id,
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

    async def _settle(self) -> None:
        if self.facts.get(Settled) is not None:
            return
        ended = self.facts.require(Ended)
        amount = charge(self.grant.value.rate, ended.billable_ms)
        if not amount:
            await self._record(Settled(Reason.NOTHING_DUE), state=LeaseState.SETTLED)
            return
        log = self.facts.require(Logged)
        claim = Claim(
            key=SettlementKey(self.id, EntryKind.CHARGE, 0),
            provider_id=self.tools.identity.provider,
            log_hash=log.hash,
            rate=self.grant.value.rate,
            billable_ms=ended.billable_ms,
            amount=amount,
            currency=self.grant.value.currency,
        )
        result = await self.tools.settlement.settle(claim)
        await self._reconcile()
        await self._record(Settled(result.reason), state=LeaseState.SETTLED)

    async def _reconcile(self) -> None:
        """Reconcile a statement that came before our claim: whoever read it then had nothing to compare it with."""
        try:
            statement = await self.tools.market.statement(self.id)
        except (MarketError, RecordError):
            return
        try:
            await self.tools.settlement.reconcile(statement.value)
        except SettlementError as error:
            logger.error("settlement: %s", error)  # noqa: TRY400 - the message says it all

    # --- journal --------------------------------------------------------------------------------

    @property
    def duration_ms(self) -> Milliseconds:
        """The duration in force: as granted, or as the module extended it."""
        extended = self.facts.get(Extended)
        return extended.duration_ms if extended else self.grant.value.duration_ms

    async def _record(self, body: object, *, state: LeaseState | None = None, blob: bytes | None = None) -> None:
        await self._record_all(draft(self.id, body, state=state, blob=blob))

    async def _record_all(self, *drafts: EventDraft) -> None:
        state = self.facts.state
        for one in drafts:
            if one.state is not None:
                state = next_state(state, LeaseState(one.state), self.id)
        for event in await self.tools.journal.record(*drafts):
            self.facts.apply(event)

    @property
    def _domain(self) -> Domain:
        return self.tools.identity.domain

    @property
    def _name(self) -> str:
        return short(self.id)


def _outcome(error: PlacementError) -> Outcome:
    """A grant that no offer could take was refused; one that was tried and did not work out failed."""
    return Outcome.FAILED if error.attempts else Outcome.REFUSED
