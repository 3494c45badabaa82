"""The single values of a TOML file, each read strictly: no type is made from another."""

import re
from datetime import date, datetime
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from compute_bridge.adapters.secrets import is_reference
from compute_bridge.adapters.toml_words import WORDS, concealed, described, is_secret_text
from compute_bridge.model.boot import SecretRef
from compute_bridge.ports.errors import Fault

_IN_A_FILE = "move it into a file of mode 0600 and write file:PATH"


class Given(str):
    """Text from a flag or the environment, whose type only the key that it is for can tell."""

    __slots__ = ()


class FaultyError(Exception):
    """A value is not what must stand there; ``faults`` have key paths relative to the value."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def wrong(expected: str, mend: str, *, got: str = "") -> FaultyError:
    """Return the fault of a value that its container has yet to place, and to show unless ``got`` does."""
    return FaultyError(Fault("", f"must be {expected}", got, mend))


def in_file(value: object, mend: str) -> str:
    """Return the mend of what is no list or table: it cannot come from outside of the file."""
    return "write it in the file: a flag or the environment holds one value" if type(value) is Given else mend


def read_bool(value: object, _kind: object) -> bool:
    """Read ``true`` or ``false``."""
    if type(value) is Given and value in ("true", "false"):
        return value == "true"
    if type(value) is not bool:
        raise wrong(WORDS[bool], "write true or false, without quotes")
    return value


def read_int(value: object, _kind: object) -> int:
    """Read a whole number."""
    if type(value) is Given and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)
    if type(value) is not int:
        raise wrong(WORDS[int], "write digits only, without quotes or a point")
    return value


def read_float(value: object, _kind: object) -> float:
    """Read a number with a point."""
    if type(value) is Given and re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,15}", value):
        return float(value)
    if type(value) is not float or not isfinite(value):
        raise wrong(WORDS[float], "write it with a point, without quotes")
    return value


def read_str(value: object, _kind: object) -> str:
    """Read text that has not the form of a secret."""
    text = _quoted(value, WORDS[str])
    if is_secret_text(text):
        raise wrong("text without a secret in it", _IN_A_FILE)
    return text


def read_secret_ref(value: object, folder: Path | None) -> str:
    """Read a reference to a secret, a relative file as :func:`read_path` does; anything else is not shown."""
    text = _quoted(value, WORDS[SecretRef])
    if not is_reference(text):
        raise wrong(WORDS[SecretRef], _IN_A_FILE, got=concealed(text))
    scheme, _, rest = text.partition(":")
    return text if scheme == "env" else f"file:{read_path(rest, folder)}"


def read_bytes(value: object, _kind: object) -> bytes:
    """Read hex digits."""
    text = _quoted(value, WORDS[bytes])
    if not re.fullmatch(r"([0-9a-fA-F]{2})*", text):
        raise wrong(WORDS[bytes], "write an even number of digits 0-9 and a-f, nothing between them")
    return bytes.fromhex(text)


def read_path(value: object, folder: Path | None) -> str:
    """Read a path; a relative one is taken from ``folder``, or left as it is where that is None."""
    text = read_str(_quoted(value, WORDS[Path]), str)
    if not text or text.startswith("~") or not text.isprintable():
        raise wrong(WORDS[Path], "write an absolute path, or one relative to this file's folder; ~ is not expanded")
    return text if folder is None else str(folder / text)


def read_moment(value: object, kind: type[date]) -> date:
    """Read a date, or a date and time with its offset."""
    if type(value) is not kind or (isinstance(value, datetime) and value.tzinfo is None):
        raise wrong(WORDS[kind], "write it without quotes, such as 2026-01-31 or 2026-01-31T12:00:00Z")
    return value


def read_enum(value: object, kind: type[Enum]) -> Enum:
    """Read one of the values of an enum."""
    for member in kind:
        if member.value == value and type(value) in (type(member.value), Given):
            return member
    raise wrong(described(kind), "write one of these")


def read_literal(value: object, kind: Any) -> Any:
    """Read one of the words of a ``Literal``."""
    for word in get_args(kind):
        if value == word and type(value) in (type(word), Given):
            return word
    raise wrong(described(kind), "write one of these")


def _quoted(value: object, expected: str) -> str:
    if not isinstance(value, str):
        raise wrong(expected, "write it in quotes")
    return str(value)
