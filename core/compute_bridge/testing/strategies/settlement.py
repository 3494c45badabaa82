"""What every settlement promises."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from compute_bridge.model.ids import Fingerprint, GrantId, ProviderId
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.units import HOUR_MS, Micros, MicrosPerHour, Milliseconds
from compute_bridge.ports.errors import NetworkError, SettlementError
from compute_bridge.ports.strategy import Settlement, SettlementContext, SettlementKind, SettlementState
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.strategies.values import CURRENCY, digest_of

_FEE = 5


class Market:
    """What the settlement's claims reach: those published, each once however often it comes."""

    def __init__(self) -> None:
        self.claims: dict[SettlementKey, Claim] = {}
        self.is_silent = False

    async def publish(self, claim: Claim) -> None:
        """Take a claim; refuse one that says something else than the one before it."""
        if self.is_silent:
            raise NetworkError("the network does not carry the claim; try again")
        known = self.claims.setdefault(claim.key, claim)
        assert known == claim, "two claims with one key were published"


class Books:
    """A settlement's folder, and as many openings of it as a test wants, one after the other."""

    def __init__(self, kind: SettlementKind, config: Any, folder: Path) -> None:
        self._kind = kind
        self._config = config
        self._folder = folder
        self.market = Market()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Settlement]:
        """Open the settlement as the host does at boot."""
        context = SettlementContext(self._folder, HurriedClock(), self.market.publish, _no_secret)
        async with self._kind.open(context, self._config) as settlement:
            yield settlement


def _no_secret(reference: str) -> bytes:
    raise LookupError(f"no secret {reference!r}; override the fixture 'books' to give one")


