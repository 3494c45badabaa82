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


def room_in(regions: Iterable[RegionSeen]) -> Callable[[CatalogRow], bool]:
    """Return whether one more machine of a row fits; a quota that a region does not tell limits nothing."""
    left = {region.name: region.left for region in regions if region.is_up}

    def has_room(row: CatalogRow) -> bool:
        quotas = left.get(row.region)
        if quotas is None:
            return False
        wants = {_cpus(row, quotas): -(-row.resources.cpu_millis // 1000), "INSTANCES": 1}
        if row.cost.address:
            wants["IN_USE_ADDRESSES"] = 1
        if metric := _gpus(row):
            wants[metric] = row.resources.gpus
        return all(quotas.get(metric, wanted) >= wanted for metric, wanted in wants.items())

    return has_room


def _gpus(row: CatalogRow) -> str | None:
    """Return the name of the quota that a row's GPUs count against, if we know one."""
    name = next((name for start, name in _GPUS if row.shape.startswith(start)), None)
    return f"PREEMPTIBLE_{name}" if name and row.spot else name


def _cpus(row: CatalogRow, quotas: Mapping[str, float]) -> str:
    """Return the name of the quota that a row's vCPUs count against."""
    # A spot machine counts against the preemptible quota where one was granted, else as any other.
    if row.spot and quotas.get("PREEMPTIBLE_CPUS", 0) > 0:
        return "PREEMPTIBLE_CPUS"
    own = f"{row.shape.partition('-')[0].upper()}_CPUS"
    return own if own in quotas else "CPUS"
