"""The catalog: which machine type each zone of the table has, what it is, and what AWS asks for it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from attrs import frozen

from compute_bridge.cloud.every import answers
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Posture, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge.ports.errors import UnavailableError
from compute_bridge_aws import prices
from compute_bridge_aws.account import Account
from compute_bridge_aws.config import AwsConfig, AwsRegion
from compute_bridge_aws.image import Images

logger = logging.getLogger(__name__)

_SNP = "amd-sev-snp"
_USABLE = ("opt-in-not-required", "opted-in")
# A price list is asked for by type while that costs fewer calls than a whole region, which is about 15 pages.
_FEW = 12
_PRODUCTS = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]
_BATCH = 100


@frozen
class Shape:
    """What one machine type is, and which prices of it are known."""

    name: str
    resources: Resources
    architecture: str
    is_metal: bool
    has_spot: bool
    has_snp: bool
    local_disk_gib: int = 0

    @classmethod
    def read(cls, answer: Mapping[str, Any], *, disk_gib: int) -> "Shape | None":
        """Return the shape, or ``None`` for one that says too little of itself to be sold."""
        cpus = answer.get("VCpuInfo", {}).get("DefaultVCpus", 0)
        mem_mib = answer.get("MemoryInfo", {}).get("SizeInMiB", 0)
        processor = answer.get("ProcessorInfo", {})
        if not cpus or not mem_mib:
            return None
        gpus = sum(gpu.get("Count", 0) for gpu in answer.get("GpuInfo", {}).get("Gpus", []))
        return cls(
            name=answer["InstanceType"],
            resources=Resources(cpus * 1000, mem_mib, disk_gib, gpus),
            architecture=",".join(processor.get("SupportedArchitectures", [])),
            is_metal=bool(answer.get("BareMetal")),
            has_spot="spot" in answer.get("SupportedUsageClasses", []),
            # Words that the SDK does not know yet come through as they are, and mean nothing here.
            has_snp=_SNP in processor.get("SupportedFeatures", []),
            # In gigabytes of a thousand megabytes; what is less than told is not promised.
            local_disk_gib=answer.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0) * 10**9 // 2**30,
        )


@frozen
class Tags:
    """The prices of one region: of each type on demand, of each zone and type on spot, of a GiB of disk.

    ``image`` is what the disk of the largest image costs, which every machine has.
    """

    on_demand: Mapping[str, NanosPerHour]
    spot: Mapping[tuple[str, str], NanosPerHour]
    disk_gib: NanosPerHour
    image: NanosPerHour


class Shelf:
    """Reads the catalog of one account."""

    def __init__(self, account: Account, images: Images) -> None:
        self._account = account
        self._images = images
        self._config: AwsConfig = account.config

    async def fetch(self) -> Catalog:
        """Return every row that has a price; a region that does not answer is left out and told in the log.

        :raises BackendError: if no region told anything that could be sold.
        """
        observed = UtcMs(self._account.clock.utc_ms())
        tables = await self._usable()
        told, failures = await answers({table.name: partial(self._rows, table, observed) for table in tables})
        for region, error in failures.items():
            logger.warning("region %s is left out of the catalog: %s", region, error)
        rows = [row for some in told.values() for row in some]
        if failures and not rows:
            raise next(iter(failures.values()))
        if not rows:
            raise self._nothing()
        return Catalog(self._account.name, "aws", observed, tuple(sorted(rows, key=lambda row: row.key)))

    def _nothing(self) -> UnavailableError:
        return UnavailableError(
            f"backend {self._account.name}: no machine type of the table has a price in a zone of the table; "
            "look at shapes, subnets, images, architecture and confidential"
        )

    async def _usable(self) -> list[AwsRegion]:
        told = await self._account.read_anywhere("list the regions", self._account.sdk.regions)
        usable = {one["RegionName"] for one in told if one.get("OptInStatus", _USABLE[0]) in _USABLE}
        for table in self._config.regions:
            if table.name not in usable:
                logger.warning("region %s is left out of the catalog: it is not enabled for the account", table.name)
        return [table for table in self._config.regions if table.name in usable]

    # --- one region -----------------------------------------------------------------------------

    async def _rows(self, table: AwsRegion, observed: UtcMs) -> list[CatalogRow]:
        image_gib = await self._images.least_gib(table.name)
        if image_gib is None:
            logger.warning("region %s is left out of the catalog: none of its images can be used", table.name)
            return []
        shapes = await self.shapes(table)
        zones = await self.zones(table)
        tags = await self._prices(table, shapes, image_gib)
        if tags is None:
            logger.warning("region %s is left out of the catalog: no price of %s", table.name, self._config.volume_type)
            return []
        return [
            row
            for zone, shape in sorted(zones)
            if shape in shapes
            for row in self._priced(table, Zone(zone), shapes[shape], tags, observed)
        ]

    async def shapes(self, table: AwsRegion) -> dict[str, Shape]:
        """Return the machine types on sale in a region."""
        config = self._config
        filters = [
            {"Name": "instance-type", "Values": list(config.shapes)},
            {"Name": "processor-info.supported-architecture", "Values": [config.architecture]},
        ]
        account = self._account
        answers = await account.read(
            f"list machine types in {table.name}", partial(account.sdk.types, table.name, filters)
        )
        shapes = [Shape.read(answer, disk_gib=config.max_disk_gib) for answer in answers]
        return {shape.name: shape for shape in shapes if shape is not None and self._is_sold(shape)}

    def _is_sold(self, shape: Shape) -> bool:
        return self._config.sells(shape.name) and (shape.has_snp or not self._config.confidential)

    async def zones(self, table: AwsRegion) -> set[tuple[str, str]]:
        """Return which zone of the table has which machine type."""
        account = self._account
        filters = [
            {"Name": "instance-type", "Values": list(self._config.shapes)},
            {"Name": "location", "Values": list(table.zones)},
        ]
        answers = await account.read(
            f"list which zone has what in {table.name}", partial(account.sdk.offerings, table.name, filters)
        )
        return {(told["Location"], told["InstanceType"]) for told in answers if told["Location"] in table.subnets}

    def _priced(self, table: AwsRegion, zone: Zone, shape: Shape, tags: Tags, observed: UtcMs) -> Iterator[CatalogRow]:
        config = self._config
        full = tags.on_demand.get(shape.name)
        if full is None:
            return
        # The fee is a share of the on-demand price, for spot as well. Source: EC2 user guide, AMD SEV-SNP, Pricing.
        fee = -(-full * config.confidential_surcharge_bps // 10_000) if config.confidential else 0
        asked = {False: full if config.on_demand else None, True: self._spot(zone, shape, tags)}
        for spot, price in asked.items():
            if price is not None:
                yield self._row(table, zone, shape, self._cost(NanosPerHour(price + fee), tags, observed), spot=spot)

    def _spot(self, zone: Zone, shape: Shape, tags: Tags) -> NanosPerHour | None:
        return tags.spot.get((zone, shape.name)) if self._config.spot and shape.has_spot else None

    def _cost(self, machine: NanosPerHour, tags: Tags, observed: UtcMs) -> CostBasis:
        config = self._config
        address = config.address_cost if config.public_address else NanosPerHour(0)
        return CostBasis(
            currency=prices.CURRENCY,
            units=UnitNanos(machine=machine, disk_gib=tags.disk_gib, egress_gib=config.egress_cost),
            observed_at=observed,
            source="aws price list",
            # Each machine has a disk as large as its image whatever was ordered.
            address=NanosPerHour(address + tags.image),
        )

    def _row(self, table: AwsRegion, zone: Zone, shape: Shape, cost: CostBasis, *, spot: bool) -> CatalogRow:
        return CatalogRow(
            region=table.name,
            zone=zone,
            shape=shape.name,
            resources=shape.resources,
            cost=cost,
            posture=Posture.SEV_SNP if self._config.confidential else Posture.NONE,
            spot=spot,
            architecture=self._config.architecture,
            local_disk_gib=shape.local_disk_gib,
        )

    # --- prices ---------------------------------------------------------------------------------

    async def _prices(self, table: AwsRegion, shapes: Mapping[str, Shape], image_gib: int) -> Tags | None:
        disk = prices.volume(
            await self._products(
                {"regionCode": table.name, "productFamily": "Storage", "volumeApiName": self._config.volume_type}
            )
        )
        if disk is None:
            return None
        machines = prices.on_demand([item for terms in _terms(table, shapes) for item in await self._products(terms)])
        return Tags(machines, await self._spot_prices(table, shapes), disk, NanosPerHour(image_gib * disk))

    async def _products(self, terms: dict[str, str]) -> list[str]:
        account = self._account
        return await account.read(f"read prices of {terms['regionCode']}", partial(account.sdk.products, terms))

    async def _spot_prices(
        self, table: AwsRegion, shapes: Mapping[str, Shape]
    ) -> Mapping[tuple[str, str], NanosPerHour]:
        account = self._account
        names = sorted(name for name, shape in shapes.items() if shape.has_spot)
        history: list[dict[str, Any]] = []
        if self._config.spot:
            # From now on: the price that holds, and not 90 days of them.
            start = datetime.fromtimestamp(account.clock.utc_ms() / 1000, UTC)
            for some in _batches(names):
                call = partial(account.sdk.spot_prices, table.name, some, start, _PRODUCTS)
                history += await account.read(f"read spot prices in {table.name}", call)
        return prices.spot(history)


def _terms(table: AwsRegion, shapes: Mapping[str, Shape]) -> Iterator[dict[str, str]]:
    common = {"regionCode": table.name, **prices.MACHINE_TERMS}
    families = {shape.is_metal: _family(metal=shape.is_metal) for shape in shapes.values()}
    if len(shapes) > _FEW:
        yield from ({**common, "productFamily": family} for family in families.values())
        return
    for shape in shapes.values():
        yield {**common, "productFamily": families[shape.is_metal], "instanceType": shape.name}


def _family(*, metal: bool) -> str:
    return "Compute Instance (bare metal)" if metal else "Compute Instance"


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[at : at + _BATCH] for at in range(0, len(names), _BATCH))
