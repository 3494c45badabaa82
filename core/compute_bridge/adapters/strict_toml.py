"""TOML tables into attrs values, strictly, with every fault at once."""

from datetime import date, datetime
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
from cattrs import Converter

from compute_bridge.adapters import toml_scalars as scalars
from compute_bridge.adapters.toml_scalars import FaultyError, in_file, wrong
from compute_bridge.adapters.toml_tables import Hook, placed, read_table
from compute_bridge.adapters.toml_words import described, is_newtype, optional
from compute_bridge.model.boot import FilePath, SecretRef


def structure(table: object, cls: type[Any], *, key: str, folder: Path | None) -> Any:
    """Return ``table`` as a ``cls``; faults name keys below ``key``.

    Relative paths are taken from ``folder``; with None they stay as written.

    :raises FaultyError: naming every fault at once.
    :raises TypeError: if ``cls`` asks for something that no file can hold.
    """
    hook = _converter(folder).get_structure_hook(cls)
    try:
        return hook(table, cls)
    except FaultyError as error:
        raise FaultyError(*placed(key, table, error)) from None


def require_readable(cls: type[Any]) -> None:
    """Raise unless a file can hold a ``cls``.

    :raises TypeError: naming the type that no file can hold.
    """
    _converter(None).get_structure_hook(cls)


# --- how each type is read ------------------------------------------------------------------------


def _converter(folder: Path | None) -> Converter:
    converter = Converter(detailed_validation=False)
    # The last registered is asked first, so the first one here catches what nobody knows.
    converter.register_structure_hook_factory(lambda _kind: True, _unknown)
    converter.register_structure_hook_factory(is_newtype, _supertype)
    converter.register_structure_hook_factory(lambda kind: optional(kind) is not None, _inner)
    converter.register_structure_hook_factory(attrs.has, read_table)
    converter.register_structure_hook_factory(_is_list, _list)
    converter.register_structure_hook_factory(_is_dict, _dict)
    converter.register_structure_hook_func(_is_literal, scalars.read_literal)
    converter.register_structure_hook_func(_is_enum, scalars.read_enum)
    # cattrs asks by class before it asks by predicate, and would take the hook of str for a StrEnum.
    for mixed in (StrEnum, IntEnum):
        converter.register_structure_hook(mixed, scalars.read_enum)
    converter.register_structure_hook_func(lambda kind: kind is Any, lambda value, _kind: value)
    converter.register_structure_hook_func(
        lambda kind: kind is SecretRef, lambda value, _kind: scalars.read_secret_ref(value, folder)
    )
    converter.register_structure_hook_func(
        lambda kind: kind is FilePath, lambda value, _kind: scalars.read_path(value, folder)
    )
    converter.register_structure_hook(Path, lambda value, _kind: Path(scalars.read_path(value, folder)))
    for kind, hook in _SCALARS.items():
        converter.register_structure_hook(kind, _or_enum(hook))
    return converter


def _or_enum(hook: Hook) -> Hook:
    # To cattrs a StrEnum is a str before it is an Enum, and would come through as any text at all.
    return lambda value, kind: scalars.read_enum(value, kind) if _is_enum(kind) else hook(value, kind)


_SCALARS: dict[type, Hook] = {
    bool: scalars.read_bool,
    int: scalars.read_int,
    float: scalars.read_float,
    str: scalars.read_str,
    bytes: scalars.read_bytes,
    date: scalars.read_moment,
    datetime: scalars.read_moment,
}


def _is_list(kind: object) -> bool:
    """Return whether ``kind`` is ``tuple[X, ...]`` or ``list[X]``."""
    items = get_args(kind)
    origin = get_origin(kind)
    return (origin is list and len(items) == 1) or (origin is tuple and len(items) == 2 and items[1] is ...)


def _is_dict(kind: object) -> bool:
    return kind is dict or get_origin(kind) is dict


def _is_literal(kind: object) -> bool:
    return get_origin(kind) is Literal


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _unknown(kind: Any, _converter: Converter) -> Hook:
    raise TypeError(
        f"no file can hold a {kind!r}; use bool, int, str, bytes, Path, an enum, tuple[X, ...], dict[str, X] or attrs"
    )


def _supertype(kind: Any, converter: Converter) -> Hook:
    hook: Hook = converter.get_structure_hook(kind.__supertype__)
    return lambda value, _kind: hook(value, kind.__supertype__)


def _inner(kind: Any, converter: Converter) -> Hook:
    inner = optional(kind)
    hook: Hook = converter.get_structure_hook(inner)
    return lambda value, _kind: hook(value, inner)


def _list(kind: Any, converter: Converter) -> Hook:
    item = get_args(kind)[0]
    hook: Hook = converter.get_structure_hook(item)

    def read(value: object, _kind: object) -> Any:
        if not isinstance(value, list):
            raise wrong(described(kind), in_file(value, "write it in brackets, or as [[table]]s"))
        entries = {f"[{index}]": entry for index, entry in enumerate(value)}
        return get_origin(kind)(_each(entries, hook, item).values())

    return read


def _dict(kind: Any, converter: Converter) -> Hook:
    item = (*get_args(kind), Any, Any)[1]
    hook: Hook = converter.get_structure_hook(item)

    def read(value: object, _kind: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong("a table", in_file(value, "write it as [table] or in braces"))
        return _each(value, hook, item)

    return read


def _each(entries: dict[str, Any], hook: Hook, kind: Any) -> dict[str, Any]:
    faults = []
    read: dict[str, Any] = {}
    for key, entry in entries.items():
        try:
            read[key] = hook(entry, kind)
        except FaultyError as error:
            faults += placed(key, entry, error)
    if faults:
        raise FaultyError(*faults)
    return read
