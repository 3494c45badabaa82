"""A market on strings: real records, signed by a real key, true or false as a test wants them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import define, evolve, field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.card import ProviderCard, RosterEntry
from compute_bridge.model.clearing import (
    CHUNK,
    Award,
    BandLoad,
    ClearingInputs,
    ClearingRecord,
    ProviderInput,
    RequestInput,
    Verdict,
    VerdictChunk,
)
from compute_bridge.model.coalition import (
    SCHEMA,
    CoalitionConfig,
    ComputeConfig,
    Handshake,
    OrganismRef,
    compute_module,
)
from compute_bridge.model.control import ControlAction, ControlVerdict, LeaseControl
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, GrantId, ProviderId, PublicKey, RequestId, UniqueId, derive
from compute_bridge.model.projection import project_grant
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import ComputeRequest, RequestSubmission, RequestVerdict
from compute_bridge.model.settlement import EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.ticket import AdmittedRequest, ClauseKind, Ticket, TicketClause, TicketValidator
from compute_bridge.model.units import BasisPoints, Milliseconds, Tick, UtcMs, charge, fee
from compute_bridge.model.usage import ComputeLog
from compute_bridge.ports.network import Network
from compute_bridge.ports.strategy import Bidder, ClearingRule, OpenRequest, Round
from compute_bridge.wire import codec, merkle
from compute_bridge.wire.sealing import SealContext, SealingSecret, unseal
from compute_bridge.wire.signing import Domain, Signed, fingerprint, open_self_signed, public_key, record_hash, sign

T = TypeVar("T")

SEED = bytes(range(32))
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
SEALING = SealingSecret.from_seed(bytes([2]) * 32)
CADENCE_MS = 100
ACCEPT_WITHIN = 60
REQUESTER_FEE = BasisPoints(150)
PROVIDER_FEE = BasisPoints(250)


def puppet_handshake(rule: ClearingRule, *, seed: bytes = SEED, **changes: Any) -> Handshake:
    """Return the handshake of a puppet market; ``changes`` are to its module's config."""
    compute = evolve(
        ComputeConfig(
            signing_key=public_key(KEY),
            sealing_key=SEALING.public,
            currency="EUR",
            cadence_ms=CADENCE_MS,
            rule="lowest-rate",
            rule_fingerprint=rule.fingerprint,
            requester_fee=REQUESTER_FEE,
            provider_fee=PROVIDER_FEE,
            accept_within_ticks=ACCEPT_WITHIN,
            quote_max_age_ticks=1000,
            card_max_age_ticks=1000,
            anchors=(),
            development_attestation=True,
        ),
        **changes,
    )
    coalition = CoalitionConfig(
        schema=SCHEMA,
        seed=seed,
        name="bridge-β",
        lattices=(),
        organisms=(),
        atlas=None,
        almanac=None,
        chronicle=None,
        compute=OrganismRef("compute", derive(UniqueId(seed), "compute"), fingerprint(compute)),
        randomness=None,
        ticket_validator=TicketValidator((TicketClause(ClauseKind.SIGNATURE, public_key(KEY)),)),
        successor_allowed=True,
    )
    return Handshake(coalition, compute)


@frozen
class Cleared:
    """What one round of the puppet published."""

    inputs: Signed[ClearingInputs]
    record: Signed[ClearingRecord]
    grants: tuple[Signed[ComputeGrant], ...]


