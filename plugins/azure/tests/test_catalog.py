"""Shapes and prices, through the real SDK and the price API on loopback."""

import json
from decimal import Decimal

import pytest
from attrs import evolve

from compute_bridge.model.resources import NetworkPolicy, Posture
from compute_bridge.ports.errors import CredentialsError, UnavailableError, UnservableError
from compute_bridge_azure.catalog import SOURCE, read_prices
from compute_bridge_azure.testing.answers import No
from compute_bridge_azure.testing.market import SIZES, price_items
from compute_bridge_azure.testing.world import LOCATIONS

pytestmark = pytest.mark.anyio


async def fetch(world):
    async with world.open_backend() as backend:
        return await backend.fetch_catalog()


def of(catalog, shape, region="westeurope"):
    return [row for row in catalog.rows if (row.shape, row.region) == (shape, region)]


async def test_a_row_tells_what_the_cloud_says(bare):
    bare.sell("*", spot=True)
    row = of(await fetch(bare), "Standard_E4-2s_v5")[0]

    assert (row.zone, row.architecture, row.posture) == ("westeurope-1", "x86_64", Posture.NONE)
    assert (row.resources.cpu_millis, row.resources.mem_mib) == (2000, 32 * 1024)
    assert row.cost.units.machine == 304_000_000
    assert (row.cost.source, row.cost.currency) == (SOURCE, "USD")
    assert abs(row.cost.observed_at - bare.clock.utc_ms()) < 3_600_000


async def test_an_address_and_the_images_disk_are_counted(bare):
    row = of(await fetch(bare), "Standard_D2s_v5")[0]

    assert row.cost.address == 5_000_000 + 30 * 110_000


async def test_spot_is_priced_apart_and_below(bare):
    bare.sell("Standard_D2s_v5", "Standard_B1ls", spot=True)
    catalog = await fetch(bare)
    dear, cheap = of(catalog, "Standard_D2s_v5")[:2]

    assert (dear.spot, cheap.spot) == (False, True)
    assert cheap.cost.units.machine < dear.cost.units.machine
    assert not any(row.spot for row in of(catalog, "Standard_B1ls"))


async def test_what_is_closed_to_the_subscription_has_no_row(bare):
    bare.sell("*")
    catalog = await fetch(bare)

    assert not of(catalog, "Standard_D4s_v5", "northeurope")
    assert {row.zone for row in of(catalog, "Standard_D8s_v5")} == {"westeurope-1", "westeurope-3"}


async def test_a_size_without_a_price_has_no_row(bare):
    bare.sell("*")

    assert not of(await fetch(bare), "Standard_F2s_v2")


async def test_confidential_sizes_are_sold_only_where_the_table_says_so(bare):
    bare.sell("Standard_DC*", "Standard_EC*")
    plain = await fetch(bare)
    bare.sell(confidential=True)
    confidential = await fetch(bare)

    assert {row.shape for row in plain.rows} == {"Standard_DC4s_v3"}
    assert {row.shape: row.posture for row in confidential.rows} == {
        "Standard_DC4s_v3": Posture.NONE,
        "Standard_DC4es_v5": Posture.AZURE_PARAVISOR,
        "Standard_EC4eds_v6": Posture.AZURE_PARAVISOR,
        "Standard_DC4as_v5": Posture.SEV_SNP,
    }


async def test_a_size_that_no_image_boots_is_not_sold(bare):
    bare.sell("Standard_D2ps_v5")

    assert (await fetch(bare)).rows == ()


async def test_a_size_without_zones_is_sold_as_its_location(bare):
    bare.sell("Standard_NC4as_T4_v3")

    assert {row.zone for row in of(await fetch(bare), "Standard_NC4as_T4_v3")} == {""}


async def test_a_row_tells_the_disks_of_the_host(bare):
    bare.sell("Standard_NC4as_T4_v3", "Standard_D2s_v5")
    catalog = await fetch(bare)

    assert {row.local_disk_gib for row in of(catalog, "Standard_NC4as_T4_v3")} == {176}
    assert {row.local_disk_gib for row in of(catalog, "Standard_D2s_v5")} == {0}


async def test_prices_and_sizes_are_read_page_by_page(bare):
    bare.sell("*", spot=True)
    whole = await fetch(bare)
    bare.arm.page_size = 3

    assert [row.key for row in (await fetch(bare)).rows] == [row.key for row in whole.rows]


async def test_a_silent_location_costs_its_rows_alone(bare, caplog):
    bare.physics.go_down("northeurope")
    catalog = await fetch(bare)

    assert {row.region for row in catalog.rows} == {"westeurope"}
    assert "northeurope is left out" in caplog.text


