"""One round of the market's clearing, computed again from what it names."""

from collections.abc import Sequence

from attrs import define, field

from compute_bridge.host.audit_report import AuditError, Findings, require
from compute_bridge.host.card_checks import find_card
from compute_bridge.host.log_checks import is_void, whole_stream
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.clearing import (
    Award,
    ClearingInputs,
    ClearingRecord,
    RequestInput,
    Verdict,
)
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import ProviderId, RequestId, short
from compute_bridge.model.projection import project_grant
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import ComputeRequest
from compute_bridge.model.ticket import AdmittedRequest
from compute_bridge.model.units import Tick
from compute_bridge.ports.errors import MarketError, RecordError
from compute_bridge.ports.strategy import Bidder, ClearingRule, OpenRequest, Round
from compute_bridge.wire import codec, merkle
from compute_bridge.wire.signing import Signed, open_self_signed, open_signed

GENESIS = bytes(32)


@define
class RoundAudit:
    """The audit of one round; what is loaded on the way is kept for the checks that follow."""

    market: Market
    rule: ClearingRule
    record: Signed[ClearingRecord]
    inputs: Signed[ClearingInputs]
    findings: Findings
    requests: dict[RequestId, ComputeRequest] = field(factory=dict, init=False)
    bidders: dict[ProviderId, Bidder] = field(factory=dict, init=False)
    verdicts: tuple[Verdict, ...] = field(default=(), init=False)

    async def run(self) -> None:
        """Make every check; none stops the others, except that the rule needs whole inputs."""
        check = self.findings.check
        with check("inputs"):
            self._check_inputs()
        with check("terms"):
            self._check_terms()
        with check("beacon"):
            await self._check_beacon()
        with check("link"):
            await self._check_link()
        with check("requests"):
            await self._load_requests()
        with check("exclusions"):
            await self._check_exclusions()
        with check("cards"):
            await self._load_cards()
        with check("verdicts"):
            await self._load_verdicts()
        with check("rule"):
            self._check_rule()
        with check("grants"):
            await self._check_grants()

    # --- what the record names --------------------------------------------------------------------

    def _check_inputs(self) -> None:
        record, inputs = self.record.value, self.inputs.value
        require(holds=record.inputs == self.inputs.hash, otherwise="the record names other inputs than are published")
        told, want = (inputs.round, inputs.closed_at, inputs.beacon), (record.round, record.closed_at, record.beacon)
        require(holds=told == want, otherwise="the inputs are of another round, tick or beacon than the record")
        ids = [one.request_id for one in inputs.requests]
        providers = [one.provider_id for one in inputs.providers]
        once = len(set(ids)) == len(ids) and len(set(providers)) == len(providers)
        require(holds=once, otherwise="the inputs name a request or a provider twice")

    def _check_terms(self) -> None:
        record, config = self.record.value, self.market.config
        told = (record.rule, record.rule_fingerprint, record.requester_fee, record.provider_fee, record.currency)
        want = (config.rule, config.rule_fingerprint, config.requester_fee, config.provider_fee, config.currency)
        require(holds=told == want, otherwise="rule, fees or currency are not those that the coalition pins")
        require(
            holds=self.rule.fingerprint == record.rule_fingerprint,
            otherwise=f"the installed rule {record.rule!r} has another fingerprint; install the coalition's version",
        )

    async def _check_beacon(self) -> None:
        closed = await self.market.find_tick(self.record.value.closed_at)
        after = await self.market.find_tick(Tick(self.record.value.closed_at + 1))
        require(
            holds=after.value.previous == closed.hash,
            otherwise=f"tick {after.value.tick} of the almanac does not follow from tick {closed.value.tick}",
        )
        require(
            holds=self.record.value.beacon == after.hash,
            otherwise=f"the beacon is not the hash of tick {after.value.tick}, the one after the intake closed",
        )

    async def _check_link(self) -> None:
        record = self.record.value
        entry = await self.market.network.find(channels.CLEARING, channels.number(record.round))
        before = await self._record_before(entry.sequence) if entry else None
        require(
            holds=before is None or before.value.round < record.round,
            otherwise="it stands after a later round",
        )
        previous = before.hash if before else GENESIS
        require(holds=record.previous == previous, otherwise="it does not name the record before it")

    async def _record_before(self, sequence: int) -> Signed[ClearingRecord] | None:
        """Return the module's last record before ``sequence``; what others wrote between is none."""
        for before in range(sequence - 1, 0, -1):
            [entry] = await self.market.network.fetch(channels.CLEARING, after=before - 1, limit=1)
            try:
                found = open_signed(entry.record, ClearingRecord, self.market.domain, by=self.market.config.signing_key)
            except RecordError:
                continue
            if entry.record_id == channels.number(found.value.round):
                return found
        return None

    # --- what went in -----------------------------------------------------------------------------

    async def _load_requests(self) -> None:
        for one in self.inputs.value.requests:
            self.requests[one.request_id] = await find_request(self.market, one.request_id)
            expires_at = self.requests[one.request_id].expires_at
            require(
                holds=expires_at >= self.record.value.closed_at,
                otherwise=f"request {short(one.request_id)} had expired at tick {expires_at}",
            )

    async def _check_exclusions(self) -> None:
        excluding = [one for one in self.inputs.value.requests if one.excluded]
        for one in excluding:
            unfounded = set(one.excluded) - await self._gave_up(one)
            require(
                holds=not unfounded,
                otherwise=f"request {short(one.request_id)} excludes {', '.join(map(short, sorted(unfounded)))}, "
                "which gave up no grant of it",
            )

    async def _gave_up(self, one: RequestInput) -> set[ProviderId]:
        gave_up = set()
        async for entry in whole_stream(self.market, channels.GRANT_STREAM):
            grant = _module_grant(self.market, entry.record)
            if grant is not None and grant.request_id == one.request_id and grant.round < self.record.value.round:
                if await is_void(self.market, grant):
                    gave_up.add(grant.provider_id)
        return gave_up

    async def _load_cards(self) -> None:
        for one in self.inputs.value.providers:
            found = await find_card(self.market, one.card_hash)
            require(
                holds=found.card.provider_id == one.provider_id,
                otherwise=f"{found.name} stands in for provider {short(one.provider_id)}",
            )
            loads = {str(load.band): load.open for load in one.loads}
            self.bidders[one.provider_id] = Bidder(found.card, one.card_hash, one.open, loads)

    # --- what came out ----------------------------------------------------------------------------

    async def _load_verdicts(self) -> None:
        record, index = self.record.value, 0
        verdicts: list[Verdict] = []
        while len(verdicts) < record.verdict_count:
            chunk = await self.market.verdict_chunk(record.round, index)
            require(
                holds=(chunk.value.round, chunk.value.index) == (record.round, index),
                otherwise=f"verdict chunk {index} is of another place",
            )
            verdicts += chunk.value.verdicts
            index += 1
        require(holds=len(verdicts) == record.verdict_count, otherwise="more verdicts are published than were counted")
        require(
            holds=verdict_root(verdicts) == record.verdict_root, otherwise="the published verdicts have another root"
        )
        self.verdicts = tuple(verdicts)
        self.findings.facts["bids"] = [_shown(verdict) for verdict in verdicts]

    def _check_rule(self) -> None:
        inputs, record = self.inputs.value, self.record.value
        whole = len(self.requests) == len(inputs.requests) and len(self.bidders) == len(inputs.providers)
        require(holds=whole, otherwise="cannot be computed again: a request or a card is missing")
        cleared = self.rule.clear(self._round())
        _compare_awards(record.awards, cleared.awards)
        withheld = self._withheld(len(cleared.verdicts))
        require(
            holds=verdict_root([*cleared.verdicts, *withheld]) == record.verdict_root,
            otherwise="the rule gives other verdicts than the record stands for",
        )

    def _withheld(self, count: int) -> tuple[Verdict, ...]:
        """Return the verdicts behind the rule's own: of requests that their account could not pay for."""
        withheld = self.verdicts[count:]
        for verdict in withheld:
            told = (verdict.reason, verdict.rate, verdict.request_id in self.requests)
            require(
                holds=told == (Reason.CREDIT_EXHAUSTED, 0, False),
                otherwise=f"the rule gives no verdict {verdict.reason} on request {short(verdict.request_id)}",
            )
        return withheld

    def _round(self) -> Round:
        inputs, record = self.inputs.value, self.record.value
        open_requests = [
            OpenRequest(one.request_id, self.requests[one.request_id], frozenset(one.excluded))
            for one in inputs.requests
        ]
        return Round(
            inputs=inputs,
            requests=tuple(open_requests),
            bidders=tuple(self.bidders[one.provider_id] for one in inputs.providers),
            currency=record.currency,
            requester_fee=record.requester_fee,
            provider_fee=record.provider_fee,
            module=self.market.domain.module,
        )

    async def _check_grants(self) -> None:
        for award in self.record.value.awards:
            grant = (await self.market.find_grant(award.grant_id)).value
            request = self.requests.get(award.request_id)
            require(
                holds=request is not None
                and grant == project_grant(award, request, self.record.value, accept_within=self._accept_within),
                otherwise=f"grant {short(grant.id)} is not what its award and its request make it",
            )

    @property
    def _accept_within(self) -> int:
        return self.market.config.accept_within_ticks


