"""Rates: one rounding at the end, and a table that has one spelling."""

from fractions import Fraction
from typing import Any

import pytest
from attrs import astuple, evolve
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.ids import BandName
from compute_bridge.model.rates import CostBasis, NegativeNanosError, RateRow, RateTable, UnitNanos
from compute_bridge.model.resources import MAX_DURATION_MS, Posture, Region, Requirements, Resources
from compute_bridge.model.units import HOUR_MS, Milliseconds, Nanos, NanosPerHour, UtcMs

_NANOS = st.integers(0, 10**12).map(NanosPerHour)
_UNITS = st.builds(UnitNanos, _NANOS, _NANOS, _NANOS, _NANOS, _NANOS, st.integers(0, 10**12).map(Nanos))
_NEEDS = st.builds(
    Requirements,
    st.builds(Resources, st.integers(1, 10**6), st.integers(1, 10**7), st.integers(0, 10**5), st.integers(0, 64)),
    st.integers(1, MAX_DURATION_MS).map(Milliseconds),
    egress_gib=st.integers(0, 10**6),
)
NAMES = ("machine", "vcpu", "ram_gib", "disk_gib", "gpu", "egress_gib")


def exact(units: UnitNanos, needs: Requirements) -> Fraction:
    """Return micros per hour as a fraction, from the definition."""
    wants = needs.resources
    nanos = (
        units.machine
        + Fraction(wants.cpu_millis, 1000) * units.vcpu
        + Fraction(wants.mem_mib, 1024) * units.ram_gib
        + wants.disk_gib * units.disk_gib
        + wants.gpus * units.gpu
        + Fraction(needs.egress_gib * units.egress_gib * HOUR_MS, needs.duration_ms)
    )
    return nanos / 1000


@given(_UNITS, _NEEDS)
def test_an_hourly_rate_is_within_one_micro_above_the_exact_sum(units, needs):
    assert 0 <= units.hourly(needs) - exact(units, needs) < 1


@given(_UNITS, _NEEDS, st.sampled_from(NAMES), st.integers(1, 10**9))
def test_a_dearer_unit_never_lowers_a_rate(units, needs, name, more):
    assert units.hourly(needs) <= evolve(units, **{name: getattr(units, name) + more}).hourly(needs)


@given(_UNITS, _NEEDS, st.sampled_from(["cpu_millis", "mem_mib", "disk_gib", "gpus"]))
def test_a_bigger_machine_is_never_cheaper(units, needs, name):
    resources = evolve(needs.resources, **{name: getattr(needs.resources, name) + 1})

    assert units.hourly(needs) <= units.hourly(evolve(needs, resources=resources))


def test_a_cost_basis_costs_what_its_units_cost():
    units = UnitNanos(vcpu=NanosPerHour(10_000_000))
    needs = Requirements(Resources(1500, 1), Milliseconds(HOUR_MS))

    assert 15_000 == CostBasis("EUR", units, UtcMs(0), "boot-file").hourly(needs)


@given(_UNITS, _NANOS, _NEEDS)
def test_an_address_is_counted_once_an_instance_whatever_its_size(units, address, needs):
    cost = CostBasis("EUR", units, UtcMs(0), "boot-file", address)

    assert 0 <= cost.hourly(needs) - (exact(units, needs) + Fraction(address, 1000)) < 1


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_cost_has_an_error_of_its_own(name):
    whole: Any = UnitNanos
    with pytest.raises(NegativeNanosError, match=f"{name} -1 is negative"):
        whole(**{name: -1})


def test_a_negative_cost_of_an_address_has_the_same_error():
    with pytest.raises(NegativeNanosError, match="address -1 is negative"):
        CostBasis("EUR", UnitNanos(), UtcMs(0), "boot-file", NanosPerHour(-1))


def test_the_parts_of_a_cost_are_all_that_it_says():
    units = UnitNanos(NanosPerHour(1), NanosPerHour(2), NanosPerHour(3), NanosPerHour(4), NanosPerHour(5), Nanos(6))
    cost = CostBasis("EUR", units, UtcMs(0), "boot-file", NanosPerHour(7))

    assert (*astuple(units), 7) == cost.parts


def test_machine_and_address_together_stay_within_what_can_be_said():
    with pytest.raises(ValueError, match="machine and address together"):
        CostBasis("EUR", UnitNanos(machine=NanosPerHour(10**15)), UtcMs(0), "boot-file", NanosPerHour(1))


def row(region: str, posture: Posture, band: str) -> RateRow:
    return RateRow(Region(region), posture, BandName(band), UnitNanos())


ROWS = (
    row("a", Posture.NONE, "x"),
    row("a", Posture.NONE, "y"),
    row("a", Posture.TDX, "x"),
    row("b", Posture.NONE, "x"),
)


def test_a_table_is_looked_up_by_region_posture_and_band():
    table = RateTable("EUR", ROWS)

    assert ROWS[2] == table.find(Region("a"), Posture.TDX, BandName("x"))
    assert table.find(Region("b"), Posture.TDX, BandName("x")) is None


@pytest.mark.parametrize("rows", [ROWS[::-1], (*ROWS, ROWS[-1]), (ROWS[1], ROWS[0])])
def test_a_table_has_one_order_and_one_row_a_key(rows):
    with pytest.raises(ValueError, match="ascending"):
        RateTable("EUR", rows)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, 10**15 + 1, 1.0, True, "1", None])
def test_a_unit_rate_is_a_whole_number_of_nanos(name, value):
    with pytest.raises(ValueError, match=name):
        UnitNanos(**{name: value})
