"""What one plugin registers: imported, fenced by version, asked once, and checked."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import attrs
import pluggy
from attrs import field, frozen

from compute_bridge.host.distribution import Promise
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

#: The distribution that is not a plugin: ours.
HOST: Final = "compute-bridge"

logger = logging.getLogger(__name__)


@frozen
class Registered:
    """One kind that a plugin has registered: by which hook, and from where."""

    group: str
    kind: str
    value: Any = field(repr=False)
    where: str


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


def _list(kinds: Iterable[str]) -> str:
    return ", ".join(sorted(kinds)) or "nothing"
