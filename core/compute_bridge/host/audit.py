"""An auditor: checks any record of the market against the others, trusting nobody."""

from attrs import define, frozen

from compute_bridge.host.audit_report import AuditReport, Findings, require
from compute_bridge.host.audit_round import RoundAudit, find_request
from compute_bridge.host.card_checks import (
    AdmittedCard,
    QuoteTrust,
    check_binding,
    check_certificate,
    check_challenge,
    check_epoch,
    check_provider,
    check_quote,
    find_card,
)
from compute_bridge.host.log_checks import NO_LOG, check_billable, find_log, total_duration
from compute_bridge.host.market import Market
from compute_bridge.host.requester_checks import check_grant, check_receipt, check_record
from compute_bridge.host.requester_state import Access, KeptRequest
from compute_bridge.host.winner import verify_winner
from compute_bridge.model import channels
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, GrantId, RequestId, short
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.units import BasisPoints, Micros, MicrosPerHour, Milliseconds, Tick, charge, fee
from compute_bridge.model.usage import ComputeLog
from compute_bridge.ports.strategy import ClearingRule
from compute_bridge.wire.signing import Signed, open_signed


@frozen
class Due:
    """What a log costs, computed from the grant and the fees of its round."""

    billable_ms: Milliseconds
    charge: Micros
    requester_fee: Micros
    provider_fee: Micros
    reason: Reason


@define
class Auditor:
    """Reads the market's public records and makes a report of each; every check is made, and named.

    A record that is not there at all raises; one that does not hold is a fault in its report.
    """

    market: Market
    trust: QuoteTrust

    async def clearing(self, round_: int, rule: ClearingRule) -> AuditReport:
        """Compute a round again with ``rule`` and compare awards, verdicts and grants.

        :raises MarketError: if there is no such round.
        """
        record = await self.market.clearing(round_)
        inputs = await self.market.clearing_inputs(round_)
        value = record.value
        facts: dict[str, object] = {
            "round": value.round,
            "rule": value.rule,
            "requests": len(inputs.value.requests),
            "providers": len(inputs.value.providers),
            "awards": len(value.awards),
        }
        findings = Findings(f"round {round_}", facts)
        await RoundAudit(self.market, rule, record, inputs, findings).run()
        return findings.report

    async def card(self, card_hash: Fingerprint) -> AuditReport:
        """Check an admitted card: certificate, epoch, binding, challenge and quote.

        :raises MarketError: if the module has admitted no such card.
        """
        findings = Findings(f"card {short(card_hash)}")
        found = await find_card(self.market, card_hash)
        await self._card_checks(found, found.entry.value.admitted_at, findings)
        return findings.report

    async def grant(self, grant_id: GrantId) -> AuditReport:
        """Check a grant against its request, its round's record and its provider's card.

        :raises MarketError: if the module has awarded no such grant.
        """
        grant = await self.market.find_grant(grant_id)
        findings = Findings(f"grant {short(grant_id)}", _grant_facts(grant.value))
        with findings.check("request"):
            request = await find_request(self.market, grant.value.request_id)
            check_grant(grant.value, request, RequestId(grant.value.request_id), self.market.domain.module)
        closed_at = Tick(0)
        with findings.check("clearing"):
            record = await self.market.clearing(grant.value.round)
            closed_at = record.value.closed_at
            check_record(record.value, grant.value, self.market.config)
        with findings.check("card"):
            found = await find_card(self.market, grant.value.card_hash)
            check_provider(found, grant.value.provider_id)
            await self._card_checks(found, closed_at, findings)
        return findings.report

    async def log(self, grant_id: GrantId) -> AuditReport:
        """Check a usage log: by a boot of the awarded provider, and no more billed than ran and was granted.

        :raises MarketError: if there is no such grant, or it has no log.
        """
        grant = (await self.market.find_grant(grant_id)).value
        findings = Findings(f"usage log of grant {short(grant_id)}")
        with findings.check("signature"):
            log = (await find_log(self.market, grant)).value
            findings.facts.update(_log_facts(log))
        if not findings.report.holds:
            return findings.report
        with findings.check("billable"):
            check_billable(log, await total_duration(self.market, grant))
        with findings.check("development mark"):
            card = (await find_card(self.market, grant.card_hash)).card
            require(
                holds=log.development_attestation == card.development_attestation,
                otherwise="the log's development mark is not that of the card",
            )
        return findings.report

    async def ledger(self, grant_id: GrantId) -> AuditReport:
        """Compute a grant's settlement again, fees and all, and compare it with the statement and the claim.

        :raises MarketError: if there is no such grant, or it is not settled.
        """
        grant = (await self.market.find_grant(grant_id)).value
        statement = (await self.market.statement(grant_id)).value
        findings = Findings(f"settlement of grant {short(grant_id)}", _statement_facts(statement))
        with findings.check("names"):
            _check_names(statement, grant)
        if statement.log_hash == NO_LOG:
            with findings.check("amounts"):
                _check_nothing_due(statement)
            return findings.report
        with findings.check("log"):
            log = await find_log(self.market, grant)
            require(holds=statement.log_hash == log.hash, otherwise="the statement is for another log")
        if not findings.report.holds:
            return findings.report
        with findings.check("amounts"):
            await self._check_amounts(statement, grant, log.value)
        with findings.check("claim"):
            await self._check_claim(statement, log)
        return findings.report

    async def receipt(self, kept: KeptRequest, access: Access) -> AuditReport:
        """Check again, against the market as it is now, what was checked before the receipt was accepted."""
        receipt, grant = access.receipt.value, access.grant
        findings = Findings(f"receipt for grant {short(grant.value.id)}")
        findings.facts |= {
            "grant_id": grant.value.id.hex(),
            "host_key": receipt.host_key,
            "host_key_source": receipt.host_key_source,
            "credential": receipt.credential.value,
            "development_attestation": receipt.development_attestation,
        }
        winner = access.winner
        with findings.check("winner"):
            winner = await verify_winner(self.market, grant, kept, self.trust)
            require(holds=winner == access.winner, otherwise="the card is not as it was when the envelope was sealed")
        with findings.check("receipt"):
            check_receipt(receipt, grant.value, kept.body.value, winner)
        return findings.report

    # --- parts ------------------------------------------------------------------------------------

    async def _card_checks(self, found: AdmittedCard, at: Tick, findings: Findings) -> None:
        with findings.check("certificate"):
            certificate = check_certificate(found, self.market.domain)
            with findings.check("epoch"):
                await check_epoch(found, certificate, self.market)
        with findings.check("binding"):
            check_binding(found, self.market.domain)
        with findings.check("challenge"):
            await check_challenge(found, self.market, at)
        with findings.check("quote"):
            verified = await check_quote(found, self.trust)
            findings.facts |= {
                "provider_id": found.card.provider_id.hex(),
                "anchor": verified.anchor,
                "tcb_status": verified.tcb_status,
                "development_attestation": verified.development,
                "mr_td": verified.measurements.mr_td.hex(),
            }

    async def _check_amounts(self, statement: SettlementStatement, grant: ComputeGrant, log: ComputeLog) -> None:
        record = (await self.market.clearing(grant.round)).value
        total = await total_duration(self.market, grant)
        due = due_for(log, grant.rate, total, requester=record.requester_fee, provider=record.provider_fee)
        told = Due(
            statement.billable_ms,
            statement.charge,
            statement.requester_fee,
            statement.provider_fee,
            statement.reason,
        )
        require(holds=told == due, otherwise=f"the statement says {told}, computed is {due}")

    async def _check_claim(self, statement: SettlementStatement, log: Signed[ComputeLog]) -> None:
        key = statement.key.grant_id + channels.number(statement.key.sequence)
        entry = await self.market.network.find(channels.CLAIMS, key)
        if entry is None:
            return  # a provider may leave its money unclaimed
        claim = open_signed(entry.record, Claim, self.market.domain, by=log.signers[0]).value
        told = (claim.key, claim.provider_id, claim.log_hash, claim.amount, claim.currency)
        want = (statement.key, statement.provider_id, log.hash, statement.charge, statement.currency)
        require(holds=told == want, otherwise=f"the provider claims {claim.amount} {claim.currency} micros")


