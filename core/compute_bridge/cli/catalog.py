"""``compute-bridge catalog``: what the backends of clouds could sell, and at what cost."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
from attrs import frozen

from compute_bridge.adapters.boot_file import LoadedBoot, load_boot
from compute_bridge.adapters.boot_inputs import prepare_folder, read_handshake
from compute_bridge.adapters.catalog_file import CATALOG_FOLDER, FileCatalogStore
from compute_bridge.cli.backends import Backends, backend_option, choose, find_backends
from compute_bridge.cli.catalog_text import Difference, age, compare, plain_finding, row_line, told_finding
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit, exit_code
from compute_bridge.cli.options import Decorator, config_option, json_option, set_option
from compute_bridge.host.catalog_gates import Judged, audit, judge
from compute_bridge.host.catalogs import fetch
from compute_bridge.host.costs import CostLimits
from compute_bridge.model.boot import BackendSettings
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.command import CommandContext
from compute_bridge.wire import codec

_POWERLESS = "reads no catalog; what it sells stands in its own table"
_NOTHING = "no catalog is stored; compute-bridge catalog refresh fetches one, where the backend reads any"


def catalog(context: CommandContext) -> int:
    """Run ``compute-bridge catalog``."""
    main = _catalog.main
    return int(main(context.arguments, "compute-bridge catalog", standalone_mode=False, obj=context.clock) or 0)


@click.group(name="catalog", help="Read, show and check what backends could sell, and at what cost.")
def _catalog() -> None: ...


@frozen
class _Desk:
    """What every subcommand works from: the boot file, and the folder of the stored catalogs."""

    loaded: LoadedBoot
    clock: Clock

    @property
    def store(self) -> FileCatalogStore:
        """The stored catalogs."""
        return FileCatalogStore(Path(self.loaded.boot.bridge.state_dir) / CATALOG_FOLDER)

    @property
    def now_ms(self) -> int:
        """The wall time."""
        return self.clock.utc_ms()

    def currency(self) -> str:
        """Return what the market settles in."""
        coalition = self.loaded.boot.coalition
        return read_handshake(Path(coalition.handshake), coalition.fingerprint).compute.currency


@frozen
class _Fetched:
    """What asking one backend came to; neither ``judged`` nor ``error`` where it lacks the power."""

    table: BackendSettings
    last: Catalog | None = None
    judged: Judged | None = None
    error: ComputeBridgeError | None = None

    @property
    def code(self) -> int:
        """What the process ends with for this one."""
        if self.error is not None:
            return exit_code(self.error)
        return Exit.ERROR if self.judged is not None and self.judged.catalog is None else Exit.OK


# --- with the cloud -------------------------------------------------------------------------------


@_catalog.command(short_help="Fetch, check and store.")
@config_option
@set_option
@backend_option
@click.option("--accept-shrunk", is_flag=True, help="Also take one that lost more than half of its rows.")
@json_option
@click.pass_obj
def refresh(
    clock: Clock, config: Path, flags: Mapping[str, str], *, names: Sequence[str], accept_shrunk: bool, as_json: bool
) -> int:
    """Open the backends, fetch the catalog of each that reads one, check it, and store it where it is good."""
    desk = _Desk(load_boot(config, flags=flags), clock)
    backends = find_backends(desk.loaded, names, clock)
    prepare_folder(Path(desk.loaded.boot.bridge.state_dir))
    fetched = anyio.run(partial(_fetch_all, desk, backends, desk.currency(), may_shrink=accept_shrunk, keep=True))
    _print(fetched, as_json=as_json, plain=_plain_refreshed, lines=_refreshed_lines)
    return _worst(fetched)


@_catalog.command(short_help="Tell what a refresh would change.")
@config_option
@set_option
@backend_option
@json_option
@click.pass_obj
def diff(clock: Clock, config: Path, flags: Mapping[str, str], *, names: Sequence[str], as_json: bool) -> int:
    """Fetch as refresh does, and tell how it differs from what is stored; store nothing."""
    desk = _Desk(load_boot(config, flags=flags), clock)
    backends = find_backends(desk.loaded, names, clock)
    fetched = anyio.run(partial(_fetch_all, desk, backends, desk.currency(), may_shrink=True, keep=False))
    _print(fetched, as_json=as_json, plain=_plain_different, lines=_different_lines)
    return _worst(fetched)


async def _fetch_all(desk: _Desk, backends: Backends, currency: str, *, may_shrink: bool, keep: bool) -> list[_Fetched]:
    found = []
    for table in backends.tables:
        one = await _fetch(desk, backends, table, currency, may_shrink)
        if keep and one.judged is not None and one.judged.catalog is not None:
            one = await _keep(desk, one, one.judged.catalog)
        found.append(one)
    return found


async def _fetch(desk: _Desk, backends: Backends, table: BackendSettings, currency: str, may_shrink: bool) -> _Fetched:
    try:
        async with backends.open(table) as backend:
            if not isinstance(backend, SupportsCatalog):
                return _Fetched(table)
            # Before the cloud is asked: nothing is fetched over a file that somebody must look at.
            last = await desk.store.load(table.name, table.kind)
            new = await fetch(table.name, table.kind, backend, within_s=desk.loaded.boot.catalog.fetch_s)
    except ComputeBridgeError as error:
        return _Fetched(table, error=error)
    return _Fetched(table, last, judge(new, last, currency=currency, now_ms=desk.now_ms, may_shrink=may_shrink))


async def _keep(desk: _Desk, one: _Fetched, good: Catalog) -> _Fetched:
    try:
        await desk.store.save(good)
    except ComputeBridgeError as error:
        return _Fetched(one.table, one.last, error=error)
    return one


# --- from the files alone -------------------------------------------------------------------------

_spot_option: Decorator = click.option("--spot/--on-demand", "is_spot", default=None, help="Only rows of this sort.")


@_catalog.command(short_help="Print the stored rows.")
@config_option
@set_option
@backend_option
@click.option("--region", help="Only rows of this region.")
@click.option("--shape", default="*", help="Only rows of this shape, a name or a pattern with *.")
@_spot_option
@json_option
@click.pass_obj
def show(
    clock: Clock,
    config: Path,
    flags: Mapping[str, str],
    *,
    names: Sequence[str],
    region: str | None,
    shape: str,
    is_spot: bool | None,
    as_json: bool,
) -> int:
    """Print the rows that are stored, each with what the whole machine costs an hour, and how old they are."""

    def wanted(row: CatalogRow) -> bool:
        is_there = region is None or row.region == region
        return is_there and fnmatchcase(row.shape, shape) and is_spot in (None, row.spot)

    desk = _Desk(load_boot(config, flags=flags), clock)
    stored = _stored(desk, names)
    if as_json:
        say(json.dumps([_plain_stored(desk, *one, wanted) for one in stored], indent=2))
    else:
        for line in (line for one in stored for line in _stored_lines(desk, *one, wanted)):
            say(line)
    return Exit.ERROR if names and any(found is None for _, found in stored) else Exit.OK


@_catalog.command(short_help="Judge the stored rows anew.")
@config_option
@set_option
@backend_option
@json_option
@click.pass_obj
def check(clock: Clock, config: Path, flags: Mapping[str, str], *, names: Sequence[str], as_json: bool) -> int:
    """Judge what is stored as if it had just come, and the age of each cost against rate.cost_max_age_s."""
    desk = _Desk(load_boot(config, flags=flags), clock)
    currency, limits = desk.currency(), CostLimits.of(desk.loaded.boot.rate)
    is_well, told = True, []
    for table, found in _stored(desk, names):
        findings = audit(found, currency=currency, limits=limits, now_ms=desk.now_ms) if found is not None else ()
        is_well = is_well and not findings and (found is not None or not names)
        plain = {"backend": table.name, "is_stored": found is not None, "findings": [*map(plain_finding, findings)]}
        told.append(plain)
        if not as_json:
            say(f"{_head(table)}: {_state(desk, found)}, {len(findings)} findings" if found else _none(table))
            for finding in findings:
                say(f"  {told_finding(finding)}")
    if as_json:
        say(json.dumps(told, indent=2))
    return Exit.OK if is_well else Exit.ERROR


def _stored(desk: _Desk, names: Sequence[str]) -> list[tuple[BackendSettings, Catalog | None]]:
    async def load() -> list[tuple[BackendSettings, Catalog | None]]:
        tables = choose(desk.loaded, names)
        return [(table, await desk.store.load(table.name, table.kind)) for table in tables]

    return anyio.run(load)


# --- what is told ---------------------------------------------------------------------------------


def _print(
    fetched: Sequence[_Fetched],
    *,
    as_json: bool,
    plain: Callable[[_Fetched], dict[str, Any]],
    lines: Callable[[_Fetched], Iterator[str]],
) -> None:
    if as_json:
        say(json.dumps([plain(one) for one in fetched], indent=2))
        return
    for line in (line for one in fetched for line in lines(one)):
        say(line)


def _worst(fetched: Sequence[_Fetched]) -> int:
    return next((one.code for one in fetched if one.code), Exit.OK)


def _plain_refreshed(one: _Fetched) -> dict[str, Any]:
    judged = one.judged
    good = judged.catalog if judged is not None else None
    return {
        "backend": one.table.name,
        "kind": one.table.kind,
        "reads_catalog": judged is not None or one.error is not None,
        "rows": len(good.rows) if good is not None and one.error is None else 0,
        "findings": [plain_finding(finding) for finding in judged.findings] if judged is not None else [],
        "error": str(one.error) if one.error is not None else "",
    }


def _refreshed_lines(one: _Fetched) -> Iterator[str]:
    judged = one.judged
    if one.error is not None or judged is None:
        yield f"{_head(one.table)}: {one.error or _POWERLESS}"
    elif judged.catalog is None:
        yield f"{_head(one.table)}: refused, {'the stored one stays' if one.last else 'nothing is stored'}"
    else:
        yield f"{_head(one.table)}: {len(judged.catalog.rows)} rows stored"
    for finding in judged.findings if judged is not None else ():
        yield f"  {told_finding(finding)}"


def _plain_different(one: _Fetched) -> dict[str, Any]:
    found = _difference(one)
    rows = {
        "new": [codec.plain(row) for row in found.new],
        "gone": [codec.plain(row) for row in found.gone],
        "changed": [{"before": codec.plain(before), "after": codec.plain(after)} for before, after in found.changed],
    }
    return {**_plain_refreshed(one), **rows, "same": found.same}


def _different_lines(one: _Fetched) -> Iterator[str]:
    if one.judged is None or one.judged.catalog is None:
        yield from _refreshed_lines(one)
        return
    found = _difference(one)
    counts = f"{len(found.new)} new, {len(found.gone)} gone, {len(found.changed)} changed, {found.same} the same"
    yield f"{_head(one.table)}: {counts}"
    yield from (f"  {line}" for line in found.lines())
    yield from (f"  {told_finding(finding)}" for finding in one.judged.findings)


def _difference(one: _Fetched) -> Difference:
    after = one.judged.catalog if one.judged is not None else None
    return compare(one.last, after if after is not None else one.last)


def _plain_stored(
    desk: _Desk, table: BackendSettings, found: Catalog | None, wanted: Callable[[CatalogRow], bool]
) -> dict[str, Any]:
    head = {"backend": table.name, "kind": table.kind, "is_stored": found is not None}
    if found is None:
        return head
    rows = [codec.plain(row) for row in found.rows if wanted(row)]
    age_ms = max(0, desk.now_ms - found.observed_at)
    return {**head, "observed_at": found.observed_at, "age_ms": age_ms, "rows": rows}


def _stored_lines(
    desk: _Desk, table: BackendSettings, found: Catalog | None, wanted: Callable[[CatalogRow], bool]
) -> Iterator[str]:
    if found is None:
        yield _none(table)
        return
    yield f"{_head(table)}: {_state(desk, found)}"
    yield from (f"  {row_line(row)}" for row in found.rows if wanted(row))


def _state(desk: _Desk, found: Catalog) -> str:
    return f"{len(found.rows)} rows, read {age(desk.now_ms - found.observed_at)} ago"


def _none(table: BackendSettings) -> str:
    return f"{_head(table)}: {_NOTHING}"


def _head(table: BackendSettings) -> str:
    return f"{table.name} ({table.kind})"
