"""The offer catalog of one backend: what it could sell and what that costs, as last read from the cloud's own API."""

from functools import cached_property
from itertools import pairwise

from attrs import field, frozen

from compute_bridge.model.checks import few, label, text, whole
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import CostBasis
from compute_bridge.model.resources import Posture, Region, Resources, Zone
from compute_bridge.model.units import UtcMs

MAX_ROWS = 100_000
RowKey = tuple[str, str, str, bool]


@frozen
class CatalogRow:
    """One shape in one zone, on demand or spot, with its cost, the cost's source and when that was observed.

    ``resources.disk_gib`` is the largest disk that is sold with it. ``cost.units.machine`` is the cloud's price of the
    whole machine for an hour; a shape without a price has no row, for it must not be sold as free. ``local_disk_gib``
    is what the machine has of disks of its host's own: in its price, beside what is ordered, and lost with it.
    """

    region: Region = field(validator=label)
    zone: Zone = field(validator=text(0, 64))
    shape: str = field(validator=text(1, 64))
    resources: Resources
    cost: CostBasis
    posture: Posture = Posture.NONE
    spot: bool = False
    architecture: str = field(default="x86_64", validator=text(1, 16))
    local_disk_gib: int = field(default=0, validator=whole())

    @property
    def key(self) -> RowKey:
        """What a catalog orders its rows by; one row a key."""
        return (self.region, self.zone, self.shape, self.spot)


@frozen
class Catalog:
    """Every row of one backend, ascending by key, and when it was read."""

    backend: BackendName = field(validator=label)
    kind: str = field(validator=label)
    observed_at: UtcMs = field(validator=whole(1))
    rows: tuple[CatalogRow, ...] = field(validator=few(0, MAX_ROWS))

    @rows.validator
    def _ordered(self, _attribute: object, rows: tuple[CatalogRow, ...]) -> None:
        for before, after in pairwise(rows):
            if before.key >= after.key:
                raise ValueError(f"rows must ascend by region, zone, shape and spot: {after.key} follows {before.key}")

    @cached_property
    def by_key(self) -> dict[RowKey, CatalogRow]:
        """The rows by their keys."""
        return {row.key: row for row in self.rows}
