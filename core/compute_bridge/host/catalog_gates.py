"""What of a fetched catalog is believed: the gates that no judge of single offers can hold.

How old a price is and whether it jumps is judged offer by offer, in :mod:`~compute_bridge.host.costs`.
"""

from collections.abc import Iterator, Mapping

from attrs import evolve, frozen

from compute_bridge.host.costs import AHEAD_MS, CostLimits
from compute_bridge.host.plugin_call import PluginResultError, backend_call
from compute_bridge.model.catalog import MAX_ROWS, Catalog, CatalogRow, RowKey
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import BackendName
from compute_bridge.model.reason import Reason
from compute_bridge.wire import codec

# 0.0001 and 1000 of the currency unit, for a vCPU and hour.
_LEAST_NANOS, _MOST_NANOS = 10**5, 10**12
# By which a price is multiplied, so that thousandths of a vCPU and MiB stay whole.
_PARTS = 1_024_000


@frozen
class CatalogFinding:
    """What is wrong with one row, by its key, or with the catalog as a whole."""

    reason: Reason
    detail: str
    row: RowKey | None = None

    @property
    def where(self) -> str:
        """The row in one word, empty for the whole catalog."""
        return where(self.row) if self.row is not None else ""


@frozen
class Judged:
    """A catalog without the rows that are not believed, and what was found; no catalog where it is refused whole."""

    catalog: Catalog | None
    findings: tuple[CatalogFinding, ...]


def where(key: RowKey) -> str:
    """Return a row's key in one word: its zone, or region where it has none, and its shape."""
    region, zone, shape, spot = key
    return f"{zone or region}/{shape}{'/spot' if spot else ''}"