def due_for(
    log: ComputeLog, rate: MicrosPerHour, total: Milliseconds, *, requester: BasisPoints, provider: BasisPoints
) -> Due:
    """Return what a log costs at ``rate`` for at most ``total``, with the fees of both sides."""
    billable = Milliseconds(min(log.billable_ms, log.ended_at - log.started_at, total))
    amount = charge(rate, billable)
    reason = Reason.CHARGED if amount else Reason.NOTHING_DUE
    return Due(billable, amount, fee(amount, requester), fee(amount, provider), reason)


def _check_names(statement: SettlementStatement, grant: ComputeGrant) -> None:
    told = (statement.key, statement.provider_id, statement.rate, statement.currency)
    want = (SettlementKey(grant.id, EntryKind.CHARGE, 0), grant.provider_id, grant.rate, grant.currency)
    require(holds=told == want, otherwise="the statement is for another grant, provider, rate or currency")


def _check_nothing_due(statement: SettlementStatement) -> None:
    amounts = (statement.billable_ms, statement.charge, statement.requester_fee, statement.provider_fee)
    require(holds=not any(amounts), otherwise=f"no log ever came, and yet {statement.charge} micros are booked")


def _grant_facts(grant: ComputeGrant) -> dict[str, object]:
    return {
        "grant_id": grant.id.hex(),
        "request_id": grant.request_id.hex(),
        "provider_id": grant.provider_id.hex(),
        "card_hash": grant.card_hash.hex(),
        "round": grant.round,
        "rate_micros": grant.rate,
        "currency": grant.currency,
        "duration_ms": grant.duration_ms,
    }


def _log_facts(log: ComputeLog) -> dict[str, object]:
    return {
        "grant_id": log.grant_id.hex(),
        "outcome": log.outcome.value,
        "reason": log.reason.value,
        "billable_ms": log.billable_ms,
        "development_attestation": log.development_attestation,
    }


def _statement_facts(statement: SettlementStatement) -> dict[str, object]:
    return {
        "grant_id": statement.key.grant_id.hex(),
        "reason": statement.reason.value,
        "rate_micros": statement.rate,
        "billable_ms": statement.billable_ms,
        "charge_micros": statement.charge,
        "requester_fee_micros": statement.requester_fee,
        "provider_fee_micros": statement.provider_fee,
        "currency": statement.currency,
    }
