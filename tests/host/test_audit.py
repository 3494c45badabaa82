"""The auditor: computes everything again, and names every check that does not hold."""

from functools import partial

import pytest
from attrs import evolve

from compute_bridge.host.audit import due_for
from compute_bridge.host.audit_report import AuditError, Findings
from compute_bridge.model import channels
from compute_bridge.model.clearing import Verdict
from compute_bridge.model.control import ControlAction, ControlVerdict
from compute_bridge.model.ids import Fingerprint, GrantId, ProviderId, RequestId
from compute_bridge.model.reason import Reason
from compute_bridge.model.ticket import AdmittedRequest
from compute_bridge.model.units import BasisPoints, Micros, MicrosPerHour, Milliseconds, Tick, charge, fee
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.errors import MarketError, RecordError
from compute_bridge.wire.signing import open_signed, sign
from compute_bridge_market.rule import LowestRate

pytestmark = pytest.mark.anyio

ROUND_CHECKS = {
    "inputs", "terms", "beacon", "link", "requests", "exclusions", "cards", "verdicts", "rule", "grants",
}  # fmt: skip


def faults(report):
    return {check.name for check in report.faults}


async def round_of(stage, **falsified):
    """Return the audit of a round in which two bridges competed, with one part of it falsified."""
    await stage.bridge(seed=60)
    await stage.bridge(seed=70, vcpu_nanos=20_000_000)
    await stage.ask()
    await stage.ask()
    await stage.market.clear(**falsified)
    return await stage.auditor.clearing(1, LowestRate())


async def lease_of(stage, *, ran_ms=30_000, **changes):
    """Return bridge, grant and log of a lease that ran."""
    bridge = await stage.bridge()
    _, grant = await stage.ask_and_clear()
    return bridge, grant.value, await bridge.log(grant.value, ran_ms=ran_ms, **changes)


# --- rounds ---------------------------------------------------------------------------------------


async def test_an_honest_round_is_computed_again_to_the_same_awards_and_verdicts(stage):
    report = await round_of(stage)

    assert ROUND_CHECKS == {check.name for check in report.checks}
    assert set() == faults(report)
    assert 4 == len(report.facts["bids"])


async def test_rounds_are_linked(stage):
    await round_of(stage)
    await stage.ask()
    await stage.market.clear()

    assert (await stage.auditor.clearing(2, LowestRate())).holds


async def test_what_strangers_write_between_two_rounds_breaks_no_link(stage):
    await round_of(stage)
    await stage.network.append(channels.CLEARING, b"stranger", b"garbage")
    await stage.network.append(channels.CLEARING, b"replay", stage.market.records[0].raw)
    await stage.ask()
    await stage.market.clear()

    assert (await stage.auditor.clearing(2, LowestRate())).holds


async def test_a_round_that_was_left_out_of_the_chain_is_found(stage):
    await round_of(stage)
    await stage.ask()
    await stage.market.clear()
    await stage.ask()
    await stage.market.clear(record=lambda one: evolve(one, previous=stage.market.records[0].hash))

    assert {"link"} == faults(await stage.auditor.clearing(3, LowestRate()))


def other_winner(awards):
    """Give the first award to whoever did not win it."""
    return (evolve(awards[0], provider_id=ProviderId(bytes(32))), *awards[1:])


