"""What ``plugins check`` reports: every installed plugin imported and asked, each fault told by itself."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from types import ModuleType
from typing import Any

from attrs import evolve, frozen

from compute_bridge.host.distribution import Promise, measure, promises
from compute_bridge.host.registration import HOST, Registered, import_plugin, register, require_distinct
from compute_bridge.ports.errors import PluginError


@frozen
class PluginReport:
    """One plugin: where it is from, the kinds it registers as (group, kind), its pin, and its fault or nothing."""

    distribution: str
    version: str
    target: str
    kinds: tuple[tuple[str, str], ...] = ()
    pin: str = ""
    fault: str = ""


def check_plugins(
    *,
    version: str,
    builtins: Sequence[ModuleType],
    readable: Callable[[type[Any]], None],
    installed: Sequence[Promise] | None = None,
) -> tuple[PluginReport, ...]:
    """Import and ask every installed plugin and return what became of each, the built-in ones first.

    ``version`` is the host's. ``readable`` raises ``TypeError`` for a config class that no file can hold.
    """
    known: list[Registered] = []
    reports = [_builtin(module, version, known) for module in builtins]
    for promised in _by_target(promises() if installed is None else installed):
        first = promised[0]
        report = PluginReport(first.distribution, first.version, first.target)
        try:
            report = evolve(report, pin=measure(first).pin)
            registered = import_plugin(promised)
            report = evolve(report, kinds=_kinds(registered))
            _require_readable(registered, readable)
            require_distinct([*known, *registered])
            known += registered
        except PluginError as error:
            report = evolve(report, fault=str(error))
        reports.append(report)
    return tuple(reports)


def _builtin(module: ModuleType, version: str, known: list[Registered]) -> PluginReport:
    registered = register(module, f"built in, {module.__name__}")
    known += registered
    return PluginReport(HOST, version, module.__name__, _kinds(registered))


def _by_target(installed: Sequence[Promise]) -> Iterator[list[Promise]]:
    def place(promise: Promise) -> tuple[str, str]:
        return promise.distribution, promise.target

    for _, promised in groupby(sorted(installed, key=place), key=place):
        yield list(promised)


def _kinds(registered: Sequence[Registered]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((found.group, found.kind) for found in registered))


def _require_readable(registered: Sequence[Registered], readable: Callable[[type[Any]], None]) -> None:
    for found in registered:
        try:
            readable(found.value.config)
        except TypeError as error:
            raise PluginError(f"{found.where}: the config class of kind {found.kind!r}: {error}") from error
