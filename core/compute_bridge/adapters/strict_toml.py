"""TOML tables into attrs values, strictly, with every fault at once."""

from collections.abc import Callable, Iterator
from datetime import date, datetime
from difflib import get_close_matches
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import attrs
from cattrs import Converter

from compute_bridge.adapters import toml_scalars as scalars
from compute_bridge.adapters.toml_scalars import FaultyError, Given, wrong
from compute_bridge.adapters.toml_words import described, is_newtype, names_secret, optional, shown, sort_of
from compute_bridge.model.boot import HELP, KEY, REST, FilePath, SecretRef
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports.errors import Fault

Hook = Callable[[Any, Any], Any]

_REFUSALS = (ValueError, TypeError, ComputeBridgeError)


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
        raise FaultyError(*_placed(key, table, error)) from None


def require_readable(cls: type[Any]) -> None:
    """Raise unless a file can hold a ``cls``.

    :raises TypeError: naming the type that no file can hold.
    """
    _converter(None).get_structure_hook(cls)


def key_of(attribute: "attrs.Attribute[Any]") -> str:
    """Return the word in the file for a field of a config class."""
    return attribute.metadata.get(KEY) or attribute.name


def help_of(attribute: "attrs.Attribute[Any]") -> str:
    """Return the help line of a field of a config class, or nothing."""
    return str(attribute.metadata.get(HELP, ""))


def takes_rest(attribute: "attrs.Attribute[Any]") -> bool:
    """Return whether a field takes every key that no other field names."""
    return bool(attribute.metadata.get(REST))


def joined(outer: str, inner: str) -> str:
    """Return the path of ``inner`` within ``outer``: ``backend[0].port``."""
    dot = "." if outer and inner and not inner.startswith("[") else ""
    return f"{outer}{dot}{inner}"


def unknown_key(key: str, value: object, known: list[str]) -> Fault:
    """Return the fault of a key that nobody reads; its value is not shown, for it may be a misspelt secret."""
    close = get_close_matches(key, known, n=1)
    keys = ", ".join(known) or "none"
    mend = f'did you mean "{close[0]}"?' if close else f"remove it; the keys here are: {keys}"
    return Fault(key, "unknown key", sort_of(value), mend)


def _placed(key: str, value: object, error: FaultyError) -> list[Fault]:
    """Return the faults of ``value`` as they read from one table further out, where it is ``key``."""
    return [
        attrs.evolve(fault, key=joined(key, fault.key), got=fault.got or shown(key, value)) for fault in error.faults
    ]


# --- how each type is read ------------------------------------------------------------------------


def _converter(folder: Path | None) -> Converter:
    converter = Converter(detailed_validation=False)
    # The last registered is asked first, so the first one here catches what nobody knows.
    converter.register_structure_hook_factory(lambda _kind: True, _unknown)
    converter.register_structure_hook_factory(is_newtype, _supertype)
    converter.register_structure_hook_factory(lambda kind: optional(kind) is not None, _inner)
    converter.register_structure_hook_factory(attrs.has, _table)
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
            raise wrong(described(kind), _plural(value, "write it in brackets, or as [[table]]s"))
        entries = {f"[{index}]": entry for index, entry in enumerate(value)}
        return get_origin(kind)(_each(entries, hook, item).values())

    return read


