"""From the vendor's machine types, price list and quotas to what is offered, and what it costs."""

from fractions import Fraction
from math import ceil

import pytest
from attrs import evolve

from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.resources import Posture
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge_gcp.catalog import SOURCE, catalog_of
from compute_bridge_gcp.facts import RegionSeen, Sku
from compute_bridge_gcp.room import room_in
from compute_bridge_gcp.sdk import Sdk
from compute_bridge_gcp.testing.stock import ZONES

NOW = UtcMs(1_790_000_000_000)
EVERYWHERE = {zone for zones in ZONES.values() for zone in zones}


@pytest.fixture
def sdk(bare_world):
    bare_world.reconfigure(page_size=2, spot=True, shapes=(*bare_world.config.shapes, "a2-*"))
    return Sdk(bare_world.config, bare_world.key)


DISK_GIB = ceil(Fraction(100_000_000, 730))
IMAGE = 10 * DISK_GIB
"""What the disk of the table's images costs, whatever is ordered."""


def read(sdk, config, **changes):
    skus = changes.pop("skus", None)
    table = evolve(config, **changes)
    return catalog_of(
        BackendName("b"), table, sdk.zones(), sdk.shapes()[0], sdk.skus() if skus is None else skus, observed_at=NOW
    )


def row(catalog, shape, *, zone="europe-west4-b", spot=False):
    return catalog.by_key.get((zone.rpartition("-")[0], zone, shape, spot))


def zero(sku):
    return evolve(sku, nanos=0)


def by_the_month(sku):
    return evolve(sku, unit="mo")


def in_euros(sku):
    return evolve(sku, currency="EUR")


def test_every_page_is_read_and_every_zone_has_its_rows(sdk, bare_world):
    catalog = read(sdk, bare_world.config)
    shapes = {"e2-standard-2", "n2d-standard-2", "c3-standard-4", "c3-standard-4-lssd", "a2-highgpu-1g"}

    assert {one.zone for one in catalog.rows} == EVERYWHERE
    assert {one.shape for one in catalog.rows} == shapes
    assert len(catalog.rows) == len(EVERYWHERE) * len(shapes) * 2
    assert ("gcp", NOW) == (catalog.kind, catalog.observed_at)


def test_a_machine_costs_its_vcpus_and_its_memory_rounded_up(sdk, bare_world):
    found = row(read(sdk, bare_world.config), "e2-standard-2")

    assert found.cost.units.machine == 2 * 21_811_590 + 8 * 2_923_530
    assert found.cost.units.disk_gib == DISK_GIB
    assert found.cost.units.egress_gib == 120_000_000
    assert found.cost.address == 5_000_000 + IMAGE
    assert (SOURCE, NOW, "USD") == (found.cost.source, found.cost.observed_at, found.cost.currency)
    assert (2000, 8192) == (found.resources.cpu_millis, found.resources.mem_mib)