async def find_request(market: Market, request: RequestId) -> ComputeRequest:
    """Return an admitted request, signed by its one-time key and republished by the module.

    :raises MarketError: if the module has admitted no such request.
    """
    entry = await market.network.find(channels.REQUESTS, request)
    if entry is None:
        raise MarketError(f"stream {channels.REQUESTS} holds no request {short(request)}")
    admitted = open_signed(entry.record, AdmittedRequest, market.domain, by=market.config.signing_key).value
    signed = open_self_signed(admitted.request, ComputeRequest, market.domain, signer=lambda one: one.request_key)
    ticket = admitted.ticket
    named = (RequestId(signed.hash), ticket.request_id, ticket.subject) == (request, request, signed.value.request_key)
    require(holds=named, otherwise=f"request {short(request)}: another one is published under its id")
    return signed.value


def verdict_root(verdicts: Sequence[Verdict]) -> bytes:
    """Return the Merkle root over verdicts in order."""
    return merkle.root([codec.encode(verdict) for verdict in verdicts])


def _compare_awards(told: tuple[Award, ...], computed: tuple[Award, ...]) -> None:
    if told == computed:
        return
    want = {award.request_id: award for award in computed}
    have = {award.request_id: award for award in told}
    wrong = [short(one) for one in sorted(want.keys() | have.keys()) if want.get(one) != have.get(one)]
    raise AuditError(
        f"the rule awards requests {', '.join(wrong)} otherwise than the record"
        if wrong
        else "the awards stand in another order than the rule gives"
    )


def _module_grant(market: Market, raw: bytes) -> ComputeGrant | None:
    try:
        return open_signed(raw, ComputeGrant, market.domain, by=market.config.signing_key).value
    except RecordError:
        return None  # anybody may write to a stream; only the module's word counts


def _shown(verdict: Verdict) -> dict[str, object]:
    return {
        "request": verdict.request_id.hex(),
        "provider": verdict.provider_id.hex(),
        "reason": verdict.reason.value,
        "rate_micros": verdict.rate,
    }