FALSE_ROUNDS = {
    "another beacon": ({"record": lambda one: evolve(one, beacon=bytes(32))}, {"inputs", "beacon"}),
    "another previous record": ({"record": lambda one: evolve(one, previous=bytes([1]) * 32)}, {"link"}),
    "other inputs": ({"record": lambda one: evolve(one, inputs=bytes(32))}, {"inputs"}),
    "a later close": (
        {"record": lambda one: evolve(one, closed_at=Tick(one.closed_at - 1))},
        {"inputs", "beacon"},
    ),
    "another rule": ({"record": lambda one: evolve(one, rule_fingerprint=bytes(32))}, {"terms"}),
    "another fee": ({"record": lambda one: evolve(one, requester_fee=BasisPoints(9))}, {"terms"}),
    "another currency": ({"record": lambda one: evolve(one, currency="USD")}, {"terms"}),
    "a cheaper award": (
        {"awards": lambda all_: (evolve(all_[0], rate=MicrosPerHour(all_[0].rate - 1)), *all_[1:])},
        {"rule"},
    ),
    "an award withheld": ({"awards": lambda all_: all_[1:]}, {"rule"}),
    "awards in another order": ({"awards": lambda all_: all_[::-1]}, {"rule"}),
    "another winner": ({"awards": other_winner}, {"rule"}),
    "another verdict": (
        {"verdicts": lambda all_: (evolve(all_[0], reason=Reason.REGION), *all_[1:])},
        {"rule"},
    ),
    "a verdict withheld": ({"verdicts": lambda all_: all_[:-1]}, {"rule"}),
    "another verdict root": ({"record": lambda one: evolve(one, verdict_root=bytes(32))}, {"verdicts", "rule"}),
    "fewer verdicts counted": ({"record": lambda one: evolve(one, verdict_count=1)}, {"verdicts"}),
    "more verdicts counted": ({"record": lambda one: evolve(one, verdict_count=400)}, {"verdicts"}),
    "a request left out": (
        {"inputs": lambda one: evolve(one, requests=one.requests[1:])},
        {"inputs", "rule", "grants"},
    ),
    "a provider left out": ({"inputs": lambda one: evolve(one, providers=one.providers[:1])}, {"inputs", "rule"}),
    "a request named twice": ({"inputs": lambda one: evolve(one, requests=one.requests * 2)}, {"inputs", "rule"}),
    "a grant at another rate": ({"grant": lambda one: evolve(one, rate=MicrosPerHour(one.rate + 1))}, {"grants"}),
    "a grant for longer": ({"grant": lambda one: evolve(one, valid_to=Tick(one.valid_to + 1))}, {"grants"}),
    "a grant to another envelope": ({"grant": lambda one: evolve(one, envelope_commitment=bytes(32))}, {"grants"}),
}


@pytest.mark.parametrize(("falsified", "found"), FALSE_ROUNDS.values(), ids=FALSE_ROUNDS.keys())
async def test_a_falsified_round_is_named_by_the_check_that_fails(stage, falsified, found):
    report = await round_of(stage, **falsified)

    assert found <= faults(report)
    assert not report.holds


async def test_a_tick_that_does_not_follow_from_the_one_before_is_found(stage):
    await stage.bridge()
    await stage.ask()
    await stage.market.clear(tick=lambda one: evolve(one, previous=bytes(32)))

    assert "beacon" in faults(await stage.auditor.clearing(1, LowestRate()))


async def test_a_request_that_was_never_admitted_is_found(stage):
    await stage.bridge()
    await stage.ask()
    [(request, value)] = stage.market.requests.items()
    stage.market.requests = {RequestId(bytes(31) + b"\1"): value}
    del request
    await stage.market.clear()

    assert {"requests", "rule", "grants"} <= faults(await stage.auditor.clearing(1, LowestRate()))


async def test_another_request_under_an_admitted_id_is_found(stage):
    await stage.bridge()
    await stage.ask()
    first, second = await stage.ask(), RequestId(bytes(31) + b"\2")
    entry = await stage.network.find(channels.REQUESTS, first.id)
    signer = stage.market.handshake.compute.signing_key
    admitted = open_signed(entry.record, AdmittedRequest, stage.market.domain, by=signer).value
    await stage.market.say(channels.REQUESTS, second, admitted)
    stage.market.requests = {second: stage.market.requests[RequestId(first.id)]}
    await stage.market.clear()

    assert "requests" in faults(await stage.auditor.clearing(1, LowestRate()))


async def test_an_expired_request_in_a_round_is_found(stage):
    await stage.bridge()
    await stage.ask(open_ms=Milliseconds(200))
    await stage.market.tick(5)
    await stage.market.clear()

    assert "requests" in faults(await stage.auditor.clearing(1, LowestRate()))


async def test_a_provider_excluded_without_a_cause_is_found(stage):
    cheap = await stage.bridge(seed=60)
    await stage.bridge(seed=70, vcpu_nanos=20_000_000)
    handle = await stage.ask()
    stage.market.excluded[RequestId(handle.id)] = (cheap.provider,)
    await stage.market.clear()

    assert {"exclusions"} == faults(await stage.auditor.clearing(1, LowestRate()))


