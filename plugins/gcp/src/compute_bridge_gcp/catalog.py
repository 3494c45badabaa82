"""From machine types and prices to the rows of a catalog."""

from collections.abc import Iterable, Iterator

from attrs import evolve

from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Posture, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge_gcp.config import GcpConfig, GcpRegion
from compute_bridge_gcp.facts import ShapeSeen, Sku
from compute_bridge_gcp.prices import LOCAL_DISK_GIB, Prices, with_confidential

SOURCE = "cloud-billing-catalog"
# These boot from Hyperdisk alone, which the table cannot ask for. Source: the vendor's page on Hyperdisk, 2026-11.
_NO_PERSISTENT_DISK = frozenset({"a4", "a4x", "c4", "c4a", "c4d", "h4d", "m4", "n4", "n4a", "n4d", "x4"})


def catalog_of(
    backend: BackendName,
    config: GcpConfig,
    zones: Iterable[str],
    shapes: Iterable[ShapeSeen],
    skus: Iterable[Sku],
    *,
    observed_at: UtcMs,
) -> Catalog:
    """Return one row for each shape on sale in each zone that is up, on demand and spot, if all of it has a price."""
    prices = Prices(skus, disk_type=config.disk_type, currency=config.currency)
    up = frozenset(zones)
    rows: dict[tuple[str, str, str, bool], CatalogRow] = {}
    for shape in shapes:
        region = config.region_of(shape.zone)
        if region is not None and shape.zone in up and _is_sold(config, shape):
            rows |= {row.key: row for row in _rows(config, region, shape, prices, observed_at)}
    return Catalog(backend, "gcp", observed_at, tuple(rows[key] for key in sorted(rows)))


def _is_sold(config: GcpConfig, shape: ShapeSeen) -> bool:
    return (
        config.sells(shape.name)
        and not shape.is_deprecated
        and shape.name.partition("-")[0] not in _NO_PERSISTENT_DISK
        and (shape.architecture or "x86_64") == config.architecture
        and shape.vcpus > 0
        and shape.mem_mib > 0
    )


def _rows(
    config: GcpConfig, region: GcpRegion, shape: ShapeSeen, prices: Prices, observed_at: UtcMs
) -> Iterator[CatalogRow]:
    for spot in (False, True):
        cost = _cost(config, region, shape, prices, observed_at, spot=spot)
        if cost is not None:
            yield CatalogRow(
                region=region.name,
                zone=Zone(shape.zone),
                shape=shape.name,
                resources=Resources(
                    shape.vcpus * 1000, shape.mem_mib, config.max_disk_gib, sum(shape.accelerators.values())
                ),
                cost=cost,
                posture=config.posture(shape.zone, shape.name),
                spot=spot,
                architecture=config.architecture,
                local_disk_gib=shape.local_disks * LOCAL_DISK_GIB,
            )


def _cost(
    config: GcpConfig, region: GcpRegion, shape: ShapeSeen, prices: Prices, observed_at: UtcMs, *, spot: bool
) -> CostBasis | None:
    machine = prices.machine(region.name, shape, spot=spot)
    disk_gib = prices.disk_gib(region.name)
    address: NanosPerHour | None = NanosPerHour(0)
    if config.public_address:
        address = config.address_cost or prices.address(region.name, spot=spot)
    if machine is None or disk_gib is None or address is None:
        return None
    units = UnitNanos(machine=machine, disk_gib=disk_gib, egress_gib=config.egress_cost)
    if config.posture(shape.zone, shape.name) is not Posture.NONE:
        units = evolve(units, machine=with_confidential(units, config.confidential_cost, shape))
    # Each machine has a disk as large as its image whatever was ordered.
    beside = NanosPerHour(address + config.image_gib * disk_gib)
    return CostBasis(config.currency, units, observed_at, SOURCE, address=beside)
