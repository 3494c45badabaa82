"""The Compute module as a bridge, a requester or an auditor sees it: verified records, nothing else."""

import logging
from collections.abc import AsyncGenerator
from typing import TypeVar

import anyio
from attrs import define, field

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.card import ProviderCard, RosterEntry
from compute_bridge.model.clearing import ClearingInputs, ClearingRecord, VerdictChunk
from compute_bridge.model.coalition import ComputeConfig, Handshake, compute_module
from compute_bridge.model.control import ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, GrantId, UniqueId
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.units import Tick
from compute_bridge.ports.errors import BootError, MarketError, RecordError
from compute_bridge.ports.network import Entry, Network
from compute_bridge.wire.record_ids import own_id
from compute_bridge.wire.signing import Domain, Signed, fingerprint, open_self_signed, open_signed

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_GAPS = 8


def market_domain(handshake: Handshake) -> Domain:
    """Return the domain of a coalition's Compute module.

    :raises BootError: if the coalition does not pin exactly this module config.
    """
    coalition = UniqueId(fingerprint(handshake.coalition))
    compute = handshake.coalition.compute
    if compute is None or compute.content != fingerprint(handshake.compute):
        raise BootError(
            "the handshake's module config is not the one that its coalition pins; "
            "ask the coalition operator for a matching handshake file"
        )
    return Domain(coalition, compute_module(coalition))


