"""The books: double entry, exact, and each thing once."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.ids import Fingerprint, GrantId, ProviderId, PublicKey, UniqueId
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.units import charge, fee
from compute_bridge.ports.errors import SettlementError
from compute_bridge_market import book, ledger
from compute_bridge_market.charges import reservation

GRANT, OTHER = GrantId(bytes([1] * 32)), GrantId(bytes([2] * 32))
ALICE, PROVIDER = PublicKey(bytes([3] * 32)), ProviderId(bytes([4] * 32))
NOTHING = UniqueId(bytes(32))


@pytest.fixture
def db():
    with closing(new_book()) as connection:
        yield connection


def new_book():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    book._create(connection, NOTHING)
    return connection


def statement(amount=1000, requester=10, provider=20, *, grant=GRANT, sequence=0):
    key = SettlementKey(grant, EntryKind.CHARGE, sequence)
    reason = Reason.CHARGED if amount else Reason.NOTHING_DUE
    given_ = {"rate": 1000, "billable_ms": 1, "charge": amount, "requester_fee": requester, "provider_fee": provider}
    return SettlementStatement(key, PROVIDER, Fingerprint(NOTHING), reason, currency="USD", **given_)


def test_an_entry_that_does_not_sum_to_zero_is_not_booked(db):
    with pytest.raises(SettlementError, match="does not sum to zero"):
        ledger.post(db, GRANT, "charge", 0, (ledger.Posting("a", 1), ledger.Posting("b", 1)))

    assert ledger.trial_balance(db).entries == 0


def test_a_reservation_is_counted_once(db):
    booked = [ledger.reserve(db, GRANT, 0, ALICE, 500) for _ in range(3)]

    assert booked == [True, False, False]
    assert ledger.reserved(db, GRANT, ALICE) == 500


def test_the_same_key_with_another_amount_is_refused(db):
    ledger.reserve(db, GRANT, 0, ALICE, 500)
    with pytest.raises(SettlementError, match="booked with other amounts"):
        ledger.reserve(db, GRANT, 0, ALICE, 501)

    assert ledger.reserved(db, GRANT, ALICE) == 500


def test_credit_is_what_is_neither_owed_nor_reserved(db):
    ledger.reserve(db, GRANT, 0, ALICE, 500)
    ledger.settle(db, statement(grant=OTHER), ALICE)

    assert ledger.free_credit(db, ALICE, 10_000) == 10_000 - 500 - 1010


def test_settling_gives_back_all_that_was_reserved_for_the_grant_and_no_more(db):
    ledger.reserve(db, GRANT, 0, ALICE, 500)
    ledger.reserve(db, GRANT, 1, ALICE, 250)
    ledger.reserve(db, OTHER, 0, ALICE, 99)
    ledger.settle(db, statement(0, 0, 0), ALICE)

    assert (ledger.reserved(db, GRANT, ALICE), ledger.reserved(db, OTHER, ALICE)) == (0, 99)


def test_a_grant_is_settled_once(db):
    ledger.reserve(db, GRANT, 0, ALICE, 2000)
    ledger.settle(db, statement(), ALICE)
    before = ledger.trial_balance(db)
    ledger.settle(db, statement(), ALICE)

    assert ledger.trial_balance(db) == before


def test_a_subsidy_is_paid_by_the_market(db):
    ledger.settle(db, statement(1000, -100, -50), ALICE)

    assert dict(ledger.trial_balance(db).balances) == {
        ledger.owed_by(ALICE): 900,
        ledger.owed_to(PROVIDER): -1050,
        ledger.FEES: 150,
    }


def test_damage_to_an_entry_is_found(db):
    ledger.settle(db, statement(), ALICE)
    db.execute("UPDATE posting SET amount = amount + 1 WHERE account = 'fees'")

    with pytest.raises(SettlementError, match="does not sum to zero"):
        ledger.trial_balance(db)


def test_damage_to_a_balance_is_found(db):
    ledger.settle(db, statement(), ALICE)
    db.execute("UPDATE balance SET amount = amount + 1 WHERE account = 'fees'")

    with pytest.raises(SettlementError, match="not the sum of its postings"):
        ledger.trial_balance(db)


def test_no_float_gets_into_the_books(db):
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO balance VALUES ('x', 1.5)")


RATES = st.integers(0, 10**12)
DURATIONS = st.integers(1, 31_622_400_000)
FEES = st.integers(-5000, 5000)


@given(RATES, DURATIONS, st.data(), FEES)
def test_a_reservation_covers_every_charge_that_can_follow(rate, duration, data, share):
    billable = data.draw(st.integers(0, duration))
    amount = charge(rate, billable)

    assert 0 <= amount + fee(amount, share) <= reservation(rate, duration, share)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**15), FEES, FEES), max_size=30))
def test_the_books_always_sum_to_zero(steps):
    with closing(new_book()) as connection:
        for number, (account, amount, requester, provider) in enumerate(steps):
            grant, payer = GrantId(number.to_bytes(32, "big")), PublicKey(bytes([account]) * 32)
            ledger.reserve(connection, grant, 0, payer, amount)
            given_ = statement(amount, fee(amount, requester), fee(amount, provider), grant=grant)
            ledger.settle(connection, given_, payer)

        assert ledger.trial_balance(connection).total == 0
        assert ledger.balance(connection, ledger.HOLDS) == 0
