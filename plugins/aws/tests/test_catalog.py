"""From what AWS tells of types, zones and prices to rows: certain prices only, rounded up."""

import json
import logging
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.resources import Posture
from compute_bridge.ports.errors import UnavailableError
from compute_bridge_aws import prices
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.catalog import Shape
from compute_bridge_aws.testing import stock
from compute_bridge_aws.testing.stock import IMAGES, OLD_IMAGES, TYPES
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = pytest.mark.anyio


async def fetch(world: AwsWorld, **changes: Any) -> Catalog:
    world.use(evolve(world.config, **changes))
    async with world.open_backend() as backend:
        assert isinstance(backend, AwsBackend)
        return await backend.fetch_catalog()


def row(catalog: Catalog, zone: str, shape: str, *, spot: bool = False) -> CatalogRow:
    return next(one for one in catalog.rows if (one.zone, one.shape, one.spot) == (zone, shape, spot))


async def test_a_row_says_what_a_machine_is_and_costs(bare: AwsWorld):
    catalog = await fetch(bare)
    told = row(catalog, "eu-west-1b", "t3.micro")

    assert (told.region, told.architecture, told.posture) == ("eu-west-1", "x86_64", Posture.NONE)
    assert (told.resources.cpu_millis, told.resources.mem_mib, told.resources.disk_gib) == (2000, 1024, 256)
    assert told.cost.units.machine == 10_400_000
    # 0.088 USD a month of 720 hours.
    assert told.cost.units.disk_gib == 122_223
    assert told.cost.units.egress_gib == 90_000_000
    assert told.cost.address == 5_000_000 + 8 * 122_223
    assert (told.cost.currency, told.cost.source) == ("USD", "aws price list")
    assert told.cost.observed_at == catalog.observed_at


async def test_a_price_that_is_zero_or_missing_is_no_row(bare: AwsWorld):
    catalog = await fetch(bare, shapes=("*",))
    shapes = {one.shape for one in catalog.rows}

    assert {"t3.micro", "g4dn.xlarge", "m7i.metal-24xl"} <= shapes
    assert shapes & {"r7i.large", "x2idn.16xlarge"} == set()


async def test_a_region_without_a_price_of_its_disks_sells_nothing(bare: AwsWorld, caplog: pytest.LogCaptureFixture):
    bare.aws.beside.volume_price = ""
    with pytest.raises(UnavailableError, match="no machine type of the table has a price"):
        await fetch(bare)

    assert "no price of gp3" in caplog.text


async def test_only_the_table_s_zones_shapes_and_architecture_are_rows(bare: AwsWorld):
    some = evolve(bare.config.regions[0], subnets={"eu-west-1b": stock.SUBNETS["eu-west-1b"]})
    catalog = await fetch(bare, regions=(some,), shapes=("t*.micro", "m6a.*"))

    assert {(one.zone, one.shape) for one in catalog.rows} == {("eu-west-1b", "t3.micro")}


async def test_gpus_are_counted(bare: AwsWorld):
    catalog = await fetch(bare, shapes=("g4dn.*",))

    assert row(catalog, "us-east-2a", "g4dn.xlarge").resources.gpus == 1


async def test_disks_of_the_host_are_told_in_whole_gib(bare: AwsWorld):
    catalog = await fetch(bare, shapes=("g4dn.*", "t3.micro"))

    # 125 GB, as AWS counts them.
    assert row(catalog, "us-east-2a", "g4dn.xlarge").local_disk_gib == 116
    assert row(catalog, "us-east-2a", "t3.micro").local_disk_gib == 0


async def test_spot_rows_have_the_spot_price_of_their_zone(bare: AwsWorld):
    catalog = await fetch(bare, spot=True)

    assert row(catalog, "eu-west-1a", "c6a.large", spot=True).cost.units.machine == 31_200_000
    assert row(catalog, "eu-west-1a", "c6a.large").cost.units.machine == 76_500_000


async def test_spot_alone_has_no_on_demand_rows(bare: AwsWorld):
    catalog = await fetch(bare, spot=True, on_demand=False)

    assert {one.spot for one in catalog.rows} == {True}