async def test_a_provider_excluded_for_a_grant_it_gave_up_is_in_order(stage):
    cheap = await stage.bridge(seed=60)
    await stage.bridge(seed=70, vcpu_nanos=20_000_000)
    handle = await stage.ask()
    request = stage.market.requests[RequestId(handle.id)]
    [grant] = (await stage.market.clear()).grants
    await cheap.log(grant.value)
    stage.market.clear_again(RequestId(handle.id), request, cheap.provider)
    await stage.market.clear()

    assert set() == faults(await stage.auditor.clearing(2, LowestRate()))


async def test_a_provider_excluded_because_it_never_answered_is_in_order(stage):
    silent = await stage.bridge(seed=60)
    handle = await stage.ask()
    request = stage.market.requests[RequestId(handle.id)]
    [grant] = (await stage.market.clear()).grants
    await stage.market.settle(grant.value, None)
    stage.market.clear_again(RequestId(handle.id), request, silent.provider)
    await stage.market.clear()

    assert set() == faults(await stage.auditor.clearing(2, LowestRate()))


async def test_verdicts_on_requests_without_credit_stand_behind_the_rules_own(stage):
    withheld = Verdict(RequestId(bytes(32)), ProviderId(bytes(32)), Reason.CREDIT_EXHAUSTED, MicrosPerHour(0))
    report = await round_of(stage, verdicts=lambda all_: (*all_, withheld))

    assert set() == faults(report)


async def test_a_request_that_took_part_cannot_be_without_credit(stage):
    def also_withheld(verdicts):
        return (*verdicts, evolve(verdicts[0], reason=Reason.CREDIT_EXHAUSTED, rate=MicrosPerHour(0)))

    assert {"rule"} == faults(await round_of(stage, verdicts=also_withheld))


async def test_a_rule_of_another_version_is_not_mistaken_for_the_coalitions(stage):
    class Other(LowestRate):
        @property
        def fingerprint(self):
            return Fingerprint(bytes(32))

    await round_of(stage)
    report = await stage.auditor.clearing(1, Other())

    assert {"terms"} == faults(report)


async def test_a_round_that_never_was_raises(stage):
    with pytest.raises(MarketError):
        await stage.auditor.clearing(7, LowestRate())


async def test_a_record_by_a_stranger_raises(stage):
    await stage.network.append(channels.CLEARING, channels.number(1), b"garbage")
    with pytest.raises(RecordError):
        await stage.auditor.clearing(1, LowestRate())


# --- cards and grants -------------------------------------------------------------------------------


async def test_an_honest_card_holds_and_tells_that_its_attester_is_for_development(stage):
    bridge = await stage.bridge()
    report = await stage.auditor.card(bridge.card.hash)

    assert ["epoch", "certificate", "binding", "challenge", "quote"] == [check.name for check in report.checks]
    assert report.holds
    assert report.facts["development_attestation"] is True


async def test_every_fault_of_a_card_is_named(stage):
    bridge = await stage.bridge(
        certificate=b"garbage", rate_fingerprint=Fingerprint(bytes(32)), development_attestation=False
    )

    assert {"certificate", "binding", "quote"} == faults(await stage.auditor.card(bridge.card.hash))


async def test_an_honest_grant_holds(stage):
    _, grant, _ = await lease_of(stage)
    report = await stage.auditor.grant(grant.id)

    assert report.holds
    assert {"request", "clearing", "card", "quote"} <= {check.name for check in report.checks}


async def test_a_grant_that_is_not_its_award_is_found(stage):
    await stage.bridge()
    await stage.ask()
    [grant] = (await stage.market.clear(grant=lambda one: evolve(one, rate=MicrosPerHour(one.rate + 1)))).grants

    assert {"clearing"} == faults(await stage.auditor.grant(grant.value.id))


async def test_a_grant_for_something_else_than_its_request_is_found(stage):
    await stage.bridge()
    await stage.ask()
    [grant] = (await stage.market.clear(grant=lambda one: evolve(one, bearer_pointer=bytes(32)))).grants

    assert {"request"} == faults(await stage.auditor.grant(grant.value.id))


async def test_a_grant_that_never_was_raises(stage):
    with pytest.raises(MarketError):
        await stage.auditor.grant(GrantId(bytes(32)))


# --- logs -------------------------------------------------------------------------------------------


