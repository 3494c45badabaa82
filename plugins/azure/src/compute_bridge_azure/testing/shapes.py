"""What a document may hold, by the SDK's own models: an unknown, wrong or read-only property is refused."""

from collections.abc import Mapping
from enum import Enum
from functools import cache
from importlib import import_module
from types import NoneType
from typing import Any, ForwardRef, Union, get_args, get_origin

from attrs import frozen

from compute_bridge_azure.testing.answers import invalid

_MODELS = "azure.mgmt.compute.models"
_PLAIN: dict[Any, type | tuple[type, ...]] = {str: str, int: int, bool: bool, float: (int, float)}


@frozen
class _Property:
    hint: Any
    """The annotation, without ``None``."""
    is_required: bool
    is_read_only: bool


def check_document(kind: str, document: object, path: str = "") -> None:
    """Refuse a document that is no ``kind`` of the SDK's.

    :raises No: as the Resource Manager does.
    """
    if not isinstance(document, Mapping):
        raise invalid(path, "an object is wanted")
    properties = _properties(kind)
    for name, value in document.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in properties:
            raise invalid(where, f"Could not find member '{name}' on object of type '{kind}'")
        if properties[name].is_read_only:
            raise invalid(where, "the property is read-only")
        _check(properties[name].hint, value, where)
    for name, one in properties.items():
        if one.is_required and not one.is_read_only and name not in document:
            raise invalid(f"{path}.{name}".lstrip("."), f"required parameter '{name}' is missing (null)")


def _check(hint: Any, value: object, path: str) -> None:
    if get_origin(hint) is list:
        if not isinstance(value, list):
            raise invalid(path, "a list is wanted")
        for at, one in enumerate(value):
            _check(get_args(hint)[0], one, f"{path}[{at}]")
    elif get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise invalid(path, "a map of words is wanted")
    elif name := _model_of(hint):
        _check_named(name, value, path)
    elif hint in _PLAIN:
        if not isinstance(value, _PLAIN[hint]) or (hint is not bool and isinstance(value, bool)):
            raise invalid(path, f"{hint.__name__} is wanted")
    else:
        raise NotImplementedError(f"{path} is a {hint}: teach the fake")


def _model_of(hint: Any) -> str:
    """Return the model or the enumeration that an annotation names, empty where it names none."""
    parts = (one.__forward_arg__ if isinstance(one, ForwardRef) else one for one in (hint, *get_args(hint)))
    return next((one.rpartition(".")[2] for one in parts if isinstance(one, str)), "")


def _check_named(name: str, value: object, path: str) -> None:
    kind = getattr(import_module(_MODELS), name)
    if issubclass(kind, Enum):
        if value not in {member.value for member in kind} and name != "VirtualMachineSizeTypes":
            raise invalid(path, f"{value!r} is not allowed")
        return
    check_document(name, value, path)


@cache
def _properties(kind: str) -> dict[str, _Property]:
    cls = getattr(import_module(_MODELS), kind)
    cls()  # the SDK describes a model when its first object is made
    hints = {name: hint for one in reversed(cls.__mro__) for name, hint in vars(one).get("__annotations__", {}).items()}
    return {
        field._rest_name: _property(hints[name], is_read_only=field._visibility == ["read"])  # noqa: SLF001 - told nowhere else
        for name, field in cls._attr_to_rest_field.items()
    }


def _property(hint: Any, *, is_read_only: bool) -> _Property:
    parts = [one for one in get_args(hint) if one is not NoneType]
    is_required = NoneType not in get_args(hint)
    inner = hint if is_required else Union[tuple(parts)]  # noqa: UP007 - made of what is known at run time only
    return _Property(inner, is_required, is_read_only)
