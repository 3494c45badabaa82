"""What the account's quotas leave room for."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from compute_bridge.cloud.every import answers
from compute_bridge.model.catalog import CatalogRow
from compute_bridge.ports.errors import BackendError
from compute_bridge_aws.account import Account

logger = logging.getLogger(__name__)

_KEEP_MS = 900_000

# Which vCPU quota a family counts to, on demand and on spot; a family that is not here is not filtered.
# Source: Service Quotas, Amazon EC2, "Running On-Demand ... instances" and "All ... Spot Instance Requests".
_STANDARD = ("L-1216C47A", "L-34B43A08")
_GRAPHICS = ("L-DB2E81BA", "L-3819A6DF")
CODES: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "m", "r", "t", "z", "im", "is"), _STANDARD),
    **dict.fromkeys(("g", "gr", "vt"), _GRAPHICS),
    "p": ("L-417A185B", "L-7212CCBC"),
    "f": ("L-74FC7D96", "L-88CF9481"),
    "x": ("L-7295265B", "L-E3A00192"),
    "inf": ("L-1945791B", "L-B5D1601B"),
    "trn": ("L-2C3B7624", "L-6B0D517C"),
    "dl": ("L-6E869C2A", "L-85EED4F7"),
}

Limits = Mapping[str, float]
Used = Mapping[str, int]


def code_for(shape: str, *, spot: bool) -> str:
    """Return the code of the quota that a machine type counts to, empty where that is not known."""
    family = re.match(r"[a-z]+", shape)
    on_demand, on_spot = CODES.get(family[0] if family else "", ("", ""))
    return on_spot if spot else on_demand


def used_by(instances: list[dict[str, Any]]) -> Counter[str]:
    """Return how many vCPUs count to each quota now."""
    used: Counter[str] = Counter()
    for one in instances:
        options = one.get("CpuOptions", {})
        code = code_for(one["InstanceType"], spot=one.get("InstanceLifecycle") == "spot")
        used[code] += options.get("CoreCount", 0) * options.get("ThreadsPerCore", 0)
    return used


class Quotas:
    """The quotas of one account, kept for a quarter of an hour, and what runs against them, asked each time."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._kept: dict[str, tuple[int, Limits]] = {}
        self._silent: frozenset[str] = frozenset()

    async def room(self) -> Callable[[CatalogRow], bool]:
        """Return whether a row's machine still fits, as a question to be asked of each.

        A region that does not tell what runs there has no room.

        :raises BackendError: if none tells.
        """
        names = [table.name for table in self._account.config.regions]
        used = await self._told(names)
        limits = {name: await self.limits(name) for name in used}

        def has_room(row: CatalogRow) -> bool:
            if row.region not in used:
                return False
            code = code_for(row.shape, spot=row.spot)
            limit = limits.get(row.region, {}).get(code)
            # Without a figure nothing is refused: EC2 itself says no where there is no room.
            return limit is None or used[row.region].get(code, 0) + row.resources.cpu_millis / 1000 <= limit

        return has_room

    async def _told(self, names: Sequence[str]) -> dict[str, Used]:
        used, failures = await answers({name: partial(self._used, name) for name in names})
        if not used:
            raise failures[names[0]]
        for name in failures.keys() - self._silent:
            logger.warning("region %s sells nothing for now: %s", name, failures[name])
        self._silent = frozenset(failures)
        return used

    async def _used(self, region: str) -> Used:
        account = self._account
        filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        found = await account.read(f"count machines in {region}", partial(account.sdk.instances, region, filters))
        return used_by(found)

    async def limits(self, region: str) -> Limits:
        """Return the quotas of a region; what was last known where they are not told, or nothing."""
        now = self._account.clock.monotonic_ms()
        since, limits = self._kept.get(region, (-_KEEP_MS - 1, {}))
        if now - since > _KEEP_MS:
            try:
                limits = await self.read(region)
            except BackendError as error:
                logger.warning("the quotas of %s filter nothing for now: %s", region, error)
            self._kept[region] = (now, limits)
        return limits

    async def read(self, region: str) -> Limits:
        """Return the quotas of a region.

        :raises BackendError: if they are not told.
        """
        account = self._account
        found = await account.read(f"read the quotas of {region}", partial(account.sdk.quotas, region))
        return {str(quota["QuotaCode"]): float(quota["Value"]) for quota in found}
