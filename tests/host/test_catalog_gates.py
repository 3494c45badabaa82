"""The gates of a fetched catalog: which rows are left out, which catalogs are refused whole, and what is none."""

import pytest
from attrs import evolve, frozen

from compute_bridge.host.catalog_gates import audit, check_catalog, judge
from compute_bridge.host.costs import AHEAD_MS, CostLimits
from compute_bridge.host.plugin_call import BackendFaultError, PluginResultError
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Region, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs

NAME = BackendName("frankfurt")
NOW = 1_790_000_000_000
FAIR = 50_000_000


def row(shape="a", *, machine=2 * FAIR, zone="z", spot=False, currency="USD", age_ms=0, cpu_millis=2000, **units):
    nanos = UnitNanos(machine=NanosPerHour(machine), **units)
    cost = CostBasis(currency, nanos, UtcMs(NOW - age_ms), "test")
    return CatalogRow(Region("eu"), Zone(zone), shape, Resources(cpu_millis, 8192, 100), cost, spot=spot)


def catalog(*rows, observed_at=NOW):
    return Catalog(NAME, "aws", UtcMs(observed_at), tuple(sorted(rows, key=lambda one: one.key)))


def judged(*rows, last=None, **more):
    return judge(catalog(*rows), last, currency="USD", now_ms=NOW, **more)


def kept(*rows):
    found = judged(*rows).catalog
    return [(one.zone, one.shape, one.spot) for one in found.rows] if found else []


def reasons(*rows):
    return [(one.where, one.reason) for one in judged(*rows).findings]


# --- rows -----------------------------------------------------------------------------------------


def test_a_good_row_is_kept_as_it_is():
    assert (catalog(row()), ()) == (judged(row()).catalog, judged(row()).findings)


def test_a_bad_row_is_left_out_and_the_others_stay():
    assert [("z", "b", False)] == kept(row("a", machine=0), row("b"))


def test_a_price_of_nothing_is_left_out():
    assert [("z/a", Reason.COST_ZERO)] == reasons(row(machine=0, disk_gib=NanosPerHour(7)), row("b"))


def test_a_row_in_another_currency_is_left_out():
    assert [("z/a", Reason.CATALOG_CURRENCY)] == reasons(row(currency="EUR"), row("b"))


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (2 * 10**5, None),
        (2 * 10**5 - 1, Reason.CATALOG_UNIT),
        (2 * 10**12, None),
        (2 * 10**12 + 2, Reason.CATALOG_UNIT),
    ],
)
def test_a_price_beyond_belief_for_a_vcpu_is_left_out(machine, reason):
    found = reasons(row(machine=machine), row("b"))

    assert ([("z/a", reason)] if reason else []) == found


def test_a_price_told_by_parts_is_one_of_the_whole_machine():
    by_parts = row(machine=0, vcpu=NanosPerHour(FAIR), ram_gib=NanosPerHour(1))

    assert [] == reasons(by_parts)


@pytest.mark.parametrize(("nanos", "reason"), [(2 * FAIR, None), (2 * FAIR + 1, Reason.CATALOG_SPOT)])
def test_spot_costs_no_more_than_on_demand(nanos, reason):
    found = reasons(row(), row(machine=nanos, spot=True))

    assert ([("z/a/spot", reason)] if reason else []) == found


def test_spot_is_held_against_the_same_zone_and_shape():
    dear = row(machine=3 * FAIR, spot=True)

    assert [] == reasons(row("b"), row(zone="y"), dear)


def test_spot_of_a_zone_is_held_against_on_demand_of_its_region_where_no_zone_tells_one():
    assert [("z/a/spot", Reason.CATALOG_SPOT)] == reasons(row(zone=""), row(machine=3 * FAIR, spot=True))


def test_spot_is_not_held_against_a_price_that_is_not_believed():
    assert [("z/a", Reason.CATALOG_UNIT)] == reasons(row(machine=1), row(machine=3 * FAIR, spot=True))


# --- the whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "is_refused"), [(2, False), (1, True)])
def test_a_catalog_that_lost_more_than_half_is_refused(left, is_refused):
    rows = [row("a"), row("b"), row("c"), row("d")]
    found = judged(*rows[:left], last=catalog(*rows))

    assert is_refused == (found.catalog is None)
    assert ([Reason.CATALOG_SHRUNK] if is_refused else []) == [one.reason for one in found.findings]


