import pytest
from attrs import astuple, evolve

from compute_bridge.api import Offer, RatePolicy, RateQuestion
from compute_bridge.model.ids import BackendName, BandName, OfferId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import CapacityBand, NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import Milliseconds, Nanos, NanosPerHour, UtcMs
from compute_bridge.testing.policies import RatePolicyConformance
from compute_bridge_rates.cost_plus import CostPlus, CostPlusConfig
from compute_bridge_rates.fixed import Fixed, FixedConfig, FixedRow
from compute_bridge_rates.hooks import COMPUTE_BRIDGE_API, register_rate_policies

SMALL = CapacityBand(BandName("small"), Resources(1000, 1024), Resources(4000, 8192), 4)
LARGE = CapacityBand(BandName("large"), Resources(8000, 1024), Resources(16_000, 65_536), 4)
OFFER = Offer(
    id=OfferId("a"),
    backend=BackendName("rack"),
    region=Region("eu"),
    zone=Zone("a"),
    shape="shape",
    resources=Resources(4000, 8192),
    posture=Posture.NONE,
    networks=(NetworkPolicy.ISOLATED,),
    cost=CostBasis("EUR", UnitNanos(vcpu=NanosPerHour(1000)), UtcMs(1), "test"),
)


def fixed_row(region="eu", band="small", vcpu_nanos=1000):
    return FixedRow(
        region=Region(region), posture=Posture.NONE, band=BandName(band), vcpu_nanos=NanosPerHour(vcpu_nanos)
    )


def costing(name, **units):
    nanos = {unit: NanosPerHour(value) for unit, value in units.items() if unit != "egress_gib"}
    cost = UnitNanos(**nanos, egress_gib=Nanos(units.get("egress_gib", 0)))
    return evolve(OFFER, id=OfferId(name), cost=evolve(OFFER.cost, units=cost))


def cost_plus(*offers, margin_bps=2000, bands=(SMALL,)):
    return CostPlus(CostPlusConfig(margin_bps=margin_bps)).rates(RateQuestion("EUR", offers, bands))


class TestFixed(RatePolicyConformance):
    @pytest.fixture
    def policy(self) -> RatePolicy:
        return Fixed(FixedConfig(rows=(fixed_row("us-west"), fixed_row("eu-north"))))


class TestCostPlus(RatePolicyConformance):
    @pytest.fixture
    def policy(self) -> RatePolicy:
        return CostPlus(CostPlusConfig(margin_bps=2000))


def test_both_policies_are_registered():
    assert (1, ["fixed", "cost-plus"]) == (COMPUTE_BRIDGE_API, [kind.kind for kind in register_rate_policies()])


def test_fixed_asks_what_the_file_says_in_the_order_of_a_table():
    table = Fixed(FixedConfig(rows=(fixed_row("us"), fixed_row("eu")))).rates(RateQuestion("EUR", (), ()))

    assert ["eu", "us"] == [row.region for row in table.rows]


def test_fixed_reads_every_unit():
    row = FixedRow(
        region=Region("eu"),
        posture=Posture.TDX,
        band=BandName("small"),
        machine_nanos=NanosPerHour(1),
        vcpu_nanos=NanosPerHour(2),
        ram_gib_nanos=NanosPerHour(3),
        disk_gib_nanos=NanosPerHour(4),
        gpu_nanos=NanosPerHour(5),
        egress_gib_nanos=Nanos(6),
    )

    assert (1, 2, 3, 4, 5, 6) == astuple(row.row.units)


def test_two_fixed_rows_for_one_place_are_refused():
    with pytest.raises(ValueError, match="two rows for eu/none/small; drop one"):
        FixedConfig(rows=(fixed_row(), fixed_row()))


@pytest.mark.parametrize("rows", [(), [fixed_row()]], ids=["none", "list"])
def test_fixed_without_rows_is_refused(rows):
    with pytest.raises(ValueError, match="rows must be a list of 1 to 1024"):
        FixedConfig(rows=rows)


@pytest.mark.parametrize("margin", [-1, 1_000_001, 20.0, True], ids=repr)
def test_a_margin_that_is_no_share_is_refused(margin):
    with pytest.raises(ValueError, match="margin_bps"):
        CostPlusConfig(margin_bps=margin)


def test_cost_plus_raises_the_cost_by_the_margin_and_rounds_up():
    (row,) = cost_plus(costing("a", vcpu=1001, ram_gib=10)).rows

    assert UnitNanos(vcpu=NanosPerHour(1202), ram_gib=NanosPerHour(12)) == row.units


def test_cost_plus_takes_the_highest_cost_of_each_unit():
    (row,) = cost_plus(costing("a", vcpu=5, gpu=1), costing("b", machine=7, vcpu=3), margin_bps=0).rows

    assert UnitNanos(machine=NanosPerHour(7), vcpu=NanosPerHour(5), gpu=NanosPerHour(1)) == row.units


def test_cost_plus_asks_for_a_band_only_where_an_offer_reaches_it():
    us = evolve(costing("b", vcpu=1), region=Region("us"), resources=Resources(32_000, 65_536))
    keys = [row.key for row in cost_plus(OFFER, us, bands=(SMALL, LARGE)).rows]

    assert [("eu", "none", "small"), ("us", "none", "large"), ("us", "none", "small")] == keys


def test_cost_plus_leaves_out_offers_that_end_too_soon():
    long = evolve(SMALL, min_duration_ms=Milliseconds(2000))

    assert () == cost_plus(evolve(OFFER, max_duration_ms=Milliseconds(1999)), bands=(long,)).rows


def test_cost_plus_leaves_out_other_currencies():
    assert () == cost_plus(evolve(OFFER, cost=evolve(OFFER.cost, currency="USD"))).rows


def test_cost_plus_asks_no_more_than_a_rate_can_say():
    (row,) = cost_plus(costing("a", machine=10**15)).rows

    assert 10**15 == row.units.machine