def _dict(kind: Any, converter: Converter) -> Hook:
    item = (*get_args(kind), Any, Any)[1]
    hook: Hook = converter.get_structure_hook(item)

    def read(value: object, _kind: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong("a table", _plural(value, "write it as [table] or in braces"))
        return _each(value, hook, item)

    return read


def _plural(value: object, mend: str) -> str:
    return "write it in the file: a flag or the environment holds one value" if type(value) is Given else mend


def _each(entries: dict[str, Any], hook: Hook, kind: Any) -> dict[str, Any]:
    faults: list[Fault] = []
    read: dict[str, Any] = {}
    for key, entry in entries.items():
        try:
            read[key] = hook(entry, kind)
        except FaultyError as error:
            faults += _placed(key, entry, error)
    if faults:
        raise FaultyError(*faults)
    return read


# --- tables ---------------------------------------------------------------------------------------


def fields_of(cls: type[Any]) -> "tuple[attrs.Attribute[Any], ...]":
    """Return the fields of a config class that a file can hold, their types resolved.

    :raises TypeError: if a type is named that cannot be found.
    """
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        raise TypeError(f"{cls.__qualname__}: {error}; import the type at run time") from error
    return tuple(attribute for attribute in attrs.fields(cls) if attribute.init)


def _table(cls: type[Any], converter: Converter) -> Hook:
    fields = fields_of(cls)
    rest = next((attribute for attribute in fields if takes_rest(attribute)), None)
    named = {key_of(attribute): attribute for attribute in fields if attribute is not rest}
    hooks: dict[str, Hook] = {key: converter.get_structure_hook(found.type or Any) for key, found in named.items()}

    def read(table: object, _kind: object) -> Any:
        if not isinstance(table, dict):
            raise wrong("a table", _plural(table, "write it as [table] or in braces"))
        values: dict[str, Any] = {}
        faults = list(_read_keys(table, named, hooks, values))
        extra = {key: value for key, value in table.items() if key not in named}
        if rest is not None:
            values[rest.name] = extra
        else:
            faults += [unknown_key(key, value, list(named)) for key, value in extra.items()]
        return _made(cls, fields, values, table, faults)

    return read


def _read_keys(
    table: dict[str, Any],
    named: "dict[str, attrs.Attribute[Any]]",
    hooks: dict[str, Hook],
    values: dict[str, Any],
) -> Iterator[Fault]:
    for key, attribute in named.items():
        if key in table:
            try:
                values[attribute.name] = _read_key(key, table[key], attribute, hooks[key])
            except FaultyError as error:
                yield from _placed(key, table[key], error)
        elif attribute.default is attrs.NOTHING:
            hint = f": {help_of(attribute)}" if help_of(attribute) else ""
            yield Fault(key, f"must be given, {described(attribute.type)}", "nothing", f"add it{hint}")


def _read_key(key: str, value: object, attribute: "attrs.Attribute[Any]", hook: Hook) -> Any:
    read = hook(value, attribute.type)
    if type(read) is str and attribute.type is str and names_secret(key):
        scalars.read_secret_ref(value, None)
    return read


def _made(
    cls: type[Any],
    fields: "tuple[attrs.Attribute[Any], ...]",
    values: dict[str, Any],
    table: dict[str, Any],
    faults: list[Fault],
) -> Any:
    """Return the value, or raise with ``faults`` and whatever else its validators hold against it."""
    if faults:
        raise FaultyError(*faults, *_refused(fields, values, table))
    try:
        return cls(
            **{
                attribute.alias or attribute.name: values[attribute.name]
                for attribute in fields
                if attribute.name in values
            }
        )
    except _REFUSALS as error:
        refused = list(_refused(fields, values, table))
        together = Fault("", _message(error), "these values together", "change one of them")
        raise FaultyError(*(refused or [together])) from error


def _refused(
    fields: "tuple[attrs.Attribute[Any], ...]", values: dict[str, Any], table: dict[str, Any]
) -> Iterator[Fault]:
    """Ask every validator by itself, for attrs stops at the first that refuses."""
    known = {attribute.name: _default(attribute) for attribute in fields} | values
    probe = SimpleNamespace(**{name: value for name, value in known.items() if value is not attrs.NOTHING})
    for attribute in fields:
        key = key_of(attribute)
        is_read = attribute.name in values or key not in table
        if attribute.validator is None or not is_read or not hasattr(probe, attribute.name):
            continue
        try:
            attribute.validator(probe, attribute, getattr(probe, attribute.name))
        except AttributeError:
            continue  # it looks at a field that is itself at fault
        except _REFUSALS as error:
            message = "must pass its check" if names_secret(key) else _message(error)
            yield Fault(key, message, shown(key, table[key]) if key in table else "nothing", _mend(attribute))


def _default(attribute: "attrs.Attribute[Any]") -> Any:
    default: Any = attribute.default
    is_factory = isinstance(default, attrs.Factory)  # type: ignore[arg-type]
    return default.factory() if is_factory and not default.takes_self else default


def _mend(attribute: "attrs.Attribute[Any]") -> str:
    return f"change it: {help_of(attribute)}" if help_of(attribute) else "change it"


def _message(error: Exception) -> str:
    # attrs' own validators put the field and the value behind their sentence.
    return str(error.args[0]) if error.args else type(error).__name__
