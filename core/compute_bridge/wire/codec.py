"""The one converter: values to deterministic CBOR (RFC 8949, 4.2) and back, strictly.

How values look on the wire:

- an attrs value is a map from field name to value, with every field present, none unknown;
- a tuple is an array, an enum its text, ``None`` is null; ``int``, ``bool``, ``str`` and ``bytes`` are
  themselves; there is no float, no tag and no integer beyond 64 bits;
- one value has one encoding, and no other bytes decode to it.
"""

from enum import Enum, StrEnum
from functools import cache
from typing import Any, TypeVar, get_args

import cbor2
from attrs import NOTHING
from cattrs import Converter
from cattrs.errors import ForbiddenExtraKeysError, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn

from compute_bridge.model.errors import RecordError

T = TypeVar("T")

MAX_DEPTH = 16
_INT_RANGE = range(-(2**63), 2**64)
_BAD_SHAPE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ForbiddenExtraKeysError,
    StructureHandlerNotFoundError,
)


def encode(value: object) -> bytes:
    """Return the one encoding of an attrs value."""
    return dump(plain(value))


def plain(value: object) -> Any:
    """Return an attrs value as plain data: what :func:`encode` writes, for files of another syntax."""
    return _converter(False).unstructure(value)


def decode(raw: bytes, cls: type[T], *, max_bytes: int, fill: bool = False) -> T:
    """Return the value of class ``cls`` that ``raw`` encodes.

    ``fill`` is for what we wrote ourselves, maybe by an earlier release: a field that is missing takes its
    default. A record of somebody else has every field, or its bytes are not the ones that were signed.

    :raises RecordError: if ``raw`` is longer than ``max_bytes`` (checked before anything is parsed), is
        not deterministic CBOR, or is not a valid ``cls``.
    """
    return from_plain(load(raw, max_bytes=max_bytes), cls, fill=fill)


def from_plain(data: object, cls: type[T], *, fill: bool = False) -> T:
    """Return the value of class ``cls`` that plain data tells, as strictly as :func:`decode`.

    :raises RecordError: if it is not a valid ``cls``.
    """
    try:
        return _converter(fill).structure(data, cls)
    except _BAD_SHAPE as error:
        raise RecordError(f"not a valid {cls.__name__}: {_reason(error)}") from error


def dump(data: object) -> bytes:
    """Return the deterministic CBOR of plain data: maps, arrays, text, bytes, integers, bool, null."""
    return cbor2.dumps(data, canonical=True)


def load(raw: bytes, *, max_bytes: int) -> Any:
    """Return the plain data that ``raw`` encodes.

    :raises RecordError: if ``raw`` is too long or is not the deterministic encoding of plain data.
    """
    if len(raw) > max_bytes:
        raise RecordError(f"record of {len(raw)} bytes exceeds the limit of {max_bytes}")
    try:
        data = cbor2.loads(
            raw,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
        _require_plain(data)
        again = dump(data)
    except (cbor2.CBORError, ValueError, OverflowError, MemoryError) as error:
        raise RecordError(f"not CBOR: {error}") from error
    if again != raw:
        raise RecordError("not deterministic CBOR (RFC 8949, 4.2), or bytes follow the record")
    return data


def _require_plain(data: object) -> None:
    kind = type(data)
    if kind is dict:
        for key, value in data.items():  # type: ignore[attr-defined]
            if type(key) is not str:
                raise ValueError(f"a map key is {type(key).__name__}, not text")
            _require_plain(value)
    elif kind is list:
        for item in data:  # type: ignore[attr-defined]
            _require_plain(item)
    elif kind is int:
        if data not in _INT_RANGE:
            raise ValueError("an integer exceeds 64 bits")
    elif kind not in (str, bytes, bool, type(None)):
        raise ValueError(f"{kind.__name__} is not plain data")


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"field {error.args[0]!r} is missing"
    return str(error)


def _exactly(kind: type) -> Any:
    def structure(data: object, _type: object) -> object:
        if type(data) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {type(data).__name__}")
        return data

    return structure


@cache
def _converter(fill: bool) -> Converter:
    converter = Converter(detailed_validation=False, forbid_extra_keys=True)
    for kind in (bool, int, str, bytes):
        converter.register_structure_hook(kind, _exactly(kind))
    # cattrs asks by class before it asks by predicate, and would take the hook of str for a StrEnum.
    converter.register_structure_hook(StrEnum, _enum)
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_structure_hook_func(_is_enum, _enum)
    converter.register_structure_hook_factory(_is_tuple, _tuple)
    converter.register_unstructure_hook(tuple, lambda items: [converter.unstructure(x) for x in items])
    converter.register_structure_hook_factory(_is_value, lambda cls: _value(converter, cls, fill))
    return converter


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _enum(data: object, kind: type[Enum]) -> Enum:
    if type(data) is not str:
        raise TypeError(f"expected the text of a {kind.__name__}, got {type(data).__name__}")
    return kind(data)


def _is_tuple(kind: object) -> bool:
    return getattr(kind, "__origin__", None) is tuple


def _tuple(kind: Any, converter: Converter) -> Any:
    item, dots = get_args(kind)
    if dots is not ...:
        raise TypeError(f"{kind} is not tuple[X, ...]")
    inner = converter.get_structure_hook(item)

    def structure(data: object, _type: object) -> tuple[Any, ...]:
        if type(data) is not list:
            raise TypeError(f"expected an array, got {type(data).__name__}")
        return tuple([inner(entry, item) for entry in data])

    return structure


def _is_value(kind: object) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__attrs_attrs__")


def _value(converter: Converter, cls: type[Any], fill: bool) -> Any:
    fields = {one.name for one in cls.__attrs_attrs__ if not (fill and one.default is not NOTHING)}
    make = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False)

    def structure(data: object, kind: Any) -> Any:
        if type(data) is not dict:
            raise TypeError(f"expected a map for {cls.__name__}, got {type(data).__name__}")
        if missing := fields - data.keys():
            raise KeyError(min(missing))
        return make(data, kind)

    return structure
