"""Lots that a seed decides.

Hypothesis leans towards small and empty values, from which hardly a bid comes; these are even, so that a few dozen
rounds have every outcome in them.
"""

from collections.abc import Sequence
from hashlib import sha256
from itertools import count
from typing import TypeVar

T = TypeVar("T")


class Lots:
    """Draws in a row; the same seed makes the same draws."""

    def __init__(self, seed: str) -> None:
        self._blocks = (sha256(f"{seed} {number}".encode()).digest() for number in count())

    def pick(self, options: Sequence[T]) -> T:
        """Draw one of ``options``; one that stands in it twice is drawn twice as often."""
        return options[int.from_bytes(next(self._blocks)[:8]) % len(options)]

    def some(self, options: Sequence[T]) -> tuple[T, ...]:
        """Draw some of ``options``, in their order; perhaps none, perhaps all."""
        return tuple(option for option in options if self.pick((True, True, False)))