def hourly_nanos(row: CatalogRow) -> int:
    """Return what the whole machine costs an hour without address, disk and egress, rounded up to whole nanos."""
    return -(-_hourly_nanos(row) // _PARTS)


def check_catalog(backend: BackendName, kind: str, answer: object) -> Catalog:
    """Return what ``fetch_catalog`` answered, made anew from its plain data, so that nothing of it is the plugin's.

    :raises PluginResultError: if it is no catalog of this backend and kind.
    :raises BackendFaultError: if it cannot be read at all.
    """
    if type(answer) is not Catalog:
        raise _wrong(backend, f"returned {type(answer).__name__}, not Catalog")
    if type(answer.rows) is not tuple or len(answer.rows) > MAX_ROWS:
        raise _wrong(backend, f"returned rows that are no tuple of at most {MAX_ROWS}")
    with backend_call(backend, "what fetch_catalog returned, read,"):
        plain = codec.plain(answer)
    try:
        catalog = codec.from_plain(plain, Catalog)
    except RecordError as error:
        raise _wrong(backend, f"returned what is {str(error)[:300]}") from error
    if (catalog.backend, catalog.kind) != (backend, kind):
        raise _wrong(backend, f"returned the catalog of backend {catalog.backend} of kind {catalog.kind}")
    return catalog


def judge(fetched: Catalog, last: Catalog | None, *, currency: str, now_ms: int, may_shrink: bool = False) -> Judged:
    """Return what of ``fetched`` is believed after ``last``, the last good one of its backend.

    ``may_shrink`` is the operator's word that rows were meant to go.
    """
    findings = tuple(_row_findings(fetched, currency))
    bad = {finding.row for finding in findings}
    kept = evolve(fetched, rows=tuple(row for row in fetched.rows if row.key not in bad))
    whole = _whole_finding(kept, last, now_ms, may_shrink=may_shrink)
    return Judged(kept, findings) if whole is None else Judged(None, (whole, *findings))


def audit(stored: Catalog, *, currency: str, limits: CostLimits, now_ms: int) -> tuple[CatalogFinding, ...]:
    """Return what is wrong with a stored catalog now: the gates anew, and the age of each cost."""
    judged = judge(stored, None, currency=currency, now_ms=now_ms)
    known = {finding.row for finding in judged.findings}
    aged = (_age_finding(row, limits, now_ms) for row in stored.rows if row.key not in known)
    return (*judged.findings, *(finding for finding in aged if finding is not None))


# --- the gates ------------------------------------------------------------------------------------


def _row_findings(catalog: Catalog, currency: str) -> Iterator[CatalogFinding]:
    good: dict[RowKey, int] = {}
    # On demand stands before spot, so its price is known by then.
    for row in catalog.rows:
        nanos = _hourly_nanos(row)
        verdict = _row_verdict(row, nanos, currency) or _spot_verdict(row, nanos, good)
        if verdict is None:
            good[row.key] = nanos
        else:
            yield CatalogFinding(*verdict, row.key)


def _row_verdict(row: CatalogRow, nanos: int, currency: str) -> tuple[Reason, str] | None:
    if row.cost.currency != currency:
        return Reason.CATALOG_CURRENCY, f"costs {row.cost.currency}, and the market settles in {currency}"
    if nanos == 0:
        return Reason.COST_ZERO, "its price is nothing; a shape whose price is not known has no row"
    per_vcpu = 1000 * nanos // (_PARTS * row.resources.cpu_millis)
    if not _LEAST_NANOS <= per_vcpu <= _MOST_NANOS:
        return (
            Reason.CATALOG_UNIT,
            f"{per_vcpu} nanos for a vCPU and hour are not within {_LEAST_NANOS} to {_MOST_NANOS}; "
            "is the price in another unit?",
        )
    return None


def _spot_verdict(row: CatalogRow, nanos: int, good: Mapping[RowKey, int]) -> tuple[Reason, str] | None:
    if not row.spot:
        return None
    # Where on demand is told for the region alone, the same holds in each of its zones.
    beside = good.get((row.region, row.zone, row.shape, False), good.get((row.region, "", row.shape, False)))
    if beside is None or nanos <= beside:
        return None
    said = f"spot costs {nanos // _PARTS} nanos an hour, on demand {beside // _PARTS}"
    return Reason.CATALOG_SPOT, f"{said}; sold again when it costs no more"


def _whole_finding(kept: Catalog, last: Catalog | None, now_ms: int, *, may_shrink: bool) -> CatalogFinding | None:
    ahead_ms = kept.observed_at - now_ms
    if ahead_ms > AHEAD_MS:
        return CatalogFinding(Reason.COST_FUTURE, f"read {ahead_ms // 1000} s in the future; set both clocks right")
    if not kept.rows:
        return CatalogFinding(Reason.CATALOG_SHRUNK, "no row is left; look at the shapes in the backend's table")
    if last is not None and not may_shrink and 2 * len(kept.rows) < len(last.rows):
        return CatalogFinding(
            Reason.CATALOG_SHRUNK,
            f"{len(kept.rows)} of {len(last.rows)} rows are left; if that is meant, "
            "compute-bridge catalog refresh --accept-shrunk",
        )
    return None


def _age_finding(row: CatalogRow, limits: CostLimits, now_ms: int) -> CatalogFinding | None:
    age_ms = now_ms - row.cost.observed_at
    if age_ms < -AHEAD_MS:
        return CatalogFinding(Reason.COST_FUTURE, f"observed {-age_ms // 1000} s in the future", row.key)
    if age_ms >= limits.max_age_ms:
        most = limits.max_age_ms // 1000
        detail = f"observed {age_ms // 1000} s ago, more than rate.cost_max_age_s = {most}"
        return CatalogFinding(Reason.COST_STALE, detail, row.key)
    return None


def _hourly_nanos(row: CatalogRow) -> int:
    """Return what the whole machine costs an hour without address, disk and egress, times ``_PARTS``."""
    size, units = row.resources, row.cost.units
    whole = _PARTS * (units.machine + size.gpus * units.gpu)
    return whole + 1024 * size.cpu_millis * units.vcpu + 1000 * size.mem_mib * units.ram_gib


def _wrong(backend: BackendName, what: str) -> PluginResultError:
    return PluginResultError(f"backend {backend}: fetch_catalog {what}; report it to the plugin's author")
