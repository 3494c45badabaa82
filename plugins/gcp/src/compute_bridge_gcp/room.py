"""What the quotas of each region leave room for."""

from collections.abc import Callable, Iterable, Mapping

from compute_bridge.model.catalog import CatalogRow
from compute_bridge_gcp.facts import RegionSeen

# Source: the vendor's page on GPU quotas. Newer GPUs have quotas that a region does not tell.
_GPUS = (
    ("a2-highgpu-", "NVIDIA_A100_GPUS"),
    ("a2-megagpu-", "NVIDIA_A100_GPUS"),
    ("a2-ultragpu-", "NVIDIA_A100_80GB_GPUS"),
    ("a3-highgpu-", "NVIDIA_H100_GPUS"),
    ("g2-", "NVIDIA_L4_GPUS"),
)


def room_in(regions: Iterable[RegionSeen], *, has_addresses: bool) -> Callable[[CatalogRow], bool]:
    """Return whether one more machine of a row fits; a quota that a region does not tell limits nothing.

    ``has_addresses``: each machine has a public one.
    """
    left = {region.name: region.left for region in regions if region.is_up}

    def has_room(row: CatalogRow) -> bool:
        quotas = left.get(row.region)
        if quotas is None:
            return False
        wants = {cpu_quota(row.shape, spot=row.spot, left=quotas): -(-row.resources.cpu_millis // 1000)}
        wants |= dict.fromkeys(quotas_of_each(has_addresses=has_addresses), 1)
        if metric := gpu_quota(row.shape, spot=row.spot):
            wants[metric] = row.resources.gpus
        return all(quotas.get(metric, wanted) >= wanted for metric, wanted in wants.items())

    return has_room


def quotas_of_each(*, has_addresses: bool) -> tuple[str, ...]:
    """Return the names of the quotas of which each machine takes one."""
    return ("INSTANCES", "IN_USE_ADDRESSES") if has_addresses else ("INSTANCES",)


def gpu_quota(shape: str, *, spot: bool) -> str | None:
    """Return the name of the quota that the GPUs of a shape count against, if we know one."""
    name = next((name for start, name in _GPUS if shape.startswith(start)), None)
    return f"PREEMPTIBLE_{name}" if name and spot else name


def cpu_quota(shape: str, *, spot: bool, left: Mapping[str, float]) -> str:
    """Return the name of the quota that the vCPUs of a shape count against, by what is ``left`` in its region."""
    # A spot machine counts against the preemptible quota where one was granted, else as any other.
    if spot and left.get("PREEMPTIBLE_CPUS", 0) > 0:
        return "PREEMPTIBLE_CPUS"
    own = f"{shape.partition('-')[0].upper()}_CPUS"
    return own if own in left else "CPUS"
