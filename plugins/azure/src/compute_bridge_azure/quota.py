"""What the quotas of a location leave room for."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

CORES, SPOT_CORES = "cores", "lowPriorityCores"


@frozen
class Room:
    """The free vCPUs of one location, by the quota's name in small letters."""

    free: Mapping[str, int]

    def holds(self, family: str, vcpus: int, *, spot: bool) -> bool:
        """Return whether one more machine fits; a quota that Azure does not name is none."""
        names = (SPOT_CORES,) if spot else (CORES, family)
        return all(self.free.get(name.lower(), vcpus) >= vcpus for name in names)


def read_room(usages: Iterable[Mapping[str, Any]]) -> Room:
    """Return the room that a list of usages tells."""
    free: dict[str, int] = {}
    for one in usages:
        name, limit, used = (one.get("name") or {}).get("value"), one.get("limit"), one.get("currentValue")
        if isinstance(name, str) and isinstance(limit, int) and isinstance(used, int):
            free[name.lower()] = limit - used
    return Room(free)