async def test_confidential_sells_sev_snp_types_only_and_with_amazon_s_fee(bare: AwsWorld):
    catalog = await fetch(bare, confidential=True, spot=True, shapes=("*",))

    assert {one.posture for one in catalog.rows} == {Posture.SEV_SNP}
    assert {one.shape for one in catalog.rows} == {"c6a.large", "m6a.xlarge"}
    assert row(catalog, "eu-west-1a", "c6a.large").cost.units.machine == 84_150_000
    # The fee is a tenth of the price on demand on spot as well.
    assert row(catalog, "eu-west-1a", "c6a.large", spot=True).cost.units.machine == 38_850_000


async def test_no_row_is_ever_tdx(bare: AwsWorld):
    for confidential in (False, True):
        catalog = await fetch(bare, confidential=confidential, shapes=("*",))

        assert Posture.TDX not in {one.posture for one in catalog.rows}


async def test_pages_of_a_few_are_all_read(bare: AwsWorld):
    whole = await fetch(bare, shapes=("*",), spot=True)
    bare.aws.ec2.page = bare.aws.beside.page = 2
    in_pages = await fetch(bare, shapes=("*",), spot=True)

    assert [one.key for one in whole.rows] == [one.key for one in in_pages.rows]


async def test_without_an_address_none_is_paid_for(bare: AwsWorld):
    catalog = await fetch(bare, public_address=False)

    assert {one.cost.address for one in catalog.rows} == {8 * 122_223}


def mapped(world: AwsWorld, images: dict[str, str]) -> dict[str, Any]:
    """Return the table's regions, the first with other images of the same names as the second."""
    here, there = world.config.regions
    return {
        "regions": (evolve(here, images=images), evolve(there, images=dict.fromkeys(images, there.images["debian"])))
    }


async def test_the_volume_of_the_largest_image_is_paid_whatever_is_ordered(bare: AwsWorld):
    images = {"debian": IMAGES["eu-west-1"], "old": OLD_IMAGES["eu-west-1"]}
    catalog = await fetch(bare, **mapped(bare, images))

    assert row(catalog, "eu-west-1b", "t3.micro").cost.address == 5_000_000 + 12 * 122_223
    assert row(catalog, "us-east-2a", "t3.micro").cost.address == 5_000_000 + 8 * 122_223
    assert bare.physics.count("DescribeImages") == 2


@pytest.mark.parametrize("id_", ["ami-00000000", OLD_IMAGES["eu-west-1"]], ids=["absent", "boots by BIOS"])
async def test_an_image_that_cannot_be_used_is_told_and_costs_no_row(
    bare: AwsWorld, caplog: pytest.LogCaptureFixture, id_: str
):
    images = {"debian": IMAGES["eu-west-1"], "old": id_}
    catalog = await fetch(bare, confidential=True, **mapped(bare, images))

    assert {one.region for one in catalog.rows} == {"eu-west-1", "us-east-2"}
    assert row(catalog, "eu-west-1a", "c6a.large").cost.address == 5_000_000 + 8 * 122_223
    assert f"image old in eu-west-1: {id_} " in caplog.text


async def test_a_region_without_an_image_that_can_be_used_sells_nothing(
    bare: AwsWorld, caplog: pytest.LogCaptureFixture
):
    catalog = await fetch(bare, **mapped(bare, {"debian": "ami-00000000"}))

    assert {one.region for one in catalog.rows} == {"us-east-2"}
    assert "region eu-west-1 is left out of the catalog: none of its images can be used" in caplog.text


async def test_a_confidential_backend_refuses_an_image_that_boots_by_bios(account: AwsWorld):
    # The other one can be used, so the region is sold.
    tables = tuple(
        evolve(one, images={"debian": OLD_IMAGES[one.name], "other": one.images["debian"]})
        for one in account.config.regions
    )
    account.use(evolve(account.config, confidential=True, regions=tables))
    async with account.open() as backend:
        [offer, *_] = await backend.offers()
        with pytest.raises(Exception, match="does not boot by UEFI, which SEV-SNP needs; map one that does"):
            await backend.provision(account.order(offer))


