"""The Compute module at work: what came in takes effect, entry by entry; each tick clears a round."""

import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
from attrs import define, field

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.ports.attestation import QuoteVerifier
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import EnvelopeError, RecordError
from compute_bridge.ports.network import Entry, Network
from compute_bridge.wire.signing import Signed
from compute_bridge_market.admission import Admission
from compute_bridge_market.almanac import Almanac
from compute_bridge_market.awarding import Awarding, NotYetError
from compute_bridge_market.book import Book, Effects
from compute_bridge_market.controls import Controls
from compute_bridge_market.intake import Intake
from compute_bridge_market.module import Module
from compute_bridge_market.publishing import Publisher
from compute_bridge_market.roster import Roster
from compute_bridge_market.rounds import Rounds
from compute_bridge_market.settling import Settling

logger = logging.getLogger(__name__)

Take: TypeAlias = Callable[[Entry], Awaitable[Effects | None]]

_OF_GRANTS = (channels.CONTROL, channels.LOGS)
"""What is dropped when its grant is unknown, so the grants come first."""

BATCH = 128
"""How many entries of one stream are taken before the others have their turn."""


@define
class Market:
    """The parts of the module, and the order in which they take their turns.

    One thing happens at a time. A record that is not what it should be is dropped and counted, and never
    holds the next one up.
    """

    publisher: Publisher
    book: Book
    roster: Roster
    almanac: Almanac
    admission: Admission
    intake: Intake
    awarding: Awarding
    controls: Controls
    settling: Settling
    rounds: Rounds
    dropped: Counter[str] = field(factory=Counter, init=False)
    _turn: anyio.Lock = field(factory=anyio.Lock, init=False)

    @property
    def streams(self) -> dict[str, Take]:
        """Who takes the entries of which stream, in an order in which nothing comes before what it stands on.

        A grant stands on a card and a request, a control and a log stand on a grant, and a log on the
        extension that it was running under.
        """
        return {
            channels.CARD_SUBMISSIONS: self.admission.take,
            channels.INTAKE: self.intake.take,
            channels.CLEARING: self.awarding.take,
            channels.CONTROL: self.controls.take,
            channels.LOGS: self.settling.take,
        }

    async def recover(self) -> None:
        """Take up where the last run ended, however it ended: what was begun is finished, nothing twice."""
        async with self._turn:
            await self.almanac.catch_up()
            await self.roster.load()
            await self.roster.read_claims()
            await self.rounds.begin_term()
            # Each stream to its end before the next: a book made anew meets its past in the order of its causes.
            ends = {stream: await self.publisher.network.tail(stream) for stream in reversed(self.streams)}
            for stream, take in self.streams.items():
                while await self.book.position(stream) < ends[stream]:
                    if not await self._read_on(stream, take):
                        break

    async def turn(self) -> bool:
        """Let what came in take effect, a batch of each stream at most; return whether there was any."""
        async with self._turn:
            # Read last things first: whatever an entry stands on is then among what is read after it.
            positions = await self.book.positions()
            batches = {stream: await self._read(stream, positions) for stream in reversed(self.streams)}
            if batches[channels.LOGS]:
                await self.roster.load()
                await self.roster.read_claims()
            taken = False
            for stream, take in self.streams.items():
                if stream in _OF_GRANTS and await self._is_behind(channels.CLEARING):
                    break
                taken |= await self._take(stream, take, batches[stream])
        return taken

    async def tick(self) -> Signed[AlmanacTick]:
        """Publish the next tick, end what is overdue, and clear the round that closed."""
        async with self._turn:
            tick = await self.almanac.advance()
            await self.roster.read_claims()
            if not await self._is_behind(channels.LOGS):
                await self.settling.abandon(tick.value.tick)
            await self.rounds.hold(tick)
            await self._read_on(channels.CLEARING, self.awarding.take)
        return tick

    async def _is_behind(self, stream: str) -> bool:
        return await self.book.position(stream) < await self.publisher.network.tail(stream)

    async def _read(self, stream: str, positions: dict[str, int]) -> tuple[Entry, ...]:
        return await self.publisher.network.fetch(stream, after=positions.get(stream, 0), limit=BATCH)

    async def _read_on(self, stream: str, take: Take) -> bool:
        return await self._take(stream, take, await self._read(stream, await self.book.positions()))

    async def _take(self, stream: str, take: Take, entries: tuple[Entry, ...]) -> bool:
        """Take the entries in order; return whether any moved the cursor."""
        done = 0
        for entry in entries:
            try:
                effects = await take(entry)
            except NotYetError as error:
                logger.warning("stream %s waits at entry %d: %s", stream, entry.sequence, error)
                break
            except (RecordError, EnvelopeError) as error:
                self.dropped[stream] += 1
                logger.info("stream %s: entry %d dropped: %s", stream, entry.sequence, error)
                effects = None
            if effects is not None:
                await self.book.apply(stream, entry.sequence, effects)
            done = entry.sequence
        if done:
            await self.book.skip(stream, done)
        return bool(done)


def make_market(
    module: Module,
    network: Network,
    book: Book,
    *,
    verifier: QuoteVerifier,
    clock: Clock,
    draw: Callable[[int], bytes] = secrets.token_bytes,
) -> Market:
    """Return the market over a network and a book; call :meth:`Market.recover` first."""
    publisher = Publisher(network, module)
    roster = Roster(publisher, book)
    almanac = Almanac(publisher, clock, draw)
    return Market(
        publisher=publisher,
        book=book,
        roster=roster,
        almanac=almanac,
        admission=Admission(publisher, roster, almanac, verifier, clock),
        intake=Intake(publisher, book, almanac),
        awarding=Awarding(publisher, book, roster),
        controls=Controls(publisher, book, almanac),
        settling=Settling(publisher, book, roster),
        rounds=Rounds(publisher, book, roster),
    )
