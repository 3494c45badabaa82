"""From the sizes and the retail prices of a location to the rows of a catalog."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from attrs import frozen

from compute_bridge.model.catalog import CatalogRow
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Posture, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge_azure.body import urn_for
from compute_bridge_azure.config import AzureConfig, Location
from compute_bridge_azure.sizes import Size

SOURCE = "azure-retail-prices"

_NANOS = 10**9
# Products whose hours are no hours of a Linux machine of one's own. Source: clouds that were priced wrong by them.
_NOT_OURS = ("windows", "dedicated", "cloud services", "cloudservices")


@frozen
class Prices:
    """Nanos an hour of each size, on demand and spot."""

    on_demand: Mapping[str, NanosPerHour]
    spot: Mapping[str, NanosPerHour]


def read_prices(items: Iterable[Mapping[str, Any]], location: str, currency: str) -> Prices:
    """Return the prices among ``items``; of two for one thing the higher, since the walk through pages may tear.

    A price of zero, or of another currency, unit or place, is no price.
    """
    on_demand: dict[str, NanosPerHour] = {}
    spot: dict[str, NanosPerHour] = {}
    for item in items:
        size = str(item.get("armSkuName") or "")
        nanos = _nanos(item.get("retailPrice"))
        if not size or not nanos or not _is_machine_hour(item, location, currency):
            continue
        prices = spot if "spot" in str(item.get("meterName")).lower() else on_demand
        prices[size] = max(nanos, prices.get(size, nanos))
    return Prices(on_demand, spot)


def _is_machine_hour(item: Mapping[str, Any], location: str, currency: str) -> bool:
    product, names = str(item.get("productName")).lower(), f"{item.get('skuName')} {item.get('meterName')}".lower()
    return (
        item.get("serviceName") == "Virtual Machines"
        and item.get("type") == "Consumption"
        and item.get("armRegionName") == location
        and item.get("currencyCode") == currency
        and item.get("unitOfMeasure") == "1 Hour"
        and not any(word in product for word in _NOT_OURS)
        and "low priority" not in names
    )


def _nanos(price: object) -> NanosPerHour | None:
    if not isinstance(price, int | Decimal) or isinstance(price, bool) or not Decimal(price).is_finite() or price <= 0:
        return None
    return NanosPerHour(int((Decimal(price) * _NANOS).to_integral_value(ROUND_CEILING)))


def rows(
    config: AzureConfig, location: Location, sizes: Iterable[Size], prices: Prices, observed_at: UtcMs
) -> Iterator[CatalogRow]:
    """Return the rows of one location: what the table sells, the subscription may use and a price is known of."""
    for size in sizes:
        if not config.sells(size.name) or not _is_startable(config, size):
            continue
        for zone in _zones(location, size):
            for is_spot, known in ((False, prices.on_demand), (True, prices.spot)):
                price = known.get(size.name)
                if price is not None and (size.is_spot_capable or not is_spot):
                    yield CatalogRow(
                        region=location.name,
                        zone=zone,
                        shape=size.name,
                        resources=size.resources(config.max_disk_gib),
                        cost=_cost(config, price, observed_at),
                        posture=size.posture,
                        spot=is_spot,
                        architecture="arm64" if size.is_arm else "x86_64",
                        local_disk_gib=size.local_disk_gib,
                    )


def _is_startable(config: AzureConfig, size: Size) -> bool:
    is_confidential = size.posture is not Posture.NONE
    if is_confidential and not config.confidential:
        return False
    return all(urn_for(image, is_confidential=is_confidential, arm=size.is_arm) for image in config.image_table)


def is_on_sale(config: AzureConfig, row: CatalogRow) -> bool:
    """Return whether the table still sells a row of a catalog that may be older than it."""
    location = config.location(row.region)
    if location is None or (row.posture is not Posture.NONE and not config.confidential):
        return False
    return not location.zones or row.zone in map(location.zone, location.zones)


def _zones(location: Location, size: Size) -> list[Zone]:
    if not size.is_zonal:
        # A location without zones, or a size that is in none.
        return [] if location.zones else [Zone("")]
    return [location.zone(zone) for zone in size.zones if not location.zones or zone in location.zones]


def _cost(config: AzureConfig, price: NanosPerHour, observed_at: UtcMs) -> CostBasis:
    units = UnitNanos(machine=price, disk_gib=config.disk_cost, egress_gib=config.egress_cost)
    # Each machine has an address, and a disk as large as its image whatever was ordered.
    beside = NanosPerHour(config.address_cost + config.image_gib * config.disk_cost)
    return CostBasis(config.currency, units, observed_at, SOURCE, address=beside)