@define
class Market:
    """Reads the module's public records, each verified against the module's key before use."""

    network: Network
    handshake: Handshake
    domain: Domain = field(init=False)
    _tick: Signed[AlmanacTick] | None = field(default=None, init=False)
    _ticked: anyio.Event = field(factory=anyio.Event, init=False)
    dropped: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.domain = market_domain(self.handshake)

    @property
    def config(self) -> ComputeConfig:
        """The module's public config."""
        return self.handshake.compute

    # --- time -------------------------------------------------------------------------------

    async def follow_almanac(self) -> None:
        """Keep :attr:`tick` at the latest tick, for ever; a tick that goes back is dropped."""
        tail = await self.network.tail(channels.ALMANAC)
        async for _, tick in self._follow(channels.ALMANAC, AlmanacTick, max(0, tail - 1)):
            if self._tick is None or tick.value.tick > self._tick.value.tick:
                self._tick = tick
                ticked, self._ticked = self._ticked, anyio.Event()
                ticked.set()

    @property
    def now(self) -> Tick:
        """The number of the latest tick seen; 0 before the first."""
        return self._tick.value.tick if self._tick else Tick(0)

    async def tick(self) -> Signed[AlmanacTick]:
        """Return the latest tick, waiting for the first; needs :meth:`follow_almanac` to run."""
        while self._tick is None:
            await self._ticked.wait()
        return self._tick

    async def after(self, tick: Tick) -> None:
        """Return once the almanac is past ``tick``; needs :meth:`follow_almanac` to run."""
        while self.now <= tick:
            await self._ticked.wait()

    async def find_tick(self, tick: Tick) -> Signed[AlmanacTick]:
        """Return tick number ``tick``.

        :raises MarketError: if the almanac holds no such tick.
        """
        return await self._find(channels.ALMANAC, channels.number(tick), AlmanacTick)

    # --- grants and clearing ------------------------------------------------------------------

    def grants(self, after: int) -> AsyncGenerator[tuple[int, Signed[ComputeGrant]], None]:
        """Yield (sequence, grant) of every grant after ``after``, for ever."""
        return self._follow(channels.GRANT_STREAM, ComputeGrant, after)

    async def find_grant(self, grant: GrantId) -> Signed[ComputeGrant]:
        """Return the grant with this id.

        :raises MarketError: if the module has awarded no such grant.
        """
        return await self._find(channels.GRANT_STREAM, grant, ComputeGrant)

    async def clearing(self, round_: int) -> Signed[ClearingRecord]:
        """Return the clearing record of a round.

        :raises MarketError: if there is none.
        """
        return await self._find(channels.CLEARING, channels.number(round_), ClearingRecord)

    async def clearing_inputs(self, round_: int) -> Signed[ClearingInputs]:
        """Return what a round was computed from.

        :raises MarketError: if there is none.
        """
        return await self._find(channels.CLEARING_INPUTS, channels.number(round_), ClearingInputs)

    async def verdict_chunk(self, round_: int, index: int) -> Signed[VerdictChunk]:
        """Return one chunk of a round's verdicts.

        :raises MarketError: if there is none.
        """
        key = channels.number(round_) + channels.number(index)
        return await self._find(channels.VERDICTS, key, VerdictChunk)

    async def check_award(self, grant: Signed[ComputeGrant]) -> Signed[ClearingRecord]:
        """Return the clearing record that awards ``grant`` exactly as it stands.

        :raises MarketError: if the round's record has no such award.
        """
        value = grant.value
        record = await self.clearing(value.round)
        for award in record.value.awards:
            if award.grant_id == value.id:
                told = (award.request_id, award.provider_id, award.card_hash, award.rate)
                if told == (value.request_id, value.provider_id, value.card_hash, value.rate):
                    return record
        raise MarketError(f"grant {value.id.hex()[:12]}: round {value.round} of the clearing stream does not award it")

    # --- cards --------------------------------------------------------------------------------

    async def card(self, card_hash: Fingerprint) -> tuple[Signed[RosterEntry], Signed[ProviderCard]]:
        """Return an admitted card by its hash, with the module's entry for it.

        :raises MarketError: if the module has admitted no such card.
        """
        entry = await self._find(channels.CARDS, card_hash, RosterEntry)
        return entry, self.open_card(entry)

    async def roster(self) -> tuple[tuple[Signed[RosterEntry], Signed[ProviderCard]], ...]:
        """Return every card in the roster; what does not verify is dropped and counted."""
        found = []
        for versioned in await self.network.entries(channels.ROSTER):
            try:
                entry = self._open(versioned.value, RosterEntry)
                found.append((entry, self.open_card(entry)))
            except RecordError as error:
                self._drop(channels.ROSTER, error)
        return tuple(found)

    def open_card(self, entry: Signed[RosterEntry]) -> Signed[ProviderCard]:
        """Return the card of a roster entry, signed by the boot key that it names.

        :raises RecordError: if it is another card than the module admitted.
        """
        card = open_self_signed(
            entry.value.card, ProviderCard, self.domain, signer=lambda card: card.binding.keys.signing
        )
        if card.hash != entry.value.card_hash:
            raise RecordError("roster entry holds another card than its hash names")
        return card

    # --- after the fact -------------------------------------------------------------------------

    def statements(self, after: int) -> AsyncGenerator[tuple[int, Signed[SettlementStatement]], None]:
        """Yield (sequence, statement) of every settlement statement after ``after``, for ever."""
        return self._follow(channels.SETTLEMENTS, SettlementStatement, after)

    def control_verdicts(self, after: int) -> AsyncGenerator[tuple[int, Signed[ControlVerdict]], None]:
        """Yield (sequence, verdict) of every answer to a lease control after ``after``, for ever."""
        return self._follow(channels.CONTROL_VERDICTS, ControlVerdict, after)

    async def controls_of(self, grant: GrantId) -> tuple[Signed[ControlVerdict], ...]:
        """Return the module's answers to the lease controls of a grant, in their order.

        Numbers that a stranger has taken leave gaps; a few in a row are looked over.
        """
        found, sequence, missed = [], 0, 0
        while missed < _MOST_GAPS:
            sequence += 1
            entry = await self.network.find(channels.CONTROL_VERDICTS, grant + channels.number(sequence))
            missed = 0 if entry else missed + 1
            try:
                verdict = self._open(entry.record, ControlVerdict) if entry else None
            except RecordError as error:
                self._drop(channels.CONTROL_VERDICTS, error)
                continue
            if verdict is not None and verdict.value.grant_id == grant:
                found.append(verdict)
        return tuple(found)

    async def statement(self, grant: GrantId, sequence: int = 0) -> Signed[SettlementStatement]:
        """Return the settlement statement of a grant.

        :raises MarketError: if the module has settled no such grant.
        """
        key = grant + channels.number(sequence)
        return await self._find(channels.SETTLEMENTS, key, SettlementStatement)

    async def log_entry(self, grant: GrantId) -> Entry | None:
        """Return the raw usage log of a grant, or None; the caller verifies it with the card's key."""
        return await self.network.find(channels.LOGS, grant)

    # --- verified reading -----------------------------------------------------------------------

    def _open(self, raw: bytes, cls: type[T]) -> Signed[T]:
        return open_signed(raw, cls, self.domain, by=self.config.signing_key)

    async def _find(self, stream: str, record_id: bytes, cls: type[T]) -> Signed[T]:
        entry = await self.network.find(stream, record_id)
        if entry is None:
            raise MarketError(f"stream {stream} holds no record {record_id.hex()[:24]}")
        found = self._open(entry.record, cls)
        if own_id(found.value) != record_id:
            raise MarketError(f"stream {stream}: under id {record_id.hex()[:24]} stands another record of the module")
        return found

    async def _follow(self, stream: str, cls: type[T], after: int) -> AsyncGenerator[tuple[int, Signed[T]], None]:
        async for entry in self.network.follow(stream, after=after):
            try:
                yield entry.sequence, self._open(entry.record, cls)
            except RecordError as error:
                self._drop(stream, error)

    def _drop(self, channel: str, error: RecordError) -> None:
        self.dropped += 1
        logger.warning("dropped a record of %s that is not the module's: %s", channel, error)
