"""The catalogs of the backends that have the power: loaded, fetched, judged, kept, and handed over."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import anyio
import anyio.to_thread
from attrs import define

from compute_bridge.host.catalog_gates import CatalogFinding, Judged, check_catalog, judge
from compute_bridge.host.plugin_call import BackendFaultError, PluginResultError, backend_call, reason_of
from compute_bridge.model.boot import BackendSettings, CatalogSettings
from compute_bridge.model.catalog import Catalog
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.model.ids import BackendName
from compute_bridge.model.reason import Reason
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.catalog import CatalogError, CatalogStore, SupportsCatalog
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BackendError, UnavailableError

logger = logging.getLogger(__name__)

MOST_NAMED = 100
"""How many rows that were left out ``status`` names."""
RETRY_MS = 60_000
"""How long after a failed attempt the next one comes; twice as long after each more, up to the usual time."""
_INLINE = 1000


class CatalogRefusedError(ComputeBridgeError):
    """A fetched catalog is not believed as a whole; the last good one stays, ``reason`` is the stable code."""

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


_FAILURES = (BackendError, PluginResultError, CatalogError, CatalogRefusedError)


async def fetch(backend: BackendName, kind: str, power: SupportsCatalog, *, within_s: float) -> Catalog:
    """Return a new catalog that is one, and this backend's; no gate has judged it yet. ``within_s`` is real time.

    :raises BackendError: if it cannot be had.
    :raises PluginResultError: if what comes is no catalog of this backend and kind.
    """
    try:
        with anyio.fail_after(within_s), backend_call(backend, "fetch_catalog"):
            answer: object = await power.fetch_catalog()
    except TimeoutError as error:
        raise UnavailableError(
            f"backend {backend}: no catalog within {within_s:g} s; raise catalog.fetch_s, or sell in fewer places"
        ) from error
    if type(answer) is Catalog and type(answer.rows) is tuple and len(answer.rows) > _INLINE:
        # Longer than the event loop may stand still.
        return await anyio.to_thread.run_sync(check_catalog, backend, kind, answer)
    return check_catalog(backend, kind, answer)


@define
class _Shelf:
    """How the catalog of one backend stands."""

    name: BackendName
    kind: str
    power: SupportsCatalog
    catalog: Catalog | None = None
    left_out: tuple[CatalogFinding, ...] = ()
    failures: int = 0
    reason: Reason | None = None
    detail: str = ""


class Catalogs:
    """The catalogs of a bridge's backends; a backend without the power has no part in it. One event loop only.

    ``currency`` is what the market settles in. Each backend is given with its table, which has its name and kind.
    """

    def __init__(
        self,
        backends: Sequence[tuple[BackendSettings, Backend]],
        store: CatalogStore,
        clock: Clock,
        *,
        settings: CatalogSettings,
        currency: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._currency = currency
        self._shelves = [
            _Shelf(table.name, table.kind, backend)
            for table, backend in backends
            if isinstance(backend, SupportsCatalog)
        ]

    async def load(self) -> None:
        """Hand every backend its stored catalog, where there is one; ask no cloud.

        :raises CatalogError: naming every stored one that cannot be used; the others are handed over.
        """
        unusable = []
        for shelf in self._shelves:
            error = await self._attempt(shelf, self._load)
            if isinstance(error, CatalogError):
                unusable.append(str(error))
        if unusable:
            raise CatalogError("\n".join(unusable))

    async def fetch_missing(self) -> None:
        """Fetch the catalogs that are not stored, all at once; never raises for what a backend does."""
        async with anyio.create_task_group() as tasks:
            for shelf in self._shelves:
                if shelf.catalog is None and shelf.reason is not Reason.CATALOG_FILE:
                    tasks.start_soon(self._attempt, shelf, self._renew)

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the catalogs new until cancelled; ``changed`` is called after a backend was handed another one."""
        async with anyio.create_task_group() as tasks:
            for shelf in self._shelves:
                tasks.start_soon(self._keep, shelf, changed)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return how each backend's catalog stands; without an age where it has none."""
        return {shelf.name: self._told(shelf) for shelf in self._shelves}

    # --- one backend ----------------------------------------------------------------------------

    async def _keep(self, shelf: _Shelf, changed: Callable[[], None]) -> None:
        wait_ms = self._first_wait_ms(shelf)
        while True:
            await self._clock.sleep_ms(wait_ms)
            before = shelf.catalog
            await self._attempt(shelf, self._renew)
            if shelf.catalog is not before:
                changed()
            wait_ms = self._retry_ms(shelf) if shelf.failures else self._refresh_ms

    @property
    def _refresh_ms(self) -> int:
        return 1000 * self._settings.refresh_s

    def _first_wait_ms(self, shelf: _Shelf) -> int:
        if shelf.failures:
            return self._retry_ms(shelf)
        if shelf.catalog is None:
            return 0
        # By the wall clock, which may be wrong by any amount.
        return min(max(0, self._refresh_ms - self._age_ms(shelf.catalog)), self._refresh_ms)

    def _retry_ms(self, shelf: _Shelf) -> int:
        return min(RETRY_MS << min(shelf.failures - 1, 16), self._refresh_ms)

    async def _attempt(self, shelf: _Shelf, work: Callable[[_Shelf], Awaitable[None]]) -> ComputeBridgeError | None:
        try:
            await work(shelf)
        except _FAILURES as error:
            self._fail(shelf, error)
            return error
        if shelf.failures:
            logger.info("backend %s: its catalog is well again", shelf.name)
        shelf.failures, shelf.reason, shelf.detail = 0, None, ""
        return None

    async def _load(self, shelf: _Shelf) -> None:
        stored = await self._store.load(shelf.name, shelf.kind)
        if stored is None:
            return
        judged = await self._judged(stored, None)
        _note(shelf, judged)
        if judged.catalog is None:
            logger.warning("backend %s: its stored catalog is not used: %s", shelf.name, judged.findings[0].detail)
            return
        _hand_over(shelf, judged.catalog)
        age_s = self._age_ms(stored) // 1000
        logger.info("backend %s: %d rows of a catalog of %d s ago", shelf.name, len(judged.catalog.rows), age_s)

    async def _renew(self, shelf: _Shelf) -> None:
        if shelf.catalog is None:
            # Also what could not be read before: nothing is fetched over it. What the backend did not take may go.
            with suppress(BackendError):
                await self._load(shelf)
        fetched = await fetch(shelf.name, shelf.kind, shelf.power, within_s=self._settings.fetch_s)
        judged = await self._judged(fetched, shelf.catalog)
        _note(shelf, judged)
        if judged.catalog is None:
            refused = judged.findings[0]
            raise CatalogRefusedError(
                f"backend {shelf.name}: its new catalog is refused: {refused.detail}", reason=refused.reason
            )
        _hand_over(shelf, judged.catalog)
        await self._store.save(judged.catalog)

    async def _judged(self, fetched: Catalog, last: Catalog | None) -> Judged:
        def judged() -> Judged:
            return judge(fetched, last, currency=self._currency, now_ms=self._clock.utc_ms())

        return judged() if len(fetched.rows) <= _INLINE else await anyio.to_thread.run_sync(judged)

    def _fail(self, shelf: _Shelf, error: ComputeBridgeError) -> None:
        reason = _reason(error)
        # Once for each reason, not at every attempt: status has the latest.
        if shelf.reason is not reason:
            if shelf.catalog is None:
                stands = "it has none, and sells nothing yet"
            else:
                stands = f"the one of {self._age_ms(shelf.catalog) // 1000} s ago stays"
            logger.warning("backend %s: no new catalog, %s: %s: %s", shelf.name, stands, reason, error)
        shelf.failures, shelf.reason, shelf.detail = shelf.failures + 1, reason, str(error)

    # --- what is told ---------------------------------------------------------------------------

    def _age_ms(self, catalog: Catalog) -> int:
        return max(0, self._clock.utc_ms() - catalog.observed_at)

    def _told(self, shelf: _Shelf) -> dict[str, Any]:
        catalog = shelf.catalog
        return {
            "rows": len(catalog.rows) if catalog is not None else 0,
            **({"age_ms": self._age_ms(catalog)} if catalog is not None else {}),
            "left_out": len(shelf.left_out),
            "left_out_rows": [f"{one.where}: {one.reason}: {one.detail}" for one in shelf.left_out[:MOST_NAMED]],
            "failures": shelf.failures,
            "reason": shelf.reason.value if shelf.reason is not None else "",
            "detail": shelf.detail,
        }


