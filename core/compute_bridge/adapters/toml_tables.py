"""One table of a TOML file into one attrs value, every fault of it at once."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any

import attrs
from cattrs import Converter

from compute_bridge.adapters import toml_scalars as scalars
from compute_bridge.adapters.toml_scalars import FaultyError, in_file, wrong
from compute_bridge.adapters.toml_words import described, names_secret, shown, sort_of
from compute_bridge.model.boot import HELP, KEY, REST
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports.errors import Fault

Hook = Callable[[Any, Any], Any]

_REFUSALS = (ValueError, TypeError, ComputeBridgeError)


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


def placed(key: str, value: object, error: FaultyError) -> list[Fault]:
    """Return the faults of ``value`` as they read from one table further out, where it is ``key``."""
    return [
        attrs.evolve(fault, key=joined(key, fault.key), got=fault.got or shown(key, value)) for fault in error.faults
    ]


def fields_of(cls: type[Any]) -> "tuple[attrs.Attribute[Any], ...]":
    """Return the fields of a config class that a file can hold, their types resolved.

    :raises TypeError: if a type is named that cannot be found.
    """
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        raise TypeError(f"{cls.__qualname__}: {error}; import the type at run time") from error
    return tuple(attribute for attribute in attrs.fields(cls) if attribute.init)


def read_table(cls: type[Any], converter: Converter) -> Hook:
    """Return what reads a table into a ``cls``."""
    fields = fields_of(cls)
    rest = next((attribute for attribute in fields if takes_rest(attribute)), None)
    named = {key_of(attribute): attribute for attribute in fields if attribute is not rest}
    hooks: dict[str, Hook] = {key: converter.get_structure_hook(found.type or Any) for key, found in named.items()}

    def read(table: object, _kind: object) -> Any:
        if not isinstance(table, dict):
            raise wrong("a table", in_file(table, "write it as [table] or in braces"))
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
                yield from placed(key, table[key], error)
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
