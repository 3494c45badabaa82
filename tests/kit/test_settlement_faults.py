"""The suite of settlements catches every fault planted here, and each of its tests catches one."""

import inspect
import json
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import evolve, frozen

from compute_bridge.api import Settlement, SettlementKind, SettlementResult, SettlementState
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import EntryKind
from compute_bridge.ports.errors import SettlementError
from compute_bridge.testing.policies import SettlementConformance
from compute_bridge.testing.strategies.settlement import Books
from compute_bridge.wire.codec import encode

CLAIMED = SettlementResult(SettlementState.CLAIMED, Reason.CHARGED)
AGREED = SettlementResult(SettlementState.AGREED, Reason.CHARGED)
DIFFERS = SettlementResult(SettlementState.DIFFERS, Reason.CLAIM_MISMATCH)


@frozen
class NoConfig:
    """No keys."""


def key_of(entry):
    return encode(entry.key).hex()


class Honest(Settlement):
    """A book in one JSON file, written before anything is said."""

    def __init__(self, context):
        self.context = context
        self.file = context.state_dir / "book.json"
        self.book = json.loads(self.file.read_text()) if self.file.exists() else {"claims": {}, "sent": [], "owed": {}}

    def save(self):
        self.file.write_text(json.dumps(self.book))

    async def settle(self, claim):
        self.enter(claim)
        await self.send(claim)
        return CLAIMED

    def enter(self, claim):
        said = [claim.amount, claim.rate, claim.billable_ms, claim.currency]
        if self.book["claims"].setdefault(key_of(claim), said) != said:
            raise SettlementError("this key has another claim")
        self.save()

    async def send(self, claim):
        if key_of(claim) not in self.book["sent"]:
            await self.context.publish(claim)
            self.book["sent"].append(key_of(claim))
            self.save()

    async def reconcile(self, statement):
        if key_of(statement) not in self.book["claims"]:
            raise SettlementError("there is no such claim")
        if not self.agrees(statement):
            return DIFFERS
        self.add(statement)
        self.save()
        return AGREED

    def agrees(self, statement):
        said = [statement.charge, statement.rate, statement.billable_ms, statement.currency]
        return self.book["claims"][key_of(statement)] == said

    def add(self, statement):
        self.book["owed"][key_of(statement)] = statement.charge - statement.provider_fee

    async def balance(self):
        return sum(self.book["owed"].values())


class SaysSomethingElse(Honest):
    async def settle(self, claim):
        known = key_of(claim) in self.book["claims"]
        await super().settle(claim)
        return AGREED if known else CLAIMED


class NumbersItsClaims(Honest):
    number = 0

    async def settle(self, claim):
        known = bool(self.book["claims"])
        await checkpoint()
        if not known:
            self.number += 1
            await super().settle(evolve(claim, key=evolve(claim.key, sequence=self.number - 1)))
        return CLAIMED


class KnowsOnlyTheGrant(Honest):
    async def settle(self, claim):
        return await super().settle(evolve(claim, key=evolve(claim.key, sequence=0, kind=EntryKind.CHARGE)))


class BelievesTheLatest(Honest):
    def enter(self, claim):
        self.book["claims"][key_of(claim)] = [claim.amount, claim.rate, claim.billable_ms, claim.currency]
        self.save()


class ForgetsWithTheProcess(Honest):
    def save(self):
        pass


class CallsItSentBeforehand(Honest):
    async def send(self, claim):
        if key_of(claim) not in self.book["sent"]:
            self.book["sent"].append(key_of(claim))
            self.save()
            await self.context.publish(claim)


class AddsEachTime(Honest):
    def add(self, statement):
        self.book["owed"][str(len(self.book["owed"]))] = statement.charge - statement.provider_fee


class ForgetsTheFee(Honest):
    def add(self, statement):
        self.book["owed"][key_of(statement)] = statement.charge


class AgreesToEverything(Honest):
    def agrees(self, statement):
        return True


class LooksAtTheChargeOnly(Honest):
    def agrees(self, statement):
        return self.book["claims"][key_of(statement)][0] == statement.charge


class TakesWhatItIsGiven(Honest):
    async def reconcile(self, statement):
        self.book["claims"].setdefault(
            key_of(statement), [statement.charge, statement.rate, statement.billable_ms, statement.currency]
        )
        return await super().reconcile(statement)


FAULTS = [
    (SaysSomethingElse, "test_a_claim_counts_once"),
    (NumbersItsClaims, "test_claims_at_once_count_once"),
    (KnowsOnlyTheGrant, "test_keys_are_told_apart"),
    (BelievesTheLatest, "test_a_key_has_one_amount"),
    (ForgetsWithTheProcess, "test_claims_outlive_the_process"),
    (CallsItSentBeforehand, "test_a_claim_that_was_not_carried_is_carried_later"),
    (AddsEachTime, "test_a_statement_is_booked_once"),
    (ForgetsTheFee, "test_a_statement_is_booked_once"),
    (AgreesToEverything, "test_a_statement_that_differs_is_told"),
    (LooksAtTheChargeOnly, "test_a_statement_that_differs_is_told"),
    (TakesWhatItIsGiven, "test_a_statement_without_a_claim_is_refused"),
]
SUITE = SettlementConformance
TESTS = sorted(name for name in dir(SUITE) if name.startswith("test_"))


def run(cls, test, folder):
    @asynccontextmanager
    async def open_(context, _config):
        yield cls(context)

    books = Books(SettlementKind("fault", NoConfig, open_), NoConfig(), folder)
    function = getattr(SUITE(), test)
    differing = ["currency"] if "what" in inspect.signature(function).parameters else []
    anyio.run(function, books, *differing)


@pytest.mark.parametrize(
    ("fault", "test"), [pytest.param(*pair, id=f"{pair[0].__name__}-{pair[1]}") for pair in FAULTS]
)
def test_a_fault_is_caught(fault, test, tmp_path):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(fault, test, tmp_path)


@pytest.mark.parametrize("test", TESTS)
def test_an_honest_settlement_passes(test, tmp_path):
    run(Honest, test, tmp_path)


def test_every_test_catches_a_fault():
    assert set(TESTS) == {test for _, test in FAULTS}
