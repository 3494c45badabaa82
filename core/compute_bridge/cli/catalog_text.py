"""Catalogs in words: rows, prices, ages, and how two catalogs differ."""

from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from compute_bridge.host.catalog_gates import CatalogFinding, hourly_nanos, where
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.units import UtcMs

_NANO_DIGITS = 9
_HOUR_S = 3600


@frozen
class Difference:
    """How a catalog differs from the one before it; when a cost was observed does not count."""

    new: tuple[CatalogRow, ...]
    gone: tuple[CatalogRow, ...]
    changed: tuple[tuple[CatalogRow, CatalogRow], ...]
    same: int

    def lines(self) -> Iterator[str]:
        """Yield one line for each row that differs."""
        yield from (f"+ {where(row.key)}  {price(row)}" for row in self.new)
        yield from (f"- {where(row.key)}  {price(row)}" for row in self.gone)
        for before, after in self.changed:
            what = f"{price(before)} -> {price(after)}" if price(before) != price(after) else "not in its price"
            yield f"~ {where(after.key)}  {what}"


def compare(before: Catalog | None, after: Catalog | None) -> Difference:
    """Return how ``after`` differs from ``before``; ``None`` has no rows."""
    old = before.by_key if before is not None else {}
    new = after.by_key if after is not None else {}
    both = [(row, new[key]) for key, row in old.items() if key in new]
    changed = tuple((one, other) for one, other in both if _timeless(one) != _timeless(other))
    return Difference(
        new=tuple(row for key, row in new.items() if key not in old),
        gone=tuple(row for key, row in old.items() if key not in new),
        changed=changed,
        same=len(both) - len(changed),
    )


def price(row: CatalogRow) -> str:
    """Return what the whole machine costs an hour, to the nano."""
    unit, nanos = divmod(hourly_nanos(row), 10**_NANO_DIGITS)
    digits = f"{nanos:0{_NANO_DIGITS}}".rstrip("0")
    return f"{unit}{'.' if digits else ''}{digits} {row.cost.currency}"


def row_line(row: CatalogRow) -> str:
    """Return one row for a table: where, what, what it has, what it costs, and who says so."""
    size = row.resources
    gpus = f", {size.gpus} GPU" if size.gpus else ""
    local = f", {row.local_disk_gib} GiB local" if row.local_disk_gib else ""
    has = f"{_thousandths(size.cpu_millis)} vCPU, {size.mem_mib} MiB, {size.disk_gib} GiB{local}{gpus}"
    traits = ", ".join((row.architecture, row.posture.value))
    return f"{where(row.key)}  {row.region}  {has}  {traits}  {price(row)} an hour  ({row.cost.source})"


def age(ms: int) -> str:
    """Return an age in the largest whole unit."""
    seconds = max(0, ms) // 1000
    for unit, size in (("days", 24 * _HOUR_S), ("h", _HOUR_S), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def told_finding(finding: CatalogFinding) -> str:
    """Return a finding on one line."""
    return f"{finding.where or 'the whole catalog'} [{finding.reason}] {finding.detail}"


def plain_finding(finding: CatalogFinding) -> dict[str, Any]:
    """Return a finding as JSON has it."""
    return {"row": finding.where, "reason": finding.reason.value, "detail": finding.detail}


def _thousandths(millis: int) -> str:
    whole, rest = divmod(millis, 1000)
    return f"{whole}{f'.{rest:03}'.rstrip('0')}" if rest else str(whole)


def _timeless(row: CatalogRow) -> CatalogRow:
    return evolve(row, cost=evolve(row.cost, observed_at=UtcMs(0)))
