"""What Azure says is left of its limits, and how many calls at once that bears.

Source: the answers' headers ``x-ms-ratelimit-remaining-resource`` (``Microsoft.Compute/PutVM3Min;239,...``, or
``UpdateVMSubscriptionMaximum;1498``) and ``x-ms-ratelimit-remaining-subscription-writes`` and its likes.
"""

import re
from collections.abc import Mapping
from threading import Lock

_RESOURCE = "x-ms-ratelimit-remaining-resource"
_SUBSCRIPTION = "x-ms-ratelimit-remaining-subscription-"
_ONE = re.compile(r"\s*(?:[A-Za-z.]+/)?(?P<name>[A-Za-z0-9]+);(?P<left>-?\d+)\s*")
# What is left of one machine's own limit, a dozen at most, says nothing of the others'.
_OF_ONE = "Resource"
_LOW, _VERY_LOW = 50, 10


class Budget:
    """The last word on each limit; told from worker threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left: dict[str, int] = {}

    def hear(self, headers: Mapping[str, str]) -> None:
        """Take in the headers of one answer, whose names are in lower case."""
        found = {match["name"]: int(match["left"]) for match in map(_ONE.fullmatch, _words(headers)) if match}
        for name, value in headers.items():
            if name.startswith(_SUBSCRIPTION) and value.isdecimal():
                found[name.removeprefix(_SUBSCRIPTION)] = int(value)
        with self._lock:
            self._left |= {name: left for name, left in found.items() if not name.endswith(_OF_ONE)}

    @property
    def left(self) -> dict[str, int]:
        """What is left of each limit, by Azure's names."""
        with self._lock:
            return dict(self._left)

    def at_once(self, most: int) -> int:
        """Return how many calls may be under way together: ``most``, half of it, or one."""
        lowest = min(self.left.values(), default=_LOW)
        if lowest < _VERY_LOW:
            return 1
        return max(1, most // 2) if lowest < _LOW else most


def _words(headers: Mapping[str, str]) -> list[str]:
    return headers.get(_RESOURCE, "").split(",")
