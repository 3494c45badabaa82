"""From the billing catalog's price list to what a machine costs an hour.

The list names no machine type: a price is found by its description, its usage and its region, and used only in the
unit that we know it in. Source: the descriptions of the service "Compute Engine" in the Cloud Billing catalog.
"""

import re
from collections.abc import Iterable
from fractions import Fraction
from math import ceil

from attrs import frozen

from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.units import NanosPerHour
from compute_bridge_gcp.facts import ShapeSeen, Sku

_PART = re.compile(
    r"(?:Spot Preemptible )?(?P<family>[A-Z]\d+[A-Z]?)(?: AMD| Arm| Predefined)? Instance (?P<part>Core|Ram)"
    r" running in .+"
)
_COMPUTE_OPTIMIZED = re.compile(r"(?:Spot Preemptible )?Compute optimized (?P<part>Core|Ram) running in .+")
_DISK = {
    "pd-balanced": re.compile(r"Balanced PD Capacity(?: in .+)?"),
    "pd-ssd": re.compile(r"SSD backed PD Capacity(?: in .+)?"),
    "pd-standard": re.compile(r"Storage PD Capacity(?: in .+)?"),
}
_ADDRESS = re.compile(r"External IP Charge on a (?P<kind>Standard|Spot Preemptible) VM(?: in .+)?")
_LOCAL_DISK = re.compile(r"SSD backed Local Storage(?P<spot> attached to Spot Preemptible VMs)?(?: in .+)?")
# Families whose local disks have the one general price, in parts of one size; others have prices of their own.
# Source: the vendor's page on Local SSD disks.
_LOCAL_DISK_FAMILIES = ("a2", "a3", "c3", "c3d", "g2")
LOCAL_DISK_GIB = 375
"""How large each local disk of a machine that is sold is."""
_GPU = re.compile(
    r"Nvidia (?:Tesla )?(?P<kind>[A-Z]\d+)(?: (?P<gb>\d+)GB)? GPU"
    r"(?P<spot> attached to Spot Preemptible VMs)? running in .+"
)
_ACCELERATOR = re.compile(r"nvidia-(?:tesla-)?(?P<kind>[a-z]\d+)(?:-(?P<gb>\d+)gb)?")
_USAGES = {"OnDemand": False, "Preemptible": True}
_UNITS = {"Core": "h", "Ram": "GiBy.h"}
# A month in the vendor's price list has as many hours.
_MONTH_H = 730
# What the smallest shapes are billed of a vCPU. Source: the vendor's page on shared-core machines.
_SHARES = {"e2-micro": Fraction(1, 4), "e2-small": Fraction(1, 2), "e2-medium": Fraction(1)}


@frozen
class PriceKey:
    """What a price is for: a part of a family of shapes, a ``disk``, a ``local`` disk, an ``address`` or a ``gpu``."""

    region: str
    what: str
    part: str
    spot: bool


class Prices:
    """The prices of some regions. A price of zero is none, and so is one in another currency."""

    def __init__(self, skus: Iterable[Sku], *, disk_type: str, currency: str) -> None:
        self._nanos: dict[PriceKey, int] = {}
        for sku in skus:
            found = _what(sku, disk_type)
            if found is not None and sku.nanos > 0 and sku.currency == currency:
                for region in sku.regions:
                    key = PriceKey(region, *found)
                    # Where two prices claim to be one, the dearer: nothing is sold below its cost.
                    self._nanos[key] = max(sku.nanos, self._nanos.get(key, 0))

    def machine(self, region: str, shape: ShapeSeen, *, spot: bool) -> NanosPerHour | None:
        """Return what a machine costs an hour, rounded up, or None where a part of it has no price."""
        family = shape.name.partition("-")[0]
        core = self._nanos.get(PriceKey(region, family, "Core", spot))
        ram = self._nanos.get(PriceKey(region, family, "Ram", spot))
        if core is None or ram is None:
            return None
        more = [
            self._nanos.get(PriceKey(region, "gpu", _accelerator(kind), spot), 0) * count
            for kind, count in shape.accelerators.items()
        ]
        if shape.local_disks:
            more.append(self._local_disks(region, family, shape.local_disks, spot=spot))
        if not all(more):
            return None
        vcpus = _SHARES.get(shape.name, Fraction(1)) * (shape.vcpus if shape.name not in _SHARES else 1)
        return NanosPerHour(ceil(core * vcpus + Fraction(ram * shape.mem_mib, 1024)) + sum(more))

    def _local_disks(self, region: str, family: str, count: int, *, spot: bool) -> int:
        if family not in _LOCAL_DISK_FAMILIES:
            return 0
        monthly = self._nanos.get(PriceKey(region, "local", "", spot), 0)
        return -(-monthly * LOCAL_DISK_GIB * count // _MONTH_H)

    def disk_gib(self, region: str) -> NanosPerHour | None:
        """Return what a GiB of disk costs an hour."""
        monthly = self._nanos.get(PriceKey(region, "disk", "", False))
        return None if monthly is None else NanosPerHour(-(-monthly // _MONTH_H))

    def address(self, region: str, *, spot: bool) -> NanosPerHour | None:
        """Return what a public address costs an hour."""
        nanos = self._nanos.get(PriceKey(region, "address", "", spot)) or self._nanos.get(
            PriceKey("global", "address", "", spot)
        )
        return None if nanos is None else NanosPerHour(nanos)


def _what(sku: Sku, disk_type: str) -> tuple[str, str, bool] | None:
    spot = _USAGES.get(sku.usage)
    if found := _ADDRESS.fullmatch(sku.description):
        return ("address", "", found["kind"] != "Standard") if sku.unit == "h" else None
    if spot is None:
        return None
    if not spot and _DISK[disk_type].fullmatch(sku.description):
        return ("disk", "", False) if sku.unit == "GiBy.mo" else None
    if found := _LOCAL_DISK.fullmatch(sku.description):
        # The list says of spot ones too that they are used on demand.
        return ("local", "", bool(found["spot"])) if sku.unit == "GiBy.mo" else None
    if found := _GPU.fullmatch(sku.description):
        is_right = sku.unit == "h" and spot is bool(found["spot"])
        return ("gpu", _size(found["kind"], found["gb"]), spot) if is_right else None
    if spot is not sku.description.startswith("Spot Preemptible "):
        return None
    found = _PART.fullmatch(sku.description) or _COMPUTE_OPTIMIZED.fullmatch(sku.description)
    if found is None or sku.unit != _UNITS[found["part"]]:
        return None
    return found.groupdict().get("family", "C2").lower(), found["part"], spot


def _accelerator(kind: str) -> str:
    found = _ACCELERATOR.fullmatch(kind)
    return _size(found["kind"], found["gb"]) if found else kind


def _size(kind: str, gb: str | None) -> str:
    return f"{kind.lower()} {gb or ''}"


def with_confidential(costs: UnitNanos, extra: UnitNanos, shape: ShapeSeen) -> NanosPerHour:
    """Return the cost of a confidential machine: its own, and what the operator says that confidence costs."""
    more = extra.machine + extra.vcpu * shape.vcpus + ceil(Fraction(extra.ram_gib * shape.mem_mib, 1024))
    return NanosPerHour(costs.machine + more)
