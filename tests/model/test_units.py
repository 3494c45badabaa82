"""Money: whole numbers, and roundings whose bounds hold for every input."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.units import (
    HOUR_MS,
    BasisPoints,
    Micros,
    MicrosPerHour,
    Milliseconds,
    charge,
    fee,
    rate_up,
)

RATES = st.integers(0, 10**15).map(MicrosPerHour)
TIMES = st.integers(0, 10**11).map(Milliseconds)
AMOUNTS = st.integers(0, 10**18).map(Micros)
SHARES = st.integers(-10_000, 10_000).map(BasisPoints)


@given(RATES, TIMES)
def test_a_charge_is_within_one_micro_above_the_exact_price(rate, billable):
    exact = Fraction(rate * billable, HOUR_MS)

    assert 0 <= charge(rate, billable) - exact < 1


@given(RATES, st.lists(TIMES, min_size=1, max_size=12))
def test_splitting_a_lease_in_n_adds_less_than_n_micros_and_saves_none(rate, parts):
    whole = charge(rate, Milliseconds(sum(parts)))
    split = sum(charge(rate, part) for part in parts)

    assert 0 <= split - whole < len(parts)


@given(RATES.filter(bool), TIMES.filter(bool))
def test_time_used_is_never_free(rate, billable):
    assert charge(rate, billable) >= 1


@given(RATES, TIMES, TIMES)
def test_longer_is_never_cheaper(rate, one, other):
    shorter, longer = sorted((one, other))

    assert charge(rate, shorter) <= charge(rate, longer)


def test_an_hour_at_a_rate_costs_the_rate():
    assert 1_234_567 == charge(MicrosPerHour(1_234_567), Milliseconds(HOUR_MS))


@given(AMOUNTS, SHARES)
def test_a_fee_is_within_one_micro_of_the_exact_share_and_never_too_much(amount, share):
    exact = Fraction(amount * share, 10_000)

    assert 0 <= abs(exact) - abs(fee(amount, share)) < 1
    assert fee(amount, share) * share >= 0


@given(AMOUNTS, SHARES)
def test_a_subsidy_mirrors_the_fee(amount, share):
    assert fee(amount, share) == -fee(amount, BasisPoints(-share))


@given(AMOUNTS, SHARES)
def test_a_fee_never_exceeds_the_amount(amount, share):
    assert abs(fee(amount, share)) <= amount


@given(AMOUNTS, st.integers(0, 10_000).map(BasisPoints), st.integers(0, 10_000).map(BasisPoints))
def test_what_both_sides_pay_and_get_adds_up(amount, requester, provider):
    paid = amount + fee(amount, requester)
    owed = amount - fee(amount, provider)

    assert paid - owed == fee(amount, requester) + fee(amount, provider)
    assert 0 <= owed <= amount <= paid


@given(st.integers(0, 10**30), st.integers(1, 10**15))
def test_a_rate_is_within_one_above_its_fraction(total, per):
    assert 0 <= rate_up(total, per) - Fraction(total, per) < 1


@pytest.mark.parametrize(
    "result", [charge(MicrosPerHour(3), Milliseconds(7)), fee(Micros(9), BasisPoints(3)), rate_up(7, 3)]
)
def test_no_float_ever_comes_out(result):
    assert type(result) is int