def _hand_over(shelf: _Shelf, catalog: Catalog) -> None:
    with backend_call(shelf.name, "use_catalog"):
        answer: object = shelf.power.use_catalog(catalog)
    if answer is not None:
        raise BackendFaultError(
            f"backend {shelf.name}: use_catalog returned {type(answer).__name__}, not None; "
            "report it to the plugin's author"
        )
    shelf.catalog = catalog


def _note(shelf: _Shelf, judged: Judged) -> None:
    """Keep which rows were left out, and log each reason when its rows are others than before."""
    before = _by_reason(shelf.left_out)
    shelf.left_out = tuple(finding for finding in judged.findings if finding.row is not None)
    for reason, findings in _by_reason(shelf.left_out).items():
        if {one.row for one in findings} != {one.row for one in before.get(reason, ())}:
            first, count = findings[0], len(findings)
            told = (shelf.name, count, reason, first.where, first.detail)
            logger.warning("backend %s: %d rows of its catalog are left out: %s: %s: %s", *told)


def _by_reason(findings: Iterable[CatalogFinding]) -> dict[Reason, list[CatalogFinding]]:
    ordered = sorted(findings, key=lambda one: one.reason)
    return {reason: list(ones) for reason, ones in groupby(ordered, key=lambda one: one.reason)}


def _reason(error: ComputeBridgeError) -> Reason:
    match error:
        case CatalogRefusedError():
            return error.reason
        case CatalogError():
            return Reason.CATALOG_FILE
        case _:
            return reason_of(error)
