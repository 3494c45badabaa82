"""Records that must reach the network sooner or later, unchanged, and usage logs in their order."""

import heapq
import logging

import anyio
from attrs import define, field

from compute_bridge.host.nudge import Nudge
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import NetworkError, RecordConflictError, RecordTooLargeError
from compute_bridge.ports.network import Network

logger = logging.getLogger(__name__)

FIRST_WAIT_MS = 100
LONGEST_WAIT_MS = 15_000


async def send(network: Network, stream: str, record_id: bytes, raw: bytes, *, clock: Clock) -> int:
    """Append ``raw`` and return its sequence, trying for as long as the network does not answer.

    Appending the same bytes twice is appending once, so a try whose answer was lost does no harm.

    :raises RecordConflictError: if the id already names other bytes.
    :raises RecordTooLargeError: if the network will never carry it.
    """
    wait = FIRST_WAIT_MS
    while True:
        try:
            return await network.append(stream, record_id, raw)
        except (RecordConflictError, RecordTooLargeError):
            raise
        except NetworkError as error:
            logger.warning("network did not take a record of %s, trying again: %s", stream, error)
        await clock.sleep_ms(wait)
        wait = min(2 * wait, LONGEST_WAIT_MS)


@define(order=True)
class _Letter:
    """One record on its way. Letters are ordered by ``order`` alone, the sequence of its journal event."""

    order: int
    stream: str = field(order=False)
    record_id: bytes = field(order=False)
    raw: bytes = field(order=False, repr=False)
    done: anyio.Event = field(factory=anyio.Event, order=False)
    error: NetworkError | None = field(default=None, order=False)


@define
class Outbox:
    """Sends what the journal holds, one record at a time, in the order in which the journal got it."""

    network: Network
    clock: Clock
    _waiting: list[_Letter] = field(factory=list, init=False)
    _known: dict[tuple[str, bytes], _Letter] = field(factory=dict, init=False)
    _nudge: Nudge = field(factory=Nudge, init=False)

    @property
    def depth(self) -> int:
        """How many records wait, the one under way included."""
        return len(self._known)

    def post(self, order: int, stream: str, record_id: bytes, raw: bytes) -> _Letter:
        """Put a record in its place and return it; one that waits already is the one that is returned."""
        letter = self._known.get((stream, record_id))
        if letter is None:
            letter = self._known[stream, record_id] = _Letter(order, stream, record_id, raw)
            heapq.heappush(self._waiting, letter)
            self._nudge.nudge()
        return letter

    async def send(self, order: int, stream: str, record_id: bytes, raw: bytes) -> None:
        """Return when the network holds the record; needs :meth:`run` to run.

        :raises RecordConflictError: if the id already names other bytes.
        :raises RecordTooLargeError: if the network will never carry it.
        """
        letter = self.post(order, stream, record_id, raw)
        await letter.done.wait()
        if letter.error is not None:
            raise letter.error

    async def run(self) -> None:
        """Send whatever waits, until cancelled."""
        while True:
            while self._waiting:
                await self._send(self._waiting[0])
            await self._nudge.wait(self.clock, LONGEST_WAIT_MS)

    async def _send(self, letter: _Letter) -> None:
        try:
            await send(self.network, letter.stream, letter.record_id, letter.raw, clock=self.clock)
        except (RecordConflictError, RecordTooLargeError) as error:
            letter.error = error
        self._waiting.remove(letter)
        heapq.heapify(self._waiting)
        del self._known[letter.stream, letter.record_id]
        letter.done.set()