def test_a_spot_machine_has_prices_of_its_own(sdk, bare_world):
    found = row(read(sdk, bare_world.config), "e2-standard-2", spot=True)

    assert found.cost.units.machine == 2 * (21_811_590 // 3) + 8 * (2_923_530 // 3)
    assert found.cost.address == 2_500_000 + IMAGE


@pytest.mark.parametrize(("spot", "gpu", "part"), [(False, 2_933_908_000, 1), (True, 880_172_000, 3)])
def test_a_gpu_is_part_of_the_cost_and_the_resources(sdk, bare_world, spot, gpu, part):
    found = row(read(sdk, bare_world.config), "a2-highgpu-1g", spot=spot)

    assert found.cost.units.machine == 12 * (31_611_000 // part) + 85 * (4_237_000 // part) + gpu
    assert found.resources.gpus == 1


def test_a_gpu_without_a_price_is_not_sold(sdk, bare_world):
    skus = [sku for sku in sdk.skus() if not sku.description.startswith("Nvidia Tesla A100 GPU")]

    assert row(read(sdk, bare_world.config, skus=skus), "a2-highgpu-1g") is None


@pytest.mark.parametrize(("spot", "core", "ram", "gib"), [(False, 1, 1, 80_000_000), (True, 3, 3, 40_000_000)])
def test_local_disks_are_part_of_the_cost(sdk, bare_world, spot, core, ram, gib):
    found = row(read(sdk, bare_world.config), "c3-standard-4-lssd", spot=spot)
    bare = 4 * (33_982_000 // core) + 16 * (4_556_000 // ram)

    assert found.cost.units.machine == bare + ceil(Fraction(375 * gib, 730))
    assert found.local_disk_gib == 375


def test_local_disks_of_a_family_with_prices_of_its_own_are_not_sold(sdk, bare_world):
    assert row(read(sdk, bare_world.config, shapes=("c4-*",)), "c4-standard-4-lssd") is None


def test_local_disks_without_a_price_are_not_sold(sdk, bare_world):
    skus = [sku for sku in sdk.skus() if not sku.description.startswith("SSD backed Local Storage in")]

    assert row(read(sdk, bare_world.config, skus=skus), "c3-standard-4-lssd") is None


@pytest.mark.parametrize(
    ("shape", "posture"),
    [
        ("c3-standard-4", Posture.TDX),
        ("a3-highgpu-1g", Posture.TDX),
        ("c3-standard-4-lssd", Posture.NONE),
        ("n2d-standard-2", Posture.SEV_SNP),
        ("e2-standard-2", Posture.NONE),
    ],
)
def test_what_is_protected_is_known_by_shape_and_zone(sdk, bare_world, shape, posture):
    rows = read(sdk, bare_world.config, shapes=("c3-*", "a3-*", "n2d-*", "e2-*"))

    assert row(rows, shape, zone="europe-west4-a").posture is posture
    assert row(rows, shape, zone="europe-west4-b").posture is Posture.NONE


def test_a_confidential_machine_costs_what_the_operator_adds(sdk, bare_world):
    catalog = read(sdk, bare_world.config, confidential_cost=UnitNanos(vcpu=NanosPerHour(7), ram_gib=NanosPerHour(3)))
    plain, tdx = (row(catalog, "c3-standard-4", zone=zone) for zone in ("europe-west4-b", "europe-west4-a"))

    assert (Posture.NONE, Posture.TDX) == (plain.posture, tdx.posture)
    assert tdx.cost.units.machine - plain.cost.units.machine == 4 * 7 + 16 * 3
    assert (plain.cost.units.egress_gib, plain.cost.units.disk_gib) == (
        tdx.cost.units.egress_gib,
        tdx.cost.units.disk_gib,
    )
    assert tdx.cost.units.egress_gib == 120_000_000


@pytest.mark.parametrize(
    "words", ["E2 Instance Core", "E2 Instance Ram", "Balanced PD", "External IP Charge on a Standard"]
)
@pytest.mark.parametrize("price", ["missing", "zero", "another unit", "another currency"])
def test_what_has_no_whole_price_has_no_row(sdk, bare_world, words, price):
    skus = [sku for sku in sdk.skus() if not (sku.description.startswith(words) and price == "missing")]
    spoil = {"zero": zero, "another unit": by_the_month, "another currency": in_euros, "missing": zero}[price]
    skus = [spoil(sku) if sku.description.startswith(words) else sku for sku in skus]

    assert row(read(sdk, bare_world.config, skus=skus), "e2-standard-2") is None


def test_prices_are_asked_for_in_the_currency_of_the_table(bare_world):
    bare_world.reconfigure(currency="EUR")
    found = row(read(Sdk(bare_world.config, bare_world.key), bare_world.config), "e2-standard-2")

    assert found.cost.currency == "EUR"


def test_the_operators_word_for_an_address_wins(sdk, bare_world):
    found = row(read(sdk, bare_world.config, address_cost=NanosPerHour(77)), "e2-standard-2")

    assert found.cost.address == 77 + IMAGE


def test_no_address_costs_nothing(sdk, bare_world):
    assert row(read(sdk, bare_world.config, public_address=False), "e2-standard-2").cost.address == IMAGE


@pytest.mark.parametrize("zone", ["europe-west4-b", "europe-west4-a"], ids=["plain", "confidential"])
def test_the_disk_of_the_largest_image_is_paid_whatever_is_ordered(sdk, bare_world, zone):
    [first, second] = bare_world.config.images
    images = (evolve(first, disk_gib=35), evolve(second, disk_gib=20))
    found = row(read(sdk, bare_world.config, images=images), "c3-standard-4", zone=zone)

    assert found.cost.address == 5_000_000 + 35 * DISK_GIB
    assert found.cost.units.disk_gib == DISK_GIB


def test_a_price_of_another_region_is_none(sdk, bare_world):
    skus = [evolve(sku, regions=("us-central1",)) for sku in sdk.skus()]
    catalog = read(sdk, bare_world.config, skus=skus)

    assert {one.region for one in catalog.rows} == {"us-central1"}


def test_of_two_prices_for_one_thing_the_dearer_counts(sdk, bare_world):
    double = Sku("E2 Instance Core running in Elsewhere", "OnDemand", tuple(ZONES), "h", 99_000_000)
    found = row(read(sdk, bare_world.config, skus=[double, *sdk.skus()]), "e2-standard-2")

    assert found.cost.units.machine == 2 * 99_000_000 + 8 * 2_923_530


def test_a_zone_that_is_down_and_one_that_is_not_sold_have_no_rows(sdk, bare_world):
    bare_world.fake.shelf.down_zones.add("us-central1-a")
    [first, second] = bare_world.config.regions
    catalog = read(sdk, bare_world.config, regions=(evolve(first, zones=("europe-west4-b",)), second))

    assert {one.zone for one in catalog.rows} == {"europe-west4-b"}


def test_one_backend_sells_one_architecture(sdk, bare_world):
    arm = [Sku("T2A Arm Instance Core running in Somewhere", "OnDemand", tuple(ZONES), "h", 30_000_000)]
    arm += [Sku("T2A Arm Instance Ram running in Somewhere", "OnDemand", tuple(ZONES), "GiBy.h", 4_000_000)]
    catalog = read(sdk, bare_world.config, skus=[*sdk.skus(), *arm], architecture="arm64")

    assert {one.shape for one in catalog.rows} == {"t2a-standard-1"}


# --- quotas -------------------------------------------------------------------------------------


def region(**left):
    return RegionSeen("europe-west4", is_up=True, zones=("europe-west4-b",), left={"CPUS": 100.0} | left)


@pytest.mark.parametrize(
    ("left", "spot", "fits"),
    [
        ({}, False, True),
        ({"CPUS": 1.0}, False, False),
        ({"E2_CPUS": 1.0}, False, False),
        ({"E2_CPUS": 2.0, "CPUS": 0.0}, False, True),
        ({"CPUS": 0.0, "PREEMPTIBLE_CPUS": 8.0}, True, True),
        ({"CPUS": 0.0, "PREEMPTIBLE_CPUS": 0.0}, True, False),
        ({"INSTANCES": 0.0}, False, False),
        ({"IN_USE_ADDRESSES": 0.0}, False, False),
        ({"QUANTUM_WIDGETS": 0.0}, False, True),
    ],
)
def test_a_row_fits_where_every_quota_that_it_counts_against_has_room(sdk, bare_world, left, spot, fits):
    found = row(read(sdk, bare_world.config), "e2-standard-2", spot=spot)

    assert fits is room_in([region(**left)], has_addresses=True)(found)


@pytest.mark.anyio
async def test_a_machine_without_an_address_takes_none_of_their_quota(bare_world):
    bare_world.reconfigure(public_address=False)
    bare_world.fake.shelf.extra_quotas.append({"metric": "IN_USE_ADDRESSES", "limit": 4.0, "usage": 4.0})
    async with bare_world.open() as backend:
        assert await backend.offers()


@pytest.mark.parametrize(
    ("left", "spot", "fits"),
    [
        ({"NVIDIA_A100_GPUS": 1.0}, False, True),
        ({"NVIDIA_A100_GPUS": 0.0}, False, False),
        ({"NVIDIA_A100_GPUS": 0.0}, True, True),
        ({"PREEMPTIBLE_NVIDIA_A100_GPUS": 0.0}, True, False),
        ({"NVIDIA_L4_GPUS": 0.0}, False, True),
    ],
)
def test_gpus_count_against_the_quota_of_their_kind(sdk, bare_world, left, spot, fits):
    found = row(read(sdk, bare_world.config), "a2-highgpu-1g", spot=spot)

    assert fits is room_in([region(**left)], has_addresses=True)(found)


def test_nothing_fits_in_a_region_that_is_not_told_or_down(sdk, bare_world):
    found = row(read(sdk, bare_world.config), "e2-standard-2")

    assert not room_in([], has_addresses=True)(found)
    assert not room_in([evolve(region(), is_up=False)], has_addresses=True)(found)


def test_unknown_quotas_come_through_by_name(sdk):
    assert all(one.left["QUANTUM_WIDGETS"] == 1 for one in sdk.regions())