@pytest.mark.needs("sshd")
async def test_a_confidential_machine_is_started_with_sev_snp(account: AwsWorld):
    account.use(evolve(account.config, confidential=True))
    async with account.open() as backend:
        [offer, *_] = await backend.offers()
        instance = await backend.provision(account.order(offer))
        machine = account.machine_of(instance.id)
        await backend.terminate(instance.id)

    assert machine.document["CpuOptions"] == {"AmdSevSnp": "enabled"}
    assert offer.posture is Posture.SEV_SNP


def test_a_type_that_says_too_little_is_no_shape():
    assert Shape.read({"InstanceType": "u.1"}, disk_gib=10) is None
    assert Shape.read(TYPES[0].told() | {"VCpuInfo": {}}, disk_gib=10) is None


def test_words_that_the_sdk_does_not_know_come_through():
    shape = Shape.read(
        TYPES[0].told() | {"ProcessorInfo": {"SupportedFeatures": ["amd-sev-snp", "mind-reading"]}}, disk_gib=10
    )

    assert shape is not None
    assert shape.has_snp


@pytest.mark.parametrize(
    "changes", [{"confidential": True}, {"architecture": "arm64"}, {"regions": "without eu-west-1a"}], ids=str
)
async def test_a_catalog_that_was_kept_sells_nothing_that_the_table_no_longer_does(
    bare: AwsWorld, changes: dict[str, Any]
):
    kept = await fetch(bare)
    if "regions" in changes:
        here, there = bare.config.regions
        changes = {"regions": (evolve(here, subnets={"eu-west-1b": stock.SUBNETS["eu-west-1b"]}), there)}
    bare.use(evolve(bare.config, **changes))
    async with bare.open_backend() as backend:
        assert isinstance(backend, AwsBackend)
        backend.use_catalog(kept)
        offers = await backend.offers()

    assert {one.zone for one in offers} == ({"eu-west-1b", "us-east-2a"} if "regions" in changes else set())


# --- prices -------------------------------------------------------------------------------------


def item(price: str, *, unit: str = "Hrs", shape: str = "t3.micro") -> str:
    dimension = {"unit": unit, "pricePerUnit": {"USD": price}}
    terms = {"OnDemand": {"a": {"priceDimensions": {"b": dimension}}}}
    return json.dumps({"product": {"attributes": {"instanceType": shape}}, "terms": terms})


@pytest.mark.parametrize("price", ["0.0000000000", "-1", "NaN", "Infinity", "", "free"])
def test_what_is_no_price_is_none(price: str):
    assert prices.on_demand([item(price)]) == {}


def test_a_price_in_another_unit_is_none():
    assert prices.on_demand([item("1", unit="Quantity")]) == {}


def test_of_two_prices_the_higher_is_taken():
    assert prices.on_demand([item("0.2"), item("0.3"), item("0.1")]) == {"t3.micro": 300_000_000}


def test_a_price_is_rounded_up_to_a_nano():
    assert prices.nanos(Decimal("0.00000000001")) == 1
    assert prices.nanos(Decimal("0.1")) == 100_000_000


def test_of_a_spot_history_the_newest_is_taken():
    history = [
        {"AvailabilityZone": "z", "InstanceType": "t", "SpotPrice": price, "Timestamp": at}
        for price, at in (("0.2", 2), ("0.3", 3), ("0.1", 1), ("0", 4))
    ]

    assert prices.spot(history) == {("z", "t"): 300_000_000}


async def test_the_list_is_asked_by_type_for_few_and_by_region_for_many(
    bare: AwsWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        few = await fetch(bare, regions=bare.config.regions[:1], shapes=("t3.micro", "m7i.large"))
    asked = bare.physics.count("GetProducts")
    monkeypatch.setattr("compute_bridge_aws.catalog._FEW", 1)
    many = await fetch(bare, regions=bare.config.regions[:1], shapes=("t3.micro", "m7i.large"))

    assert asked == 3
    assert bare.physics.count("GetProducts") - asked == 2
    assert [one.cost.units for one in few.rows] == [one.cost.units for one in many.rows]
