"""What a size of Azure is, by its name and by what the catalog of sizes says of it.

Source: the naming convention of Azure sizes: family, vCPUs, features in small letters (``a`` AMD, ``p`` Arm, ``d``
local disk, ``s`` premium disks), version.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from attrs import frozen

from compute_bridge.model.resources import Posture, Resources

_SIZE = re.compile(r"Standard_(?P<family>[A-Z]+)\d+(-\d+)?(?P<features>[a-z]*)(_[A-Za-z0-9]+)*?(_v(?P<version>\d+))?")
_TDX_VERSIONS = ("5", "6")
_POSTURES = {"": Posture.NONE, "TDX": Posture.AZURE_PARAVISOR, "SNP": Posture.SEV_SNP}


def is_arm(size: str) -> bool:
    """Return whether a size has an Arm processor, by its name."""
    match = _SIZE.fullmatch(size)
    return match is not None and "p" in match["features"]


def posture_of(size: str) -> Posture:
    """Return the posture that a size has when it is started as a confidential machine; ``none`` for the others.

    Intel's trust domains stand behind Microsoft's paravisor here: their measurements are not the guest's, so they are
    never called ``tdx``.
    """
    match = _SIZE.fullmatch(size)
    if match is None or match["family"] not in ("DC", "EC", "NCC"):
        return Posture.NONE
    if "a" in match["features"]:
        return Posture.SEV_SNP
    is_tdx = "e" in match["features"] and match["version"] in _TDX_VERSIONS
    return Posture.AZURE_PARAVISOR if is_tdx else Posture.NONE


_LOCAL_DISKS = ("MaxResourceVolumeMB", "NvmeDiskSizeInMiB")


@frozen
class Size:
    """One size in one location, as the subscription may use it; ``zones`` empty where it has none."""

    name: str
    family: str
    vcpus: int
    """What its quota counts, which is more than the guest has where some are switched off."""
    guest_vcpus: int
    mem_mib: int
    gpus: int
    posture: Posture
    is_spot_capable: bool
    is_arm: bool
    is_zonal: bool
    zones: tuple[str, ...]
    controllers: frozenset[str] = frozenset()
    """How it has its disks, in small letters; empty where Azure does not tell."""
    local_disk_gib: int = 0
    """Its temporary disk, or its NVMe disks, which are lost with the machine."""

    def resources(self, disk_gib: int) -> Resources:
        """Return what a guest of this size has."""
        return Resources(self.guest_vcpus * 1000, self.mem_mib, disk_gib, self.gpus)


def read_size(sku: Mapping[str, Any], location: str) -> Size | None:
    """Return a size that can be sold, or ``None``: no machine, restricted here, or not understood.

    ``sku`` is one entry of the list of resource SKUs. A confidential kind that we know nothing of is not understood.
    """
    if sku.get("resourceType") != "virtualMachines" or _is_closed(sku, location):
        return None
    told = {one.get("name"): str(one.get("value")) for one in sku.get("capabilities") or ()}
    name = str(sku.get("name"))
    posture = _POSTURES.get(told.get("ConfidentialComputingType", ""))
    arm = told.get("CpuArchitectureType", "x64").lower() == "arm64"
    # The name has to agree: an order is made by the name alone, with no look at the catalog of sizes.
    if (
        posture is None
        or posture is not posture_of(name)
        or arm is not is_arm(name)
        or "V2" not in told.get("HyperVGenerations", "")
    ):
        return None
    try:
        return Size(
            name=name,
            family=str(sku.get("family")),
            vcpus=int(told["vCPUs"]),
            guest_vcpus=int(told.get("vCPUsAvailable", told["vCPUs"])),
            mem_mib=int(Decimal(told["MemoryGB"]) * 1024),
            gpus=int(told.get("GPUs", "0")),
            posture=posture,
            is_spot_capable=told.get("LowPriorityCapable") == "True",
            is_arm=arm,
            is_zonal=bool(_zones(sku, location)),
            zones=_open_zones(sku, location),
            controllers=frozenset(re.findall("[a-z]+", told.get("DiskControllerTypes", "").lower())),
            # Both are in MiB; where a size tells both, the smaller one is not counted on.
            local_disk_gib=max(int(told.get(name, "0")) for name in _LOCAL_DISKS) // 1024,
        )
    except (KeyError, ValueError, InvalidOperation):
        return None


def _is_closed(sku: Mapping[str, Any], location: str) -> bool:
    return any(
        one.get("type") == "Location" and _names(one, "locations", location) for one in sku.get("restrictions") or ()
    )


def _open_zones(sku: Mapping[str, Any], location: str) -> tuple[str, ...]:
    closed = {
        zone
        for one in sku.get("restrictions") or ()
        if one.get("type") == "Zone" and _names(one, "locations", location)
        for zone in (one.get("restrictionInfo") or {}).get("zones") or ()
    }
    return tuple(sorted(zone for zone in _zones(sku, location) if zone not in closed))


def _zones(sku: Mapping[str, Any], location: str) -> tuple[str, ...]:
    infos = (info for info in sku.get("locationInfo") or () if same_place(info.get("location"), location))
    return tuple(zone for info in infos for zone in info.get("zones") or ())


def _names(restriction: Mapping[str, Any], key: str, location: str) -> bool:
    told = (restriction.get("restrictionInfo") or {}).get(key) or restriction.get("values") or ()
    return any(same_place(one, location) for one in told)


def same_place(one: object, other: str) -> bool:
    """Return whether a word of Azure's means a location: it writes now westeurope, now West Europe."""
    return str(one).replace(" ", "").lower() == other
