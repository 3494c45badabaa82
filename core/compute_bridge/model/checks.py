"""Validators that several values share; each names the field, what it got and what it wants."""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

Check: TypeAlias = Callable[[Any, Any, Any], None]
"""An attrs validator; the field's own type says what it holds."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_INT64_MAX = 2**63 - 1


def whole(low: int = 0, high: int = _INT64_MAX) -> Check:
    """Accept an ``int`` (never a ``bool`` or ``float``) from ``low`` to ``high``, both included."""

    def check(_owner: object, attribute: Any, value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{attribute.name} {value!r} is not a whole number from {low} to {high}")

    return check


def octets(low: int, high: int | None = None) -> Check:
    """Accept ``bytes`` of length ``low``, or from ``low`` to ``high`` where ``high`` is given."""
    high = low if high is None else high

    def check(_owner: object, attribute: Any, value: Any) -> None:
        if type(value) is not bytes or not low <= len(value) <= high:
            size = len(value) if isinstance(value, bytes) else type(value).__name__
            want = f"{low}" if low == high else f"{low} to {high}"
            raise ValueError(f"{attribute.name} must be {want} bytes, got {size}")

    return check


def text(low: int = 0, high: int = 256) -> Check:
    """Accept printable text of ``low`` to ``high`` characters without control characters."""

    def check(_owner: object, attribute: Any, value: Any) -> None:
        if type(value) is not str or not low <= len(value) <= high or not value.isprintable():
            raise ValueError(f"{attribute.name} must be {low} to {high} printable characters")

    return check


def like(pattern: str, wanted: str) -> Check:
    """Accept text that ``pattern`` matches as a whole; ``wanted`` says in words what that is."""

    def check(_owner: object, attribute: Any, value: Any) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"{attribute.name} {value!r} is not {wanted}")

    return check


def label(_owner: object, attribute: Any, value: Any) -> None:
    """Accept a lower-case label: letters, digits, dots and dashes, 1 to 63 characters."""
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise ValueError(f"{attribute.name} {value!r} is not a label (a-z, 0-9, '.', '-', 1 to 63 characters)")


def each(check: Check, low: int = 0, high: int = 256) -> Check:
    """Accept a tuple of ``low`` to ``high`` items, each of which ``check`` accepts."""

    def check_all(owner: object, attribute: Any, value: tuple[Any, ...]) -> None:
        if type(value) is not tuple or not low <= len(value) <= high:
            raise ValueError(f"{attribute.name} must be a list of {low} to {high} items")
        for item in value:
            check(owner, attribute, item)

    return check_all


def few(low: int = 0, high: int = 256) -> Check:
    """Accept a tuple of ``low`` to ``high`` items."""

    def check(_owner: object, attribute: Any, value: Any) -> None:
        if type(value) is not tuple or not low <= len(value) <= high:
            raise ValueError(f"{attribute.name} must be a list of {low} to {high} items")

    return check


def ascending(_owner: object, attribute: Any, value: Any) -> None:
    """Accept a tuple in strictly ascending order: one spelling for one set."""
    if list(value) != sorted(set(value)):
        raise ValueError(f"{attribute.name} must be in ascending order without repeats")
