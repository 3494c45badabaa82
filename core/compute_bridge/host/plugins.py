"""Plugins: found by entry point, measured, fenced by version, and asked once for the kinds they add."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Final

import attrs
import pluggy
from attrs import field, frozen

from compute_bridge.host.distribution import Measurement, Promise, measure, promises
from compute_bridge.ports import hookspecs
from compute_bridge.ports.backend import BackendKind
from compute_bridge.ports.errors import PluginError
from compute_bridge.ports.hookspecs import PLUGIN_API, NetworkKind, QuoteSourceKind, ShuffleKind
from compute_bridge.ports.strategy import (
    ClearingRuleKind,
    RatePolicyKind,
    ReputationPolicyKind,
    RoutingPolicyKind,
    SettlementKind,
)

#: The noun of each hook ``register_<group>`` and the class of what it returns.
GROUPS: Final[Mapping[str, type[Any]]] = {
    "backends": BackendKind,
    "rate_policies": RatePolicyKind,
    "reputation_policies": ReputationPolicyKind,
    "settlements": SettlementKind,
    "routing_policies": RoutingPolicyKind,
    "networks": NetworkKind,
    "shuffles": ShuffleKind,
    "quote_sources": QuoteSourceKind,
    "clearing_rules": ClearingRuleKind,
}

#: Kinds of our own distributions, so that an error can say what to install.
OURS: Final = {
    "baremetal": "compute-bridge-baremetal",
    "cheapest": "compute-bridge-routing",
    "cost-plus": "compute-bridge-rates",
    "first-fit": "compute-bridge-routing",
    "fixed": "compute-bridge-rates",
    "ledger": "compute-bridge-ledger",
    "lowest-rate": "compute-bridge-market",
}
HOST: Final = "compute-bridge"

logger = logging.getLogger(__name__)


@frozen
class Registered:
    """One kind that a plugin has registered: by which hook, and from where."""

    group: str
    kind: str
    value: Any = field(repr=False)
    where: str


@frozen
class Plugins:
    """The kinds that were asked for, loaded, and what was measured of the distributions they came from."""

    registered: tuple[Registered, ...]
    measurements: tuple[Measurement, ...] = ()

    def kind(self, group: str, kind: str) -> Any:
        """Return the kind object that ``kind`` names in ``group`` (``backends``).

        :raises PluginError: if no loaded plugin has it there.
        """
        for found in self.registered:
            if (found.group, found.kind) == (group, kind):
                return found.value
        raise PluginError(_elsewhere(self.registered, group, kind))

    @property
    def measured(self) -> dict[str, bytes]:
        """The digest of each distribution by its name."""
        return {found.distribution: found.digest for found in self.measurements}


def load(
    wanted: Iterable[tuple[str, str]],
    *,
    builtins: Sequence[ModuleType],
    pins: Mapping[str, str] | None = None,
    installed: Sequence[Promise] | None = None,
) -> Plugins:
    """Return the ``wanted`` kinds (group, word): found, measured, compared with ``pins``, then imported.

    Nothing else is imported. ``builtins`` are modules of ours that register like any plugin; a kind of
    theirs is never looked for elsewhere, so what is installed beside us cannot take its place.
    ``installed`` stands in for this environment's entry points. Every hook call is logged at debug level.

    :raises PluginError: if a kind is missing, doubled or broken, or a distribution is not as pinned.
    """
    installed = promises() if installed is None else installed
    registered = [found for module in builtins for found in register(module, f"built in, {module.__name__}")]
    own = {(found.group, found.kind) for found in registered}
    sought = [choice for choice in dict.fromkeys(wanted) if choice not in own]
    chosen = _choose(sought, installed)
    measurements = _measure(chosen, pins or {}, installed)
    for first in {(promise.distribution, promise.target): promise for promise in reversed(chosen)}.values():
        others = [one for one in installed if (one.distribution, one.target) == (first.distribution, first.target)]
        registered += import_plugin([first, *(one for one in others if one.kind != first.kind)])
    require_distinct(registered)
    plugins = Plugins(tuple(registered), measurements)
    for group, kind in sought:
        plugins.kind(group, kind)
    return plugins


def import_plugin(promised: Sequence[Promise]) -> list[Registered]:
    """Import the one target of these promises and return what it registers.

    :raises PluginError: if it does not load, is of another API, or registers anything but what is promised.
    """
    first = promised[0]
    try:
        plugin = first.entry.load()
    except (Exception, SystemExit) as error:  # a supervisor: a plugin may raise anything
        raise PluginError(
            f"{first.where}: does not import: {type(error).__name__}: {error}; "
            f"mend the plugin, or pip install --force-reinstall {first.distribution}"
        ) from error
    registered = register(plugin, first.where)
    kinds = {found.kind for found in registered}
    for promise in promised:
        if promise.kind not in kinds:
            raise PluginError(
                f"{promise.where}: registers no kind {promise.kind!r} but {_list(kinds)}; "
                "is the function that returns it decorated with @hookimpl, and named register_...?"
            )
    if stray := kinds - {promise.kind for promise in promised}:
        raise PluginError(
            f"{first.where}: registers {_list(stray)}, which none of its entry points promises; "
            f"add one named so to [project.entry-points.compute_bridge] of {first.distribution}"
        )
    return registered


def register(plugin: Any, where: str) -> list[Registered]:
    """Call each hook of one plugin once and return the kinds, checked.

    :raises PluginError: if a hook is misspelt, asynchronous, raises, or returns anything but a list of kinds.
    """
    _require_api(plugin, where)
    # A manager of its own, so that a fault is this plugin's and no plugin can wrap the hooks of another.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{where}: {_first_line(error)}; {_nearest_hook(str(error))}") from error
    return [found for group in GROUPS for found in _call(manager, group, where)]


def require_distinct(registered: Iterable[Registered]) -> None:
    """Raise unless every kind of a group comes from one place.

    :raises PluginError: naming both places.
    """
    seen: dict[tuple[str, str], Registered] = {}
    for found in registered:
        other = seen.setdefault((found.group, found.kind), found)
        if other is not found:
            raise PluginError(
                f"kind {found.kind!r} of {found.group} is registered twice: {other.where}; and {found.where}; "
                "uninstall one, or ask its author to rename it"
            )


# --- choosing ---------------------------------------------------------------------------------------


def _choose(sought: Iterable[tuple[str, str]], installed: Sequence[Promise]) -> list[Promise]:
    chosen: list[Promise] = []
    faults: list[str] = []
    for group, kind in sought:
        found = [promise for promise in installed if promise.kind == kind]
        if len(found) == 1:
            chosen += found
        else:
            faults.append(_doubled(kind, found) if found else _missing(group, kind, installed))
    if faults:
        raise PluginError("\n".join(dict.fromkeys(faults)))
    return chosen


def _doubled(kind: str, found: Sequence[Promise]) -> str:
    places = "; and ".join(promise.where for promise in found)
    return f"kind {kind!r} is provided more than once: {places}; uninstall all but one"


def _missing(group: str, kind: str, installed: Sequence[Promise]) -> str:
    head = f"kind {kind!r} of {group} is not installed"
    close = get_close_matches(kind, {*OURS, *(promise.kind for promise in installed)}, n=1)
    if kind not in OURS and close:
        return f"{head}; did you mean {close[0]!r}?"
    return f"{head}; pip install {OURS.get(kind, f'compute-bridge-{kind}')}"


def _measure(
    chosen: Sequence[Promise], pins: Mapping[str, str], installed: Sequence[Promise]
) -> tuple[Measurement, ...]:
    by_distribution = {promise.distribution: promise for promise in chosen}
    measurements = tuple(measure(by_distribution[name]) for name in sorted(by_distribution))
    faults = list(_broken_pins(measurements, pins, {promise.distribution for promise in installed}))
    if faults:
        raise PluginError("\n".join(faults))
    return measurements


def _broken_pins(measurements: Iterable[Measurement], pins: Mapping[str, str], installed: set[str]) -> Iterator[str]:
    for name in sorted(set(pins) - installed):
        close = get_close_matches(name, installed, n=1)
        mend = f"did you mean {close[0]}?" if close else f"pip install {name}, or remove the pin"
        yield f"[plugins] pins {name}, which is not installed; {mend}"
    for found in measurements:
        pin = pins.get(found.distribution, found.pin)
        if pin != found.pin:
            yield (
                f"distribution {found.distribution} {found.version} is not as [plugins] pins it: "
                f"pinned {pin}, on the disk {found.pin}; install the version that was pinned, or pin this one"
            )


# --- checking what a plugin does ----------------------------------------------------------------------


def _require_api(plugin: Any, where: str) -> None:
    api = getattr(plugin, "COMPUTE_BRIDGE_API", None)
    if api is None:
        raise PluginError(f"{where}: says no plugin API; write COMPUTE_BRIDGE_API = {PLUGIN_API} where its hooks are")
    if type(api) is not int or api != PLUGIN_API:
        older = "the plugin" if type(api) is int and api < PLUGIN_API else HOST
        raise PluginError(f"{where}: is written for plugin API {api!r}, this {HOST} has {PLUGIN_API}; upgrade {older}")


def _call(manager: pluggy.PluginManager, group: str, where: str) -> list[Registered]:
    name = f"register_{group}"
    hook: Any = getattr(manager.hook, name)
    implementations = hook.get_hookimpls()
    if not implementations:
        return []
    if any(one.wrapper or one.hookwrapper for one in implementations):
        raise PluginError(
            f"{where}: {name}() is a wrapper; a hook returns kinds and wraps nothing, write @hookimpl alone"
        )
    try:
        results = hook()
    except Exception as error:  # a supervisor: a plugin may raise anything
        raise PluginError(
            f"{where}: {name}() raised {type(error).__name__}: {error}; a hook only returns kinds, mend it"
        ) from error
    # pluggy leaves out a result of None.
    kinds = _require_kinds(results[0] if results else None, group, f"{where}: {name}()")
    logger.debug("hook %s() of %s returned %s", name, where, _list(kind.kind for kind in kinds))
    return [Registered(group, kind.kind, kind, where) for kind in kinds]


def _require_kinds(result: Any, group: str, what: str) -> list[Any]:
    if hasattr(result, "__await__"):
        getattr(result, "close", bool)()  # or Python warns of a coroutine that nobody awaited
        raise PluginError(f"{what} is asynchronous; write def instead of async def, and open things in the kind")
    wanted = GROUPS[group]
    if type(result) is not list:
        raise PluginError(f"{what} returned {type(result).__name__}, not a list; return [{wanted.__name__}(...)]")
    for kind in result:
        if not isinstance(kind, wanted):
            raise PluginError(
                f"{what} returned a list with a {type(kind).__name__} in it; return only {wanted.__name__}"
            )
        if not isinstance(kind.config, type) or not attrs.has(kind.config):
            raise PluginError(f"{what}: the config of kind {kind.kind!r} is no attrs class; decorate it with @frozen")
        if not callable(kind.open):
            raise PluginError(f"{what}: the opener of kind {kind.kind!r} cannot be called; give a function")
    return result


def _nearest_hook(message: str) -> str:
    names = [f"register_{group}" for group in GROUPS]
    for word in message.replace("'", " ").split():
        if word not in names and (close := get_close_matches(word, names, n=1)):
            return f"did you mean {close[0]}?"
    return f"the hooks are {', '.join(names)}, all without arguments"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _elsewhere(registered: Iterable[Registered], group: str, kind: str) -> str:
    for found in registered:
        if found.kind == kind:
            return (
                f"kind {kind!r} of {group} is wanted, but {found.where} registers it among {found.group}; name another"
            )
    return f"kind {kind!r} of {group} is not loaded; the boot file must name it"


def _list(kinds: Iterable[str]) -> str:
    return ", ".join(sorted(kinds)) or "nothing"
