"""The grant loop: grants in, one lease task each; one bad grant never stops another."""

import logging
from collections import Counter

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from compute_bridge.host.admission import (
    Load,
    NotAdmittedError,
    admitted_card,
    check_cleared,
    check_commitment,
)
from compute_bridge.host.identity import BootSecrets
from compute_bridge.host.lease import Lease, LeaseRefusedError
from compute_bridge.host.lease_life import LIFE
from compute_bridge.host.lease_state import (
    HOLDING_STATES,
    OPEN_STATES,
    Ended,
    Granted,
    LeaseFacts,
    LeaseState,
    Logged,
    Resumed,
    Running,
    draft,
    read_facts,
)
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.host.notices import NoticeReader
from compute_bridge.model import channels
from compute_bridge.model.control import ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import BackendName, GrantId, PublicKey, short
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.errors import (
    BackendError,
    BooksUnwritableError,
    JournalError,
    MarketError,
    NetworkError,
    SettlementError,
)
from compute_bridge.ports.journal import JournalUnwritableError
from compute_bridge.ports.notices import Interruption, SupportsNotices
from compute_bridge.wire.signing import Signed, open_signed

logger = logging.getLogger(__name__)

RETRY_MS = 5_000


@define
class Provider:
    """Serves the grants of one provider. ``boots`` are the keys of every boot that the journal knows."""

    tools: LeaseTools
    boots: dict[PublicKey, BootSecrets] = field(repr=False)
    draining: bool = False
    retired: bool = False
    leases: dict[GrantId, Lease] = field(factory=dict, init=False)
    _closed: set[GrantId] = field(factory=set, init=False)
    refused: Counter[Reason] = field(factory=Counter, init=False)
    served: int = field(default=0, init=False)
    _ended: anyio.Event = field(factory=anyio.Event, init=False)

    async def run(self) -> None:
        """Resume every open lease, then serve grants until cancelled."""
        async with anyio.create_task_group() as tasks:
            await self._resume(tasks)
            tasks.start_soon(self.tools.outbox.run)
            tasks.start_soon(self._follow_controls)
            tasks.start_soon(self._follow_statements)
            for backend in self.tools.fleet.backends:
                if isinstance(backend, SupportsNotices):
                    reader = NoticeReader(backend.name, backend, self.tools.clock, self._notice)
                    tasks.start_soon(reader.run)
            await self._follow_grants(tasks)

    @property
    def load(self) -> Load:
        """What is open now, counted from the leases themselves."""
        holding = [one for one in self.leases.values() if one.facts.state in HOLDING_STATES]
        return Load(len(holding), dict(Counter(one.grant.value.band for one in holding)))

    async def idle(self) -> None:
        """Return when no lease is open."""
        while self.leases:
            await self._ended.wait()

    # --- grants ---------------------------------------------------------------------------------

    async def _follow_grants(self, tasks: TaskGroup) -> None:
        market = self.tools.market
        after = await market.network.cursor(self._consumer, channels.GRANT_STREAM)
        async for sequence, grant in market.grants(after):
            if grant.value.provider_id == self.tools.identity.provider:
                await self._take(grant, tasks)
            await self._done(channels.GRANT_STREAM, sequence)

    async def _take(self, grant: Signed[ComputeGrant], tasks: TaskGroup) -> None:
        if grant.value.id in self.leases or grant.value.id in self._closed:
            logger.info("grant %s again: %s", short(grant.value.id), Reason.GRANT_REPLAYED)
            return
        lease = await self._admit(grant)
        self.leases[grant.value.id] = lease
        tasks.start_soon(self._keep, lease)
        tasks.start_soon(self._catch_up, lease)

    async def _admit(self, grant: Signed[ComputeGrant]) -> Lease:
        while True:
            try:
                return await self._admit_now(grant)
            except JournalUnwritableError as error:
                # A grant that stands nowhere was never taken on; the market sees that in its own time.
                logger.error("no grant is taken on: %s", error)  # noqa: TRY400 - the message says it all
            except NetworkError as error:
                logger.warning("grant %s: again in %d ms: %s", short(grant.value.id), RETRY_MS, error)
            await self.tools.clock.sleep_ms(RETRY_MS)

    async def _admit_now(self, grant: Signed[ComputeGrant]) -> Lease:
        secrets, refused = self.tools.current, []
        try:
            # Checked again after each pause: a grant may expire while the disk is full.
            secrets = await self._check(grant)
        except NotAdmittedError as error:
            logger.info("grant %s refused: %s", short(grant.value.id), error)
            # In one record call with the grant: after a crash, one that stands alone was admitted.
            ended = LeaseRefusedError(error.reason, error.detail).ended
            refused = [draft(grant.value.id, ended, state=LeaseState.ENDED)]
        granted = draft(grant.value.id, Granted(grant.raw, secrets.nonce), state=LeaseState.GRANTED)
        facts = LeaseFacts.fold(grant.value.id, await self.tools.journal.record(granted, *refused))
        return Lease(self.tools, grant, secrets, facts)

    async def _check(self, grant: Signed[ComputeGrant]) -> BootSecrets:
        self._require_selling()
        await check_cleared(self.tools.market, grant)
        card = await admitted_card(self.tools.market, self.tools.identity.provider, grant.value)
        secrets = self.boots.get(card.binding.keys.signing)
        if secrets is None:
            raise NotAdmittedError(Reason.GRANT_CARD_UNKNOWN, "its card has keys of no boot in the journal")
        # Again, since it may have been told to drain while the market was asked.
        self._require_selling()
        check_commitment(card, grant.value, self.load)
        return secrets

    def _require_selling(self) -> None:
        if self.draining or self.retired:
            raise NotAdmittedError(
                Reason.RETIRED if self.retired else Reason.DRAINING, "the bridge takes no new grants"
            )

    # --- leases ---------------------------------------------------------------------------------

    async def _resume(self, tasks: TaskGroup) -> None:
        for row in await self.tools.journal.lease_states():
            grant = GrantId(row.lease)
            if LeaseState(row.state) not in OPEN_STATES:
                self._closed.add(grant)
                continue
            self.leases[grant] = self._reopen(await read_facts(self.tools.journal, grant))
            logger.info("lease %s resumed at %s: %s", short(grant), row.state, LIFE[LeaseState(row.state)].at_start)
        await self._tell_resumed()
        for lease in self.leases.values():
            tasks.start_soon(self._keep, lease)
            if lease.facts.state in HOLDING_STATES:
                # Our cursor may be past an answer that came before the lease, or that no journal took.
                tasks.start_soon(self._catch_up, lease)

    async def _tell_resumed(self) -> None:
        """Say in the journal that this start has the leases; put the logs that wait into their old order first."""
        for lease in self.leases.values():
            logged = lease.facts.get(Logged)
            if logged is not None:
                self.tools.outbox.post(lease.facts.sequence_of(Logged), channels.LOGS, lease.id, logged.log)
        told = [draft(lease.id, Resumed(str(lease.facts.state))) for lease in self.leases.values()]
        try:
            for event in await self.tools.journal.record(*told) if told else ():
                self.leases[GrantId(event.lease)].facts.apply(event)
        except JournalUnwritableError as error:
            logger.error("the leases go on all the same: %s", error)  # noqa: TRY400 - the message says it all

    def _reopen(self, facts: LeaseFacts) -> Lease:
        granted = facts.require(Granted)
        market = self.tools.market
        grant = open_signed(granted.grant, ComputeGrant, market.domain, by=market.config.signing_key)
        secrets = next((one for one in self.boots.values() if one.nonce == granted.boot_nonce), None)
        if secrets is None:
            raise JournalError(f"lease {short(facts.grant)}: no boot in the journal has its keys")
        return Lease(self.tools, grant, secrets, facts, is_resumed=True)

    async def _keep(self, lease: Lease) -> None:
        """Serve one lease to its end, whatever happens in it; the supervisor of the grant loop."""
        while True:
            try:
                await lease.serve()
            except (BackendError, MarketError, NetworkError, SettlementError, JournalUnwritableError) as error:
                logger.warning("lease %s: again in %d ms: %s", short(lease.id), RETRY_MS, error)
            except Exception:
                # The named supervisor: a fault in one lease is told and tried again, never spread.
                logger.exception("lease %s: fault, again in %d ms", short(lease.id), RETRY_MS)
            else:
                break
            await self.tools.clock.sleep_ms(RETRY_MS)
        self._count(lease.facts.require(Ended))
        ended, self._ended = self._ended, anyio.Event()
        self._closed.add(lease.id)
        del self.leases[lease.id]
        ended.set()

    def _count(self, ended: Ended) -> None:
        if ended.outcome == Outcome.SERVED:
            self.served += 1
        else:
            self.refused[ended.reason] += 1

    # --- what the market says of leases -----------------------------------------------------------

    async def _follow_controls(self) -> None:
        market = self.tools.market
        after = await market.network.cursor(self._consumer, channels.CONTROL_VERDICTS)
        async for sequence, verdict in market.control_verdicts(after):
            await self._apply(verdict.value)
            await self._done(channels.CONTROL_VERDICTS, sequence)

    async def _catch_up(self, lease: Lease) -> None:
        """Apply what the module decided about a grant that was not open here then, or was not journalled."""
        while True:
            try:
                verdicts = await self.tools.market.controls_of(lease.id)
            except NetworkError as error:
                logger.warning("grant %s: earlier lease controls are not known: %s", short(lease.id), error)
            else:
                break
            await self.tools.clock.sleep_ms(RETRY_MS)
        for verdict in verdicts:
            await self._apply(verdict.value)

    async def _apply(self, verdict: ControlVerdict) -> None:
        lease = self.leases.get(verdict.grant_id)
        if lease is not None and verdict.reason == Reason.CONTROL_APPLIED:
            await lease.apply(verdict)

    async def _follow_statements(self) -> None:
        market = self.tools.market
        after = await market.network.cursor(self._consumer, channels.SETTLEMENTS)
        async for sequence, statement in market.statements(after):
            if statement.value.provider_id == self.tools.identity.provider:
                await self._heed(statement.value)
            await self._done(channels.SETTLEMENTS, sequence)

    async def _heed(self, statement: SettlementStatement) -> None:
        lease = self.leases.get(statement.key.grant_id)
        if lease is not None:
            # Before our log: the market has given the grant up, and nobody pays its machine any more.
            lease.conclude(Reason.GRANT_SETTLED)
        if statement.charge:
            await self._reconcile(statement)

    async def _reconcile(self, statement: SettlementStatement) -> None:
        while True:
            try:
                result = await self.tools.settlement.reconcile(statement)
                return logger.info("grant %s: %s", short(statement.key.grant_id), result.state)
            except BooksUnwritableError as error:
                # Once our cursor is past it, nobody brings it again.
                logger.error("settlement: again in %d ms: %s", RETRY_MS, error)  # noqa: TRY400 - as below
            except SettlementError as error:
                return logger.error("settlement: %s", error)  # noqa: TRY400 - the message says it all
            await self.tools.clock.sleep_ms(RETRY_MS)

    async def _notice(self, backend: BackendName, interruption: Interruption) -> None:
        for lease in list(self.leases.values()):
            running = lease.facts.get(Running)
            # Of what no lease has on this backend, another bridge on the same account may know more.
            if running and (running.backend, running.instance.id) == (backend, interruption.instance):
                await lease.notice.take(interruption)

    async def _done(self, stream: str, sequence: int) -> None:
        try:
            await self.tools.market.network.save_cursor(self._consumer, stream, sequence)
        except NetworkError as error:
            # What is read twice takes effect once; so this is worth a word and no more.
            logger.warning("stream %s: entry %d may be read again after a restart: %s", stream, sequence, error)

    @property
    def _consumer(self) -> str:
        return channels.bridge_consumer(self.tools.identity.provider)
