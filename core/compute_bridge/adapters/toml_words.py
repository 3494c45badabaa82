"""Values and types of a TOML file in words, for messages and listings."""

import re
import types
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NewType, Union, get_args, get_origin

from compute_bridge.adapters.secrets import is_reference
from compute_bridge.model.boot import FilePath, SecretRef

_SECRET_WORDS = re.compile(r"(^|[._-])(secret|password|passphrase|passwd|token|credentials?)$", re.IGNORECASE)
_SECRET_KEYS = re.compile(r"(^|[._-])(api|access|private|root|secret)[_-]?key$", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30}|AGE-SECRET-KEY-1"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.|\bsk-[A-Za-z0-9_-]{20}"
)
_LONGEST = 60


def names_secret(key: str) -> bool:
    """Return whether the last word of a key path says that a secret stands there."""
    return bool(_SECRET_WORDS.search(key) or _SECRET_KEYS.search(key))


def shown(key: str, value: object) -> str:
    """Return ``value`` in words for a message or a listing, without a secret that was put in by mistake."""
    match value:
        case str() if names_secret(key) and not is_reference(value):
            return concealed(value)
        case str() if is_secret_text(value):
            return "what looks like a secret (not shown)"
        case str():
            return f'"{_printable(value)}"'
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return _printable(str(value))


def is_secret_text(value: str) -> bool:
    """Return whether ``value`` itself has the form of a well-known secret."""
    return _SECRET_TEXT.search(value) is not None


def concealed(value: str) -> str:
    """Return what may be said of a text that must not be shown."""
    return f"text of {len(value)} characters (not shown)"


def _printable(text: str) -> str:
    line = "".join(character if character.isprintable() else "?" for character in text)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def sort_of(value: object) -> str:
    """Return what sort of value this is, without a word of what is in it."""
    match value:
        case str():
            return "text"
        case bool():
            return "true or false"
        case dict() | list() | tuple():
            return shown("", value)
        case int():
            return "a whole number"
        case _:
            return "a number with a point, or a date"


def described(kind: Any) -> str:
    """Return in words what a key of this type holds."""
    if kind in WORDS:
        return WORDS[kind]
    if is_newtype(kind):
        return described(kind.__supertype__)
    if inner := optional(kind):
        return described(inner)
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind))
    if get_origin(kind) in (tuple, list):
        item = described(get_args(kind)[0])
        return "tables in double brackets" if item == "a table" else f"a list, each {item}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _one_of(member.value for member in kind)
    return "a table"


def _one_of(words: Any) -> str:
    return "one of " + ", ".join(f'"{word}"' for word in words)


WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a point",
    str: "text",
    bytes: "hex digits as text",
    datetime: "a date and time with an offset",
    date: "a date",
    Path: "a path",
    FilePath: "a path",
    SecretRef: 'a reference to a secret, "env:NAME" or "file:PATH"',
    Any: "any value",
}


def is_newtype(kind: object) -> bool:
    """Return whether ``kind`` is a ``NewType``."""
    return isinstance(kind, NewType)


def optional(kind: object) -> Any:
    """Return the ``X`` of ``X | None``, or None for any other type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return None
    inner = [part for part in get_args(kind) if part is not type(None)]
    return inner[0] if len(inner) == 1 else None
