"""What the fake account could buy: a few sizes by hand, what is closed to it, and what things cost. No truth."""

from typing import Any

from attrs import field, frozen

from compute_bridge.testing.physics.matter import Quota

REAL_ZONES = ("1", "2", "3")


@frozen
class FakeSize:
    """One size."""

    name: str
    family: str
    vcpus: int
    mem_gb: str
    price: float
    guest_vcpus: int = 0
    confidential: str = ""
    arm: bool = False
    gpus: int = 0
    is_spot_capable: bool = True
    generations: str = "V1,V2"
    controllers: str = "SCSI"
    temporary_mib: int = 0
    nvme_mib: int = 0
    zones: tuple[str, ...] = REAL_ZONES
    closed_locations: tuple[str, ...] = ()
    closed_zones: tuple[str, ...] = ()
    places: tuple[str, ...] = field(default=("westeurope", "northeurope"))

    @property
    def spot_price(self) -> float:
        """A fifth of the price, roughly, in decimal places that no float has exactly."""
        return round(self.price * 0.21, 7)

    def sku(self, location: str) -> dict[str, Any]:
        """Return it as the list of resource SKUs shows it."""
        told = {
            "vCPUs": str(self.vcpus),
            "MemoryGB": self.mem_gb,
            "HyperVGenerations": self.generations,
            "LowPriorityCapable": str(self.is_spot_capable),
            "CpuArchitectureType": "Arm64" if self.arm else "x64",
            "vCPUsAvailable": str(self.guest_vcpus or self.vcpus),
            "DiskControllerTypes": self.controllers,
            "ANewCapability": "of 2031",
        }
        told["MaxResourceVolumeMB"] = str(self.temporary_mib)
        if self.nvme_mib:
            told["NvmeDiskSizeInMiB"] = str(self.nvme_mib)
        if self.gpus:
            told["GPUs"] = str(self.gpus)
        if self.confidential:
            told["ConfidentialComputingType"] = self.confidential
        return {
            "resourceType": "virtualMachines",
            "name": self.name,
            "tier": "Standard",
            "size": self.name.removeprefix("Standard_"),
            "family": self.family,
            "locations": [location],
            "locationInfo": [{"location": location, "zones": list(self.zones), "zoneDetails": []}],
            "capabilities": [{"name": name, "value": value} for name, value in told.items()],
            "restrictions": self._restrictions(location),
        }

    def _restrictions(self, location: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if location in self.closed_locations:
            found.append(_restriction("Location", location, {"locations": [location]}))
        if self.closed_zones:
            closed = {"locations": [location], "zones": list(self.closed_zones)}
            found.append(_restriction("Zone", location, closed))
        return found


def _restriction(kind: str, location: str, info: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "values": [location],
        "restrictionInfo": info,
        "reasonCode": "NotAvailableForSubscription",
    }


SIZES = (
    FakeSize("Standard_D2s_v5", "standardDSv5Family", 2, "8", 0.1152),
    FakeSize("Standard_D4s_v5", "standardDSv5Family", 4, "16", 0.2304, closed_locations=("northeurope",)),
    FakeSize("Standard_D8s_v5", "standardDSv5Family", 8, "32", 0.4608, closed_zones=("2",)),
    FakeSize("Standard_E4-2s_v5", "standardESv5Family", 4, "32", 0.304, guest_vcpus=2),
    FakeSize("Standard_D2ps_v5", "standardDPSv5Family", 2, "8", 0.092, arm=True),
    FakeSize("Standard_DC4es_v5", "standardDCESv5Family", 4, "16", 0.2304, confidential="TDX", generations="V2"),
    FakeSize("Standard_EC4eds_v6", "standardECEDSv6Family", 4, "32", 0.3, confidential="TDX", generations="V2"),
    FakeSize("Standard_DC4as_v5", "standardDCASv5Family", 4, "16", 0.2112, confidential="SNP", generations="V2"),
    FakeSize("Standard_DC4ns_v9", "standardDCNSv9Family", 4, "16", 0.2, confidential="CCA", generations="V2"),
    FakeSize("Standard_DC4s_v3", "standardDDCSv3Family", 4, "32", 0.384, generations="V2"),
    FakeSize(
        "Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, "28", 0.632, gpus=1, zones=(), temporary_mib=180_224
    ),
    FakeSize("Standard_B1ls", "standardBSFamily", 1, "0.5", 0.006, is_spot_capable=False),
    FakeSize("Standard_A1_v2", "standardAv2Family", 1, "2", 0.05, generations="V1"),
    FakeSize("Standard_F2s_v2", "standardFSv2Family", 2, "4", 0.0),
)


def usages(quota: Quota, sizes: tuple[FakeSize, ...], full: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the quotas of a location: total, spot, and each family's; nothing is left of the ``full`` ones."""
    names = ["cores", "lowPriorityCores", "virtualMachines", *sorted({size.family for size in sizes})]
    return [
        {
            "name": {"value": name, "localizedValue": name},
            "unit": "Count",
            "currentValue": quota.used,
            "limit": quota.used if name in full else quota.limit,
        }
        for name in names
    ]


def price_items(location: str, currency: str, sizes: tuple[FakeSize, ...]) -> list[dict[str, Any]]:
    """Return what the retail prices say of a location, with all that must not be taken for a machine's hour."""
    return [item for size in sizes for item in _items_of(size, location, currency)]


def _items_of(size: FakeSize, location: str, currency: str) -> list[dict[str, Any]]:
    words = size.name.removeprefix("Standard_").replace("_", " ")
    product = f"Virtual Machines {words} Series"
    return [
        _item(size, location, currency, product, words, size.price),
        _item(size, location, currency, product, f"{words} Spot", size.spot_price),
        _item(size, location, currency, product, f"{words} Low Priority", size.price / 9),
        _item(size, location, currency, f"{product} Windows", words, size.price * 2),
        _item(size, location, currency, f"{product} Windows", f"{words} Spot", size.price / 50),
        _item(size, location, currency, f"{product} Dedicated Host", words, size.price * 40),
        _item(size, location, currency, f"{product} Cloud Services", words, size.price / 7),
    ]


def _item(size: FakeSize, location: str, currency: str, product: str, meter: str, price: float) -> dict[str, Any]:
    return {
        "currencyCode": currency,
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": location,
        "location": location,
        "effectiveStartDate": "2024-01-01T00:00:00Z",
        "meterName": meter,
        "productName": product,
        "skuName": meter,
        "serviceName": "Virtual Machines",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size.name,
    }
