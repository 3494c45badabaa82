"""The boot file laid out for people: every key with its value and origin, and every key that may stand there."""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import attrs
from attrs import frozen

from compute_bridge.adapters.boot_file import LoadedBoot
from compute_bridge.adapters.boot_overrides import known_keys, sections, variable_of
from compute_bridge.adapters.secrets import is_reference
from compute_bridge.adapters.toml_tables import fields_of, help_of, joined, key_of, takes_rest
from compute_bridge.adapters.toml_words import described, names_secret, optional
from compute_bridge.model.boot import BootFile
from compute_bridge.model.rates import UnitNanos

# A band is a record of the wire too, and so carries no help of its own.
_BAND_HELP = {
    "band[].name": "the band's name, on the card and in rate rows",
    "band[].floor.cpu_millis": "the least CPU that a request of the band asks, in thousandths of a vCPU",
    "band[].floor.mem_mib": "the least RAM, in MiB",
    "band[].floor.disk_gib": "the least disk, in GiB",
    "band[].floor.gpus": "the fewest GPUs",
    "band[].ceiling.cpu_millis": "the most CPU that a request of the band asks, in thousandths of a vCPU",
    "band[].ceiling.mem_mib": "the most RAM, in MiB",
    "band[].ceiling.disk_gib": "the most disk, in GiB",
    "band[].ceiling.gpus": "the most GPUs",
    "band[].slots": "most leases of the band open at once",
    "band[].min_duration_ms": "the shortest duration that is served, in milliseconds",
    "band[].max_duration_ms": "the longest duration that is served, in milliseconds",
}

# So are the units of a cost.
_UNIT_HELP = {
    "machine": "nanos an hour for the machine itself",
    "vcpu": "nanos an hour for each vCPU",
    "ram_gib": "nanos an hour for each GiB of RAM",
    "disk_gib": "nanos an hour for each GiB of disk",
    "gpu": "nanos an hour for each GPU",
    "egress_gib": "nanos for each GiB of egress",
}


@frozen
class Setting:
    """One value in force: its key path, the value as JSON can hold it, and where it came from."""

    key: str
    value: Any
    origin: str

    @property
    def text(self) -> str:
        """The setting as a line of TOML, its path as a dotted key."""
        return f"{self.key} = {json.dumps(self.value, ensure_ascii=False)}"


@frozen
class KeySpec:
    """One key that may stand in a file: its type in words, its default, and what it is for.

    ``default`` is None where the key must be given; ``variable`` is empty where none sets it.
    """

    key: str
    holds: str
    default: str | None
    help: str
    variable: str


def settings(loaded: LoadedBoot, configs: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Return every setting in force; ``configs`` are the kinds' own, by the key of their table."""
    return tuple(Setting(key, value, loaded.origin_of(key)) for key, value in _values("", loaded.boot, configs))


def schema() -> tuple[KeySpec, ...]:
    """Return every key of the host's own that may stand in the boot file."""
    return tuple(_specs("", BootFile))


def kind_schema(cls: type[Any], key: str) -> tuple[KeySpec, ...]:
    """Return every key of a kind's config class, whose table stands at ``key``."""
    return tuple(_specs(key, cls))


def _values(key: str, value: object, configs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if attrs.has(type(value)):
        for attribute in fields_of(type(value)):
            inner = getattr(value, attribute.name)
            if takes_rest(attribute):
                yield from _values(key, configs.get(key, inner), {})
            else:
                yield from _values(joined(key, key_of(attribute)), inner, configs)
    elif isinstance(value, dict):
        for word, inner in value.items():
            yield from _values(joined(key, word), inner, configs)
    elif isinstance(value, tuple | list) and any(attrs.has(type(item)) or isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _values(f"{key}[{index}]", item, configs)
    elif value is not None:
        yield key, _told(key, value)


def _told(key: str, value: object) -> Any:
    """Return ``value`` as JSON can hold it, unless a secret was put in where a reference belongs."""
    match value:
        case Enum():
            return value.value
        case bytes():
            return value.hex()
        case Path() | date():
            return str(value)
        case tuple() | list():
            return [_told(key, item) for item in value]
        case str() if value and names_secret(key) and not is_reference(value):
            return "(not shown)"
        case _:
            return value


def _specs(prefix: str, cls: type[Any]) -> Iterator[KeySpec]:
    overridable = {*known_keys()}
    for attribute in fields_of(cls):
        if takes_rest(attribute):
            continue
        key = joined(prefix, key_of(attribute))
        inner, many = _table_in(attribute.type)
        if inner is not None:
            yield from _specs(f"{key}[]" if many else key, inner)
        else:
            variable = variable_of(key) if key in overridable or _is_kind_key(prefix, attribute.type) else ""
            yield KeySpec(
                key,
                described(attribute.type),
                _default(attribute),
                help_of(attribute) or _record_help(key, attribute.name, cls),
                variable,
            )


def _record_help(key: str, name: str, cls: type[Any]) -> str:
    return _UNIT_HELP[name] if cls is UnitNanos else _BAND_HELP.get(key, "")


def _table_in(kind: Any) -> tuple[type[Any] | None, bool]:
    """Return the config class within a field's type, and whether there may be many of it."""
    items = get_args(kind)
    if items and attrs.has(items[0]) and optional(kind) is None:
        return items[0], True
    inner = optional(kind) or kind
    return (inner, False) if attrs.has(inner) else (None, False)


def _is_kind_key(prefix: str, kind: Any) -> bool:
    return prefix in sections() and not str(kind).startswith(("tuple", "list", "dict"))


def _default(attribute: "attrs.Attribute[Any]") -> str | None:
    default: Any = attribute.default
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory) or default in ((), None):  # type: ignore[arg-type]
        return "none"
    return json.dumps(_told("", default))
