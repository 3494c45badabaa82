"""What outlives a process of the benches: written as they begin and are lifted, read back at a boot."""

import logging
from typing import TypeAlias

import anyio
from attrs import Factory, define, field

from compute_bridge.host.journal_events import KIND_OF, Benched, BenchLifted, bridge_draft, read_event
from compute_bridge.model.ids import BackendName
from compute_bridge.model.units import HOUR_MS
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import Scope
from compute_bridge.ports.journal import Journal, JournalEvent, JournalUnwritableError

logger = logging.getLogger(__name__)

MOST_AN_HOUR = 512
"""The most events on benches in any hour: an account that fails in every way must not fill the disk."""
MOST_WAITING = 4096
"""The most scopes whose latest event waits for the journal; one more is not kept."""
_AT_ONCE = 64
_PAGE = 1000

Place: TypeAlias = tuple[BackendName, Scope, str]


@define
class BenchLog:
    """The latest of each scope that waits for the journal; nothing that decides anything waits for it.

    ``noted`` is set while there may be something to write.
    """

    _clock: Clock
    noted: anyio.Event = field(factory=anyio.Event, init=False)
    _waiting: dict[Place, Benched | BenchLifted] = Factory(dict)
    _written: set[Place] = Factory(set)
    _this_hour: list[int] = Factory(list)
    _complained: bool = False

    def note(self, body: Benched) -> None:
        """Keep a bench that has just begun."""
        self._keep(body)

    def lift(self, place: Place) -> None:
        """Keep that the bench of ``place`` was lifted, if the journal may know of one."""
        self._waiting.pop(place, None)
        if place in self._written:
            self._keep(BenchLifted(*place))

    async def write(self, journal: Journal) -> None:
        """Journal what waits, as far as the hour has room; a journal that takes nothing stops nothing."""
        self.noted = anyio.Event()
        now = self._clock.monotonic_ms()
        self._this_hour = [at for at in self._this_hour if now - at < HOUR_MS]
        due = list(self._waiting.items())[: MOST_AN_HOUR - len(self._this_hour)]
        for start in range(0, len(due), _AT_ONCE):
            if not await self._record(journal, due[start : start + _AT_ONCE]):
                return

    async def _record(self, journal: Journal, due: list[tuple[Place, Benched | BenchLifted]]) -> bool:
        try:
            await journal.record(*(bridge_draft(body) for _, body in due))
        except JournalUnwritableError as error:
            if not self._complained:
                logger.warning("a restart would forget %d benches until the journal takes them: %s", len(due), error)
            self._complained = True
            return False
        self._complained = False
        self._this_hour += [self._clock.monotonic_ms()] * len(due)
        for place, body in due:
            if self._waiting.get(place) is body:
                del self._waiting[place]
            if isinstance(body, Benched):
                self._written.add(place)
            else:
                self._written.discard(place)
        return True

    async def read(self, journal: Journal, *, within_ms: int) -> list[Benched]:
        """Return the latest bench of each scope that was not lifted, if it is not older than ``within_ms``, or newer.

        :raises JournalError: if an event cannot be read.
        """
        utc, found = self._clock.utc_ms(), dict[Place, Benched]()
        events = [*await _all(journal, KIND_OF[Benched]), *await _all(journal, KIND_OF[BenchLifted])]
        for event in sorted(events, key=lambda one: one.sequence):
            if event.kind == KIND_OF[Benched] and abs(utc - event.at_ms) > within_ms:
                # A year of them need not be decoded.
                continue
            body = read_event(event)
            if isinstance(body, Benched):
                found[body.where] = body
            elif isinstance(body, BenchLifted):
                found.pop(body.where, None)
        self._written |= found.keys()
        return list(found.values())

    def _keep(self, body: Benched | BenchLifted) -> None:
        # The latest stands last, so that it is also read last.
        self._waiting.pop(body.where, None)
        if len(self._waiting) < MOST_WAITING:
            self._waiting[body.where] = body
            self.noted.set()


async def _all(journal: Journal, kind: str) -> list[JournalEvent]:
    found: list[JournalEvent] = []
    while page := await journal.events(lease=b"", kind=kind, after=found[-1].sequence if found else 0, limit=_PAGE):
        found += page
    return found