def test_rows_that_are_left_out_count_as_lost():
    rows = [row("a"), row("b"), row("c")]

    assert judged(row("a"), row("b", machine=1), row("c", machine=1), last=catalog(*rows)).catalog is None


def test_the_operator_may_let_it_shrink():
    rows = [row("a"), row("b"), row("c")]

    assert catalog(row("a")) == judged(row("a"), last=catalog(*rows), may_shrink=True).catalog


def test_a_catalog_without_a_believable_row_is_refused_and_says_why():
    found = judged(row(machine=1), may_shrink=True)

    assert found.catalog is None
    assert [Reason.CATALOG_SHRUNK, Reason.CATALOG_UNIT] == [one.reason for one in found.findings]


@pytest.mark.parametrize(("ahead_ms", "is_refused"), [(AHEAD_MS, False), (AHEAD_MS + 1, True)])
def test_a_catalog_of_the_future_is_refused(ahead_ms, is_refused):
    found = judge(catalog(row(), observed_at=NOW + ahead_ms), None, currency="USD", now_ms=NOW)

    assert is_refused == (found.catalog is None)


# --- the audit of a stored one --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_ms", "found"),
    [
        (9_999, []),
        (10_000, [Reason.COST_STALE]),
        (-AHEAD_MS, []),
        (-AHEAD_MS - 1, [Reason.COST_FUTURE]),
    ],
)
def test_an_audit_judges_the_age_of_each_cost(age_ms, found):
    limits = CostLimits(max_age_ms=10_000)

    assert found == [
        one.reason for one in audit(catalog(row(age_ms=age_ms)), currency="USD", limits=limits, now_ms=NOW)
    ]


def test_an_audit_tells_one_thing_of_a_row():
    stored = catalog(row(machine=1, age_ms=10**9), row("b"))
    found = audit(stored, currency="USD", limits=CostLimits(), now_ms=NOW)

    assert [Reason.CATALOG_UNIT] == [one.reason for one in found]


# --- what a plugin returns ------------------------------------------------------------------------


@frozen
class OtherCatalog(Catalog):
    """A class of the plugin's own."""


def bent(value, **fields):
    """Return a frozen value that a plugin has changed behind its validators."""
    value = evolve(value)
    for name, held in fields.items():
        object.__setattr__(value, name, held)
    return value


HOSTILE = {
    "nothing": None,
    "rows alone": (row(),),
    "a coroutine's name": "fetch",
    "a class of its own": OtherCatalog(NAME, "aws", UtcMs(NOW), (row(),)),
    "another backend's": evolve(catalog(row()), backend=BackendName("dublin")),
    "another kind's": evolve(catalog(row()), kind="gcp"),
    "rows in a list": bent(catalog(row()), rows=[row()]),
    "endless rows": bent(catalog(row()), rows=iter(int, 1)),
    "rows that are none": bent(catalog(row()), rows=("row",)),
    "rows out of order": bent(catalog(row()), rows=(row("b"), row("a"))),
    "a row twice": bent(catalog(row()), rows=(row(), row())),
    "a price below nothing": catalog(bent(row(), cost=bent(row().cost, units=bent(UnitNanos(), machine=-1)))),
    "a price with a point": catalog(bent(row(), cost=bent(row().cost, units=bent(UnitNanos(), machine=1.5)))),
    "a time as text": bent(catalog(row()), observed_at="now"),
    "a posture that is none": catalog(bent(row(), posture="tdx!")),
    "a claim that is no bool": catalog(bent(row(), spot=2)),
    "a shape that clears the screen": catalog(bent(row(), shape="\x1b[2J")),
    "resources that are none": catalog(bent(row(), resources=None)),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=list(HOSTILE))
def test_what_is_no_catalog_of_ours_is_a_plugin_s_wrong_result(answer):
    with pytest.raises((PluginResultError, BackendFaultError)) as caught:
        check_catalog(NAME, "aws", answer)

    assert str(caught.value).startswith("backend frankfurt: ")
    assert "report it to the plugin's author" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_catalog_is_taken_as_values_that_the_plugin_does_not_hold():
    answer = catalog(row())
    taken = check_catalog(NAME, "aws", answer)
    object.__setattr__(answer.rows[0].cost.units, "machine", 0)

    assert 2 * FAIR == taken.rows[0].cost.units.machine
