"""Plugins: found by entry point, measured, fenced by version, and asked once for the kinds they add."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Final

from attrs import frozen

from compute_bridge.host.distribution import Measurement, Promise, measure, promises
from compute_bridge.host.registration import HOST, Registered, import_plugin, register, require_distinct
from compute_bridge.ports.errors import PluginError

#: Kinds of our own distributions, so that an error can say what to install.
OURS: Final = {
    "availability-first": "compute-bridge-routing",
    "baremetal": "compute-bridge-baremetal",
    "cheapest": "compute-bridge-routing",
    "cost-plus": "compute-bridge-rates",
    "first-fit": "compute-bridge-routing",
    "fixed": "compute-bridge-rates",
    "ledger": "compute-bridge-ledger",
    "lowest-rate": "compute-bridge-market",
}


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
    named_at: Mapping[tuple[str, str], str] | None = None,
) -> Plugins:
    """Return the ``wanted`` kinds (group, word): found, measured, compared with ``pins``, then imported.

    Nothing else is imported. ``builtins`` are modules of ours that register like any plugin; a kind of
    theirs is never looked for elsewhere, so what is installed beside us cannot take its place.
    ``installed`` stands in for this environment's entry points; ``named_at`` says for messages where a file
    names a kind. Every hook call is logged at debug level.

    :raises PluginError: if a kind is missing, doubled or broken, or a distribution is not as pinned.
    """
    installed = promises() if installed is None else installed
    registered = [found for module in builtins for found in register(module, f"built in, {module.__name__}")]
    own = {(found.group, found.kind) for found in registered}
    sought = [choice for choice in dict.fromkeys(wanted) if choice not in own]
    chosen = _choose(sought, installed, named_at or {})
    measurements = _measure(chosen, pins or {}, installed)
    for first in {(promise.distribution, promise.target): promise for promise in reversed(chosen)}.values():
        others = [one for one in installed if (one.distribution, one.target) == (first.distribution, first.target)]
        registered += import_plugin([first, *(one for one in others if one.kind != first.kind)])
    require_distinct(registered)
    plugins = Plugins(tuple(registered), measurements)
    for group, kind in sought:
        plugins.kind(group, kind)
    return plugins


# --- choosing ---------------------------------------------------------------------------------------


def _choose(
    sought: Iterable[tuple[str, str]], installed: Sequence[Promise], named_at: Mapping[tuple[str, str], str]
) -> list[Promise]:
    chosen: list[Promise] = []
    faults: list[str] = []
    for group, kind in sought:
        found = [promise for promise in installed if promise.kind == kind]
        if len(found) == 1:
            chosen += found
        else:
            place = f"{named_at[group, kind]}: " if (group, kind) in named_at else ""
            faults.append(place + (_doubled(kind, found) if found else _missing(group, kind, installed)))
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
    if HOST in pins:
        yield f"[plugins] pins {HOST}, which is the host and no plugin; remove the pin"
    for name in sorted(set(pins) - installed - {HOST}):
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


def _elsewhere(registered: Iterable[Registered], group: str, kind: str) -> str:
    for found in registered:
        if found.kind == kind:
            return (
                f"kind {kind!r} of {group} is wanted, but {found.where} registers it among {found.group}; name another"
            )
    return f"kind {kind!r} of {group} is not loaded; the boot file must name it"