async def test_an_honest_log_holds(stage):
    _, grant, log = await lease_of(stage)
    report = await stage.auditor.log(grant.id)

    assert report.holds
    assert log.value.billable_ms == report.facts["billable_ms"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"ran_ms": 60_001}, "billable"),
        ({"billable_ms": Milliseconds(30_001)}, "billable"),
        ({"provider_id": ProviderId(bytes(32))}, "signature"),
        ({"grant_id": GrantId(bytes(32))}, "signature"),
        ({"epoch": 2}, "signature"),
        ({"development_attestation": False}, "development mark"),
    ],
)
async def test_a_false_log_is_named_by_the_check_that_fails(stage, changes, found):
    _, grant, _ = await lease_of(stage, **changes)

    assert {found} == faults(await stage.auditor.log(grant.id))


async def test_a_log_by_a_stranger_is_found(stage):
    await stage.bridge()
    stranger = await stage.bridge(seed=80, vcpu_nanos=99_000_000)
    _, grant = await stage.ask_and_clear()
    await stranger.log(grant.value, ran_ms=1000, provider_id=grant.value.provider_id)

    assert {"signature"} == faults(await stage.auditor.log(grant.value.id))


async def test_a_log_by_a_later_boot_of_the_same_provider_holds(stage):
    bridge = await stage.bridge()
    _, grant = await stage.ask_and_clear()
    bridge.boot(2)
    await bridge.claim_epoch()
    await bridge.log(grant.value, ran_ms=1000)

    assert (await stage.auditor.log(grant.value.id)).holds


async def test_a_log_by_a_boot_between_the_cards_and_the_current_one_holds(stage):
    bridge = await stage.bridge()
    _, grant = await stage.ask_and_clear()
    bridge.boot(2)
    await bridge.enter()
    await bridge.log(grant.value, ran_ms=1000)
    bridge.boot(3)
    await bridge.enter()

    assert (await stage.auditor.log(grant.value.id)).holds


async def test_an_extension_that_was_applied_may_be_billed(stage):
    _, grant, _ = await lease_of(stage, ran_ms=70_000)
    verdict = ControlVerdict(
        grant.id, 1, ControlAction.EXTEND, Reason.CONTROL_APPLIED, Milliseconds(80_000), stage.market.now
    )
    await stage.market.say(channels.CONTROL_VERDICTS, grant.id + channels.number(1), verdict)

    assert (await stage.auditor.log(grant.id)).holds


async def test_an_extension_that_was_refused_may_not_be_billed(stage):
    _, grant, _ = await lease_of(stage, ran_ms=70_000)
    verdict = ControlVerdict(
        grant.id, 1, ControlAction.EXTEND, Reason.EXTENSION_REFUSED, Milliseconds(80_000), stage.market.now
    )
    await stage.market.say(channels.CONTROL_VERDICTS, grant.id + channels.number(1), verdict)

    assert {"billable"} == faults(await stage.auditor.log(grant.id))


async def test_an_extension_by_a_stranger_may_not_be_billed(stage):
    bridge, grant, _ = await lease_of(stage, ran_ms=70_000)
    verdict = ControlVerdict(
        grant.id, 1, ControlAction.EXTEND, Reason.CONTROL_APPLIED, Milliseconds(80_000), stage.market.now
    )
    raw = sign(verdict, bridge.signing, domain=stage.market.domain).raw
    await stage.network.append(channels.CONTROL_VERDICTS, grant.id + channels.number(1), raw)

    assert {"billable"} == faults(await stage.auditor.log(grant.id))


# --- the ledger -------------------------------------------------------------------------------------


async def test_an_honest_settlement_is_computed_again_to_the_micro(stage):
    bridge, grant, log = await lease_of(stage)
    await bridge.claim(grant, log)
    statement = await stage.market.settle(grant, log)
    report = await stage.auditor.ledger(grant.id)

    assert set() == faults(report)
    assert charge(grant.rate, Milliseconds(30_000)) == statement.charge == report.facts["charge_micros"]
    assert fee(statement.charge, BasisPoints(150)) == report.facts["requester_fee_micros"]


FALSE_STATEMENTS = {
    "a micro more": ({"charge": 1}, "amounts"),
    "a micro of fee more": ({"requester_fee": 1}, "amounts"),
    "a micro of the provider's fee more": ({"provider_fee": 1}, "amounts"),
    "a millisecond more": ({"billable_ms": 1}, "amounts"),
    "another rate": ({"rate": 1}, "names"),
}