@define
class PuppetMarket:
    """Publishes what a market publishes, one step at a time, when a test says so.

    Where a method takes ``falsify``, that is applied to the value just before it is signed.
    """

    network: Network
    rule: ClearingRule
    handshake: Handshake
    domain: Domain = field(init=False)
    ticks: list[Signed[AlmanacTick]] = field(factory=list, init=False)
    cards: dict[ProviderId, tuple[ProviderCard, Fingerprint]] = field(factory=dict, init=False)
    requests: dict[RequestId, ComputeRequest] = field(factory=dict, init=False)
    excluded: dict[RequestId, tuple[ProviderId, ...]] = field(factory=dict, init=False)
    records: list[Signed[ClearingRecord]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        coalition = UniqueId(fingerprint(self.handshake.coalition))
        self.domain = Domain(coalition, compute_module(coalition))

    def sign(self, value: T) -> Signed[T]:
        """Return ``value`` as a record of this market."""
        return sign(value, KEY, domain=self.domain)

    async def say(self, stream: str, record_id: bytes, value: T) -> Signed[T]:
        """Append ``value`` as a record of this market."""
        signed = self.sign(value)
        await self.network.append(stream, record_id, signed.raw)
        return signed

    @property
    def now(self) -> Tick:
        """The number of the latest tick."""
        return self.ticks[-1].value.tick if self.ticks else Tick(0)

    async def tick(self, count: int = 1, *, falsify: Callable[[AlmanacTick], AlmanacTick] = lambda one: one) -> None:
        """Publish the next ``count`` ticks."""
        for _ in range(count):
            number = Tick(self.now + 1)
            previous = self.ticks[-1].hash if self.ticks else bytes(32)
            random = bytes([number % 256]) * 32
            tick = falsify(AlmanacTick(number, CADENCE_MS, UtcMs(number * CADENCE_MS), random, previous))
            self.ticks.append(await self.say(channels.ALMANAC, channels.number(number), tick))

    # --- cards and requests -----------------------------------------------------------------------

    async def admit_card(
        self, card: Signed[ProviderCard], *, falsify: Callable[[RosterEntry], RosterEntry] = lambda one: one
    ) -> Fingerprint:
        """Put a card into the roster and its history; it takes part in rounds from now on."""
        entry = RosterEntry(
            card.raw, card.hash, self.now, "development", "UpToDate", card.value.development_attestation
        )
        signed = await self.say(channels.CARDS, card.hash, falsify(entry))
        held = await self.network.get(channels.ROSTER, card.value.provider_id)
        version = held.version if held else 0
        await self.network.put(channels.ROSTER, card.value.provider_id, signed.raw, expect=version)
        self.cards[card.value.provider_id] = (card.value, card.hash)
        return card.hash

    async def take_in(self, *, reason: Reason = Reason.ADMITTED) -> RequestId:
        """Open the last submission, answer it, and republish its request if it is admitted."""
        tail = await self.network.tail(channels.INTAKE)
        [entry] = await self.network.fetch(channels.INTAKE, after=tail - 1)
        config = self.handshake.compute
        nobody = PublicKey(bytes(32))
        context = SealContext("submission", fingerprint(config), 0, nobody, config.sealing_key)
        raw = unseal(entry.record, SEALING, context)
        submission = open_self_signed(raw, RequestSubmission, self.domain, signer=lambda one: one.account).value
        return await self.admit_request(submission.request, reason=reason)

    async def admit_request(self, raw: bytes, *, reason: Reason = Reason.ADMITTED) -> RequestId:
        """Answer a signed request, and republish it if it is admitted."""
        signed = open_self_signed(raw, ComputeRequest, self.domain, signer=lambda one: one.request_key)
        request, value = RequestId(signed.hash), signed.value
        verdict = RequestVerdict(request, value.request_key, reason, self.now)
        await self.say(channels.REQUEST_VERDICTS, request, verdict)
        if reason is Reason.ADMITTED:
            ticket = Ticket(public_key(KEY), value.request_key, request, value.expires_at)
            await self.say(channels.REQUESTS, request, AdmittedRequest(raw, ticket, self.now))
            self.requests[request] = value
        return request

    # --- rounds -----------------------------------------------------------------------------------

    async def clear(
        self,
        *,
        tick: Callable[[AlmanacTick], AlmanacTick] = lambda one: one,
        inputs: Callable[[ClearingInputs], ClearingInputs] = lambda one: one,
        awards: Callable[[tuple[Award, ...]], tuple[Award, ...]] = lambda one: one,
        verdicts: Callable[[tuple[Verdict, ...]], tuple[Verdict, ...]] = lambda one: one,
        record: Callable[[ClearingRecord], ClearingRecord] = lambda one: one,
        grant: Callable[[ComputeGrant], ComputeGrant] = lambda one: one,
    ) -> Cleared:
        """Close the round at the last tick but one and publish it; each argument falsifies one part of it."""
        await self.tick()
        await self.tick(falsify=tick)
        round_ = self._round()
        cleared = self.rule.clear(round_)
        told = verdicts(cleared.verdicts)
        said = await self.say(channels.CLEARING_INPUTS, channels.number(round_.inputs.round), inputs(round_.inputs))
        await self._publish_verdicts(round_.inputs.round, told)
        drafted = record(self._record(round_, awards(cleared.awards), told))
        signed = await self.say(channels.CLEARING, channels.number(drafted.round), drafted)
        self.records.append(signed)
        grants = [await self._grant(signed.value, award, grant) for award in signed.value.awards]
        return Cleared(said, signed, tuple(grants))

    def _round(self) -> Round:
        closed, beacon = self.ticks[-2].value.tick, self.ticks[-1].hash
        bidders = tuple(Bidder(card, hash_, 0, {}) for card, hash_ in self.cards.values())
        open_requests = tuple(
            OpenRequest(one, request, frozenset(self.excluded.get(one, ()))) for one, request in self.requests.items()
        )
        inputs = ClearingInputs(
            round=len(self.records) + 1,
            closed_at=closed,
            beacon=beacon,
            requests=tuple(RequestInput(one.id, tuple(sorted(one.excluded))) for one in open_requests),
            providers=tuple(
                ProviderInput(one.card.provider_id, one.card_hash, 0, tuple[BandLoad, ...]()) for one in bidders
            ),
        )
        config = self.handshake.compute
        return Round(
            inputs, open_requests, bidders, config.currency, config.requester_fee, config.provider_fee,
            self.domain.module,
        )  # fmt: skip

    async def _publish_verdicts(self, round_: int, verdicts: Sequence[Verdict]) -> None:
        for start in range(0, len(verdicts), CHUNK):
            chunk = VerdictChunk(round_, start // CHUNK, tuple(verdicts[start : start + CHUNK]))
            key = channels.number(round_) + channels.number(chunk.index)
            await self.say(channels.VERDICTS, key, chunk)

    def _record(self, round_: Round, awards: tuple[Award, ...], verdicts: tuple[Verdict, ...]) -> ClearingRecord:
        config = self.handshake.compute
        return ClearingRecord(
            round=round_.inputs.round,
            previous=self.records[-1].hash if self.records else bytes(32),
            term=1,
            rule=config.rule,
            rule_fingerprint=self.rule.fingerprint,
            closed_at=round_.inputs.closed_at,
            beacon=round_.inputs.beacon,
            inputs=record_hash(round_.inputs),
            awards=awards,
            currency=config.currency,
            requester_fee=config.requester_fee,
            provider_fee=config.provider_fee,
            verdict_root=merkle.root([codec.encode(verdict) for verdict in verdicts]),
            verdict_count=len(verdicts),
        )

    async def _grant(
        self, record: ClearingRecord, award: Award, falsify: Callable[[ComputeGrant], ComputeGrant]
    ) -> Signed[ComputeGrant]:
        request = self.requests.pop(award.request_id)
        accept_within = self.handshake.compute.accept_within_ticks
        grant = project_grant(award, request, record, accept_within=accept_within)
        signed = await self.say(channels.GRANT_STREAM, award.grant_id, falsify(grant))
        held = await self.network.get(channels.GRANTS, award.request_id)
        await self.network.put(channels.GRANTS, award.request_id, signed.raw, expect=held.version if held else 0)
        return signed

    def clear_again(self, request: RequestId, value: ComputeRequest, without: ProviderId) -> None:
        """Put a request back into the rounds, excluding a provider."""
        self.requests[request] = value
        self.excluded[request] = (*self.excluded.get(request, ()), without)

    # --- after the fact ---------------------------------------------------------------------------

    async def answer_control(self, *, reason: Reason = Reason.CONTROL_APPLIED) -> LeaseControl:
        """Answer the last lease control; an extension lengthens the grant's duration."""
        tail = await self.network.tail(channels.CONTROL)
        [entry] = await self.network.fetch(channels.CONTROL, after=tail - 1)
        control = open_self_signed(entry.record, LeaseControl, self.domain, signer=lambda one: one.request_key).value
        found = await self.network.find(channels.GRANT_STREAM, control.grant_id)
        if found is None:
            raise LookupError("no such grant")
        grant = open_self_signed(found.record, ComputeGrant, self.domain, signer=lambda _one: public_key(KEY)).value
        longer = Milliseconds(grant.duration_ms + (control.extend_ms if reason is Reason.CONTROL_APPLIED else 0))
        verdict = ControlVerdict(
            control.grant_id, control.sequence, ControlAction(control.action), reason, longer, self.now
        )
        await self.say(channels.CONTROL_VERDICTS, entry.record_id, verdict)
        return control

    async def settle(
        self,
        grant: ComputeGrant,
        log: Signed[ComputeLog] | None,
        *,
        total: Milliseconds | None = None,
        falsify: Callable[[SettlementStatement], SettlementStatement] = lambda one: one,
    ) -> SettlementStatement:
        """Publish the statement for a log, or for its absence."""
        ran = log.value.ended_at - log.value.started_at if log else 0
        billable = Milliseconds(min(log.value.billable_ms, ran, total or grant.duration_ms) if log else 0)
        amount = charge(grant.rate, billable)
        config = self.handshake.compute
        statement = SettlementStatement(
            key=SettlementKey(GrantId(grant.id), EntryKind.CHARGE, 0),
            provider_id=grant.provider_id,
            log_hash=log.hash if log else Fingerprint(bytes(32)),
            reason=Reason.CHARGED if amount else Reason.NOTHING_DUE,
            rate=grant.rate,
            billable_ms=billable,
            charge=amount,
            requester_fee=fee(amount, config.requester_fee),
            provider_fee=fee(amount, config.provider_fee),
            currency=grant.currency,
        )
        told = falsify(statement)
        await self.say(channels.SETTLEMENTS, grant.id + channels.number(0), told)
        return told
