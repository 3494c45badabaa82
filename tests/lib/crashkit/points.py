"""Where a process may die: every point that it passes is counted, written down, and may be its last."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attrs import frozen


@frozen
class Kill:
    """One death, in life number ``life``: at the ``nth`` passing of ``name``, or of any point if there is no name."""

    life: int
    nth: int
    name: str = ""

    @property
    def id(self) -> str:
        """How reports and replays call it."""
        return f"{self.name or '*'}#{self.nth}@{self.life}"

    @classmethod
    def parse(cls, text: str) -> "Kill":
        """Return the kill of which ``text`` is the id."""
        name, _, rest = text.rpartition("#")
        nth, _, life = rest.partition("@")
        return cls(int(life), int(nth), "" if name == "*" else name)


class Points:
    """The points that this process passes. Nothing happens at one before :meth:`arm`."""

    def __init__(self) -> None:
        self._log = -1
        self._kill: Kill | None = None
        self._passed: Counter[str] = Counter()
        self._total = 0
        self._faults: dict[str, int] = {}
        self._halt: Callable[[str, int], None] | None = None
        self._victim = 0

    def arm(
        self,
        log: Path,
        kill: Kill | None,
        faults: dict[str, int],
        halt: Callable[[str, int], None] | None = None,
        *,
        victim: int = 0,
    ) -> None:
        """Write every point to ``log`` from now on, die of SIGKILL at ``kill``, and let what ``faults`` name fail.

        ``halt`` is told each point and which passing of it this is, before the death, and may take its time. Who dies
        is the process ``victim``, or this one.
        """
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._kill = kill
        self._faults = dict(faults)
        self._halt = halt
        self._victim = victim

    def hit(self, name: str) -> bool:
        """Pass a point; return whether it was the last one of another process than this."""
        if self._log < 0:
            return False
        self._passed[name] += 1
        self._total += 1
        is_last = self._is_last(name)
        os.write(self._log, f"{'!' if is_last else ' '}{name}\n".encode())
        if self._halt is not None:
            self._halt(name, self._passed[name])
        if is_last:
            os.kill(self._victim or os.getpid(), signal.SIGKILL)
        return is_last

    def close(self) -> None:
        """Write no more."""
        if self._log >= 0:
            os.close(self._log)
        self._log = -1

    def fails(self, point: str) -> bool:
        """Return whether what is about to be done is to fail this time."""
        left = self._faults.get(point, 0)
        if left:
            self._faults[point] = left - 1
        return left > 0

    def _is_last(self, name: str) -> bool:
        kill = self._kill
        if kill is None:
            return False
        return (kill.name, kill.nth) == (name, self._passed[name]) or (not kill.name and kill.nth == self._total)


POINTS = Points()
"""This process's own."""


def read_points(log: Path) -> tuple[list[str], str]:
    """Return the points that a process has passed, in order, and the one that was its last, empty if none was."""
    lines = log.read_text().splitlines() if log.exists() else []
    last = next((line[1:] for line in lines if line[0] == "!"), "")
    return [line[1:] for line in lines], last