class SettlementConformance:
    """Every promise of :class:`~compute_bridge.ports.strategy.Settlement`: idempotent by the claim's key, durable.

    A subclass gives the fixtures ``kind``, the plugin's ``SettlementKind``, and ``config``, a table for it.
    """

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, as the bridge does."""
        return "asyncio"

    @pytest.fixture
    def kind(self) -> SettlementKind:
        """Return the kind under test; the subclass says which."""
        pytest.fail(f"{type(self).__name__} has no fixture 'kind': add one", pytrace=False)

    @pytest.fixture
    def config(self, kind: SettlementKind) -> Any:
        """Return a table for the kind: by default the one without keys."""
        return kind.config()

    @pytest.fixture
    def books(self, kind: SettlementKind, config: Any, tmp_path: Path) -> Books:
        """Return empty books."""
        return Books(kind, config, tmp_path)

    async def test_a_claim_counts_once(self, books: Books) -> None:
        """The same claim again says the same and changes nothing.

        Troubleshooting: look the key up first: (grant, kind, sequence), all three.
        """
        async with books.open() as settlement:
            first = await settlement.settle(_claim())
            again = await settlement.settle(_claim())

        assert first.state is SettlementState.CLAIMED, f"a new claim is {first.state}"
        assert again == first, "the same claim says something else the second time"
        assert books.market.claims == {_claim().key: _claim()}

    async def test_claims_at_once_count_once(self, books: Books) -> None:
        """The same claim from several tasks at the same moment is one claim.

        Troubleshooting: let the books refuse the second, by a unique key in one transaction.
        """
        async with books.open() as settlement, anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(settlement.settle, _claim())

        assert books.market.claims == {_claim().key: _claim()}

    async def test_keys_are_told_apart(self, books: Books) -> None:
        """Claims whose keys differ in grant, kind or sequence are different claims.

        Troubleshooting: all three are the key.
        """
        key = _claim().key
        keys = [
            key,
            evolve(key, sequence=1),
            evolve(key, kind=EntryKind.REFUND),
            evolve(key, grant_id=GrantId(digest_of("another grant"))),
        ]
        async with books.open() as settlement:
            for one in keys:
                await settlement.settle(evolve(_claim(), key=one))

        assert set(books.market.claims) == set(keys), "claims with different keys were taken for one"

    async def test_a_key_has_one_amount(self, books: Books) -> None:
        """A known key with another amount is an error, and the first claim stands.

        Troubleshooting: compare the whole claim with the one in the books before you say that it is known.
        """
        async with books.open() as settlement:
            await settlement.settle(_claim())
            with pytest.raises(SettlementError):
                await settlement.settle(evolve(_claim(), amount=Micros(_claim().amount + 1)))

        assert books.market.claims == {_claim().key: _claim()}

    async def test_claims_outlive_the_process(self, books: Books) -> None:
        """A claim is still known when the settlement is opened again.

        Troubleshooting: commit before you return, in the folder that the context gives.
        """
        async with books.open() as settlement:
            first = await settlement.settle(_claim())
        async with books.open() as settlement:
            with pytest.raises(SettlementError):
                await settlement.settle(evolve(_claim(), amount=Micros(_claim().amount + 1)))
            assert await settlement.settle(_claim()) == first, "a claim says something else after a restart"

    async def test_a_claim_that_was_not_carried_is_carried_later(self, books: Books) -> None:
        """Where the network fails, ``settle`` may fail; the same claim again, after a restart too, is published.

        Troubleshooting: a claim in the books is not yet a claim in the market; note which have been published.
        """
        books.market.is_silent = True
        async with books.open() as settlement:
            with pytest.raises(NetworkError):
                await settlement.settle(_claim())
        books.market.is_silent = False
        async with books.open() as settlement:
            await settlement.settle(_claim())

        assert books.market.claims == {_claim().key: _claim()}, "a claim that was not carried is lost"

    async def test_a_statement_is_booked_once(self, books: Books) -> None:
        """A statement that agrees with the claim adds what it owes us, once, in this process and after the next start.

        Troubleshooting: the provider is owed the charge less its fee; key the booking as the claim is keyed.
        """
        async with books.open() as settlement:
            await settlement.settle(_claim())
            assert await settlement.balance() == 0, "a claim is owed before the market has agreed"
            first = await settlement.reconcile(_statement())
            again = await settlement.reconcile(_statement())
            balance = await settlement.balance()
        async with books.open() as settlement:
            await settlement.reconcile(_statement())
            later = await settlement.balance()

        assert first.state is SettlementState.AGREED, f"a statement that agrees is {first.state}"
        assert again == first, "the same statement says something else the second time"
        assert balance == _claim().amount - _FEE, f"owed {_claim().amount} less {_FEE}, booked {balance}"
        assert later == balance, f"after the next start {later} is owed, and not {balance}"

    @pytest.mark.parametrize("what", ["charge", "rate", "billable_ms", "currency"])
    async def test_a_statement_that_differs_is_told(self, books: Books, what: str) -> None:
        """A statement that says something else than the claim differs, and adds nothing to the balance.

        Troubleshooting: compare charge, rate, time and currency; the operator decides what to do about it.
        """
        async with books.open() as settlement:
            await settlement.settle(_claim())
            result = await settlement.reconcile(_other_statements()[what])
            balance = await settlement.balance()

        assert result.state is SettlementState.DIFFERS, f"a statement with another {what} is {result.state}"
        assert balance == 0, "what the market and we disagree on was added to the balance"

    async def test_a_statement_without_a_claim_is_refused(self, books: Books) -> None:
        """A statement about what was never claimed is an error, and adds nothing.

        Troubleshooting: a market's mistake must not become an income.
        """
        async with books.open() as settlement:
            with pytest.raises(SettlementError):
                await settlement.reconcile(_statement())
            assert await settlement.balance() == 0, "a statement without a claim was added to the balance"


def _claim() -> Claim:
    return Claim(
        key=SettlementKey(GrantId(digest_of("grant")), EntryKind.CHARGE, 0),
        provider_id=ProviderId(digest_of("provider")),
        log_hash=Fingerprint(digest_of("log")),
        rate=MicrosPerHour(1000),
        billable_ms=Milliseconds(HOUR_MS // 2),
        amount=Micros(500),
        currency=CURRENCY,
    )


def _statement() -> SettlementStatement:
    claim = _claim()
    return SettlementStatement(
        key=claim.key,
        provider_id=claim.provider_id,
        log_hash=claim.log_hash,
        reason=Reason.CHARGED,
        rate=claim.rate,
        billable_ms=claim.billable_ms,
        charge=claim.amount,
        requester_fee=Micros(10),
        provider_fee=Micros(_FEE),
        currency=claim.currency,
    )


def _other_statements() -> dict[str, SettlementStatement]:
    return {
        "charge": evolve(_statement(), charge=Micros(1)),
        "rate": evolve(_statement(), rate=MicrosPerHour(1)),
        "billable_ms": evolve(_statement(), billable_ms=Milliseconds(1)),
        "currency": evolve(_statement(), currency="USD"),
    }
