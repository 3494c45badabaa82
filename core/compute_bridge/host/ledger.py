"""What is worth a line in the journal and may change at every look: written on change, each thing at most hourly."""

import logging
from collections.abc import Callable, Hashable
from typing import Any

from attrs import define, evolve, field

from compute_bridge.host.journal_events import bridge_draft
from compute_bridge.model.units import HOUR_MS
from compute_bridge.ports.journal import Journal, JournalUnwritableError

logger = logging.getLogger(__name__)

MOST = 2048
"""The most events in any hour, and the most that wait: a plugin that says nonsense must not fill the disk."""
_AT_ONCE = 64


@define
class _Line:
    """What is so of one key, how often that changed since it was written, and when it was within the hour."""

    body: Any = None
    times: int = 0
    then: Callable[[], None] | None = None
    written_ms: int | None = None


@define
class Ledger:
    """Notes that wait for the journal, the latest one for each key; what decides something never waits for it.

    The bodies are of :mod:`~compute_bridge.host.journal_events` and have a field ``times``: how many notes the
    one that is written stands for.
    """

    every_ms: int = HOUR_MS
    _lines: dict[Hashable, _Line] = field(factory=dict, init=False)
    _complained: bool = field(default=False, init=False)

    @property
    def waiting(self) -> tuple[Any, ...]:
        """The bodies that are not in the journal yet."""
        return tuple(line.body for line in list(self._lines.values()) if line.times)

    def note(self, key: Hashable, body: Any, *, then: Callable[[], None] | None = None) -> None:
        """Keep ``body`` as what is so of ``key`` now; ``then`` is called once it is durable.

        The same once more changes nothing.
        """
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= 2 * MOST:
                logger.error("%d notes on costs and rates are open, one more is dropped: %s", len(self._lines), body)
                return
            line = self._lines[key] = _Line()
        if line.body != body:
            line.body, line.times = body, line.times + 1
        line.then = then

    async def write(self, journal: Journal, *, now_ms: int) -> None:
        """Journal what is due at ``now_ms`` of the monotonic clock.

        A journal that cannot be written stops nothing here: what was due is due again next time.
        """
        for key, line in list(self._lines.items()):
            if line.written_ms is not None and now_ms - line.written_ms >= self.every_ms:
                line.written_ms = None
                if not line.times:
                    del self._lines[key]
        lines = list(self._lines.values())
        fresh = [line for line in lines if line.written_ms is None and line.times]
        due = fresh[: max(0, MOST - sum(line.written_ms is not None for line in lines))]
        for start in range(0, len(due), _AT_ONCE):
            if not await self._write(journal, due[start : start + _AT_ONCE], now_ms):
                return

    async def _write(self, journal: Journal, lines: list[_Line], now_ms: int) -> bool:
        bodies = [(line, line.times, line.then) for line in lines]
        try:
            await journal.record(*(bridge_draft(evolve(line.body, times=line.times)) for line in lines))
        except JournalUnwritableError as error:
            if not self._complained:
                logger.warning("%d notes on costs and rates wait for the journal: %s", len(self.waiting), error)
            self._complained = True
            return False
        self._complained = False
        for line, times, then in bodies:
            line.written_ms = now_ms
            # A newer note may have come while this one was written: it waits on.
            line.times -= times
            if then is not None:
                then()
        return True