async def test_silence_everywhere_is_told(bare):
    for location in LOCATIONS:
        bare.physics.go_down(location)
    with pytest.raises(UnavailableError):
        await fetch(bare)


async def test_refused_credentials_are_told_though_another_place_answers(bare):
    bare.arm.refuse_next("ListSkus", No(401, "ExpiredAuthenticationToken"))
    with pytest.raises(CredentialsError):
        await fetch(bare)


async def test_offers_have_room_in_every_quota(bare):
    bare.sell("Standard_D2s_v5", "Standard_D4s_v5")
    bare.physics.vcpu_quota = 3
    async with bare.open() as backend:
        offers = await backend.offers()

    assert {offer.shape for offer in offers} == {"Standard_D2s_v5"}
    assert offers[0].networks == tuple(sorted(NetworkPolicy))


@pytest.mark.parametrize(
    ("full", "shapes"),
    [
        ("standardDSv5Family", {"Standard_E4-2s_v5"}),
        ("standardESv5Family", {"Standard_D2s_v5"}),
        ("cores", set()),
        ("lowPriorityCores", {"Standard_D2s_v5", "Standard_E4-2s_v5"}),
    ],
)
async def test_each_quota_takes_away_what_counts_against_it_alone(bare, full, shapes):
    bare.sell("Standard_D2s_v5", "Standard_E4-2s_v5", spot=True)
    bare.arm.rules = evolve(bare.arm.rules, full_quotas=(full,))
    async with bare.open() as backend:
        offers = await backend.offers()

    assert {offer.shape for offer in offers if not offer.spot} == shapes
    assert any(offer.spot for offer in offers) is (full != "lowPriorityCores")


async def test_a_catalog_of_another_day_is_offered_with_todays_quotas(bare):
    catalog = await fetch(bare)
    bare.physics.vcpu_quota = 3
    async with bare.open_backend() as backend:
        backend.use_catalog(catalog)

        assert {offer.shape for offer in await backend.offers()} == {"Standard_D2s_v5"}


async def test_a_catalog_of_another_table_sells_nothing_that_this_one_does_not(bare):
    bare.sell("Standard_DC4es_v5", "Standard_D2s_v5", confidential=True)
    catalog = await fetch(bare)
    async with bare.open_backend() as backend:
        backend.use_catalog(catalog)
        offers = await backend.offers()
        order = bare.order(next(offer for offer in offers if offer.posture is Posture.AZURE_PARAVISOR))
    location = evolve(bare.config.locations[0], zones=("2",))
    bare.sell(confidential=False, locations=(location,))
    async with bare.open_backend() as backend:
        backend.use_catalog(catalog)

        assert [offer.id for offer in await backend.offers()] == ["westeurope-2/Standard_D2s_v5"]
        with pytest.raises(UnservableError):
            await backend.provision(order)
    assert bare.physics.made() == ()


# --- prices ---------------------------------------------------------------------------------------


def items(**changes):
    found = json.loads(json.dumps(price_items("westeurope", "USD", SIZES[:1])[:1]), parse_float=Decimal)
    return [found[0] | changes]


def read(found):
    return dict(read_prices(found, "westeurope", "USD").on_demand)


def test_a_price_is_rounded_up_to_nanos():
    assert read(items(retailPrice=Decimal("0.1000000001"))) == {"Standard_D2s_v5": 100_000_001}


@pytest.mark.parametrize(
    "changes",
    [
        {"retailPrice": Decimal("0")},
        {"retailPrice": Decimal("-1")},
        {"retailPrice": Decimal("NaN")},
        {"retailPrice": 0.1},
        {"retailPrice": None},
        {"retailPrice": True},
        {"currencyCode": "EUR"},
        {"unitOfMeasure": "1/Month"},
        {"unitOfMeasure": "100 Hours"},
        {"armRegionName": "northeurope"},
        {"type": "Reservation"},
        {"serviceName": "Virtual Machines Licenses"},
        {"productName": "Virtual Machines DSv5 Series Windows"},
        {"productName": "DSv5 Series Cloud Services"},
        {"productName": "DSv5 Series Dedicated Host"},
        {"skuName": "D2s v5 Low Priority"},
        {"armSkuName": ""},
    ],
)
def test_what_is_no_price_of_a_machines_hour_is_none(changes):
    assert read(items(**changes)) == {}


def test_of_two_prices_the_higher_counts():
    low, high = items(retailPrice=Decimal("0.1")), items(retailPrice=Decimal("0.2"))

    assert read([*low, *high]) == read([*high, *low]) == {"Standard_D2s_v5": 200_000_000}