@pytest.mark.parametrize(("more", "found"), FALSE_STATEMENTS.values(), ids=FALSE_STATEMENTS.keys())
async def test_a_settlement_that_is_off_by_one_is_found(stage, more, found):
    _, grant, log = await lease_of(stage)
    [(name, one)] = more.items()
    await stage.market.settle(grant, log, falsify=lambda told: evolve(told, **{name: getattr(told, name) + one}))

    assert found in faults(await stage.auditor.ledger(grant.id))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"log_hash": Fingerprint(bytes([1]) * 32)}, "log"),
        ({"provider_id": ProviderId(bytes(32))}, "names"),
        ({"currency": "USD"}, "names"),
        ({"reason": Reason.LOG_DISPUTED}, "amounts"),
    ],
)
async def test_a_settlement_of_something_else_is_found(stage, changes, found):
    _, grant, log = await lease_of(stage)
    await stage.market.settle(grant, log, falsify=lambda told: evolve(told, **changes))

    assert found in faults(await stage.auditor.ledger(grant.id))


async def test_a_claim_of_more_than_is_owed_is_found(stage):
    bridge, grant, log = await lease_of(stage)
    await bridge.claim(grant, log, amount=charge(grant.rate, log.value.billable_ms) + 1)
    await stage.market.settle(grant, log)

    assert {"claim"} == faults(await stage.auditor.ledger(grant.id))


async def test_a_refused_grant_owes_nothing(stage):
    _, grant, log = await lease_of(stage, ran_ms=0)
    statement = await stage.market.settle(grant, log)

    assert (Outcome.REFUSED, Reason.NOTHING_DUE) == (log.value.outcome, statement.reason)
    assert (await stage.auditor.ledger(grant.id)).holds


async def test_a_grant_without_a_log_owes_nothing(stage):
    await stage.bridge()
    _, grant = await stage.ask_and_clear()
    await stage.market.settle(grant.value, None)

    assert (await stage.auditor.ledger(grant.value.id)).holds


async def test_a_grant_without_a_log_that_is_charged_all_the_same_is_found(stage):
    await stage.bridge()
    _, grant = await stage.ask_and_clear()
    await stage.market.settle(grant.value, None, falsify=lambda told: evolve(told, charge=Micros(1)))

    assert {"amounts"} == faults(await stage.auditor.ledger(grant.value.id))


async def test_a_log_is_never_billed_beyond_what_ran_and_what_was_granted(stage):
    _, grant, log = await lease_of(stage, ran_ms=60_000)
    longer = evolve(log.value, billable_ms=Milliseconds(90_000))
    due = due_for(longer, grant.rate, Milliseconds(80_000), requester=BasisPoints(0), provider=BasisPoints(0))

    assert 60_000 == due.billable_ms


# --- receipts and reports -----------------------------------------------------------------------------


async def test_a_receipt_is_checked_again_with_the_winner_behind_it(stage):
    bridge = await stage.bridge()
    handle, access = await stage.has(bridge)
    kept = await stage.requester._load(handle)

    assert (await stage.auditor.receipt(kept, access)).holds


async def test_a_receipt_that_no_longer_fits_its_winner_is_found(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear()
    access = await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now))
    kept = await stage.requester._load(handle)
    moved = evolve(access.receipt.value, host="-oProxyCommand=sh")
    forged = evolve(access, receipt=sign(moved, bridge.signing, domain=stage.market.domain))

    assert {"receipt"} == faults(await stage.auditor.receipt(kept, forged))


async def test_a_winner_that_another_verifier_would_refuse_is_found(stage):
    bridge = await stage.bridge()
    handle, access = await stage.has(bridge)
    kept = await stage.requester._load(handle)
    stage.policy = evolve(stage.policy, allow_development=False)

    assert {"winner"} == faults(await stage.auditor.receipt(kept, access))


async def test_a_report_that_does_not_hold_raises_with_every_fault():
    findings = Findings("thing")
    with findings.check("one"):
        raise AuditError("first")
    with findings.check("two"):
        pass
    with findings.check("three"):
        raise AuditError("third")

    with pytest.raises(AuditError, match="thing: one: first; three: third"):
        findings.report.require()
