"""The market's public records as anybody sees them, each verified before it is believed."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from attrs import frozen

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.card import ProviderCard, RosterEntry
from compute_bridge.model.clearing import Award, ClearingRecord, Verdict, VerdictChunk
from compute_bridge.model.coalition import Handshake, compute_module
from compute_bridge.model.ids import GrantId, PublicKey, RequestId, UniqueId
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.ports.network import Network
from compute_bridge.wire import codec
from compute_bridge.wire.records import kind_of
from compute_bridge.wire.signing import Domain, Signed, fingerprint, open_self_signed, open_signed
from compute_bridge_demo.errors import DemoError

T = TypeVar("T")


def read_handshake(raw: bytes) -> Handshake:
    """Return the handshake in the bytes of its file."""
    return codec.decode(raw, Handshake, max_bytes=kind_of(Handshake).max_bytes)


def domain_of(handshake: Handshake) -> Domain:
    """Return where records of this coalition's market count."""
    coalition = UniqueId(fingerprint(handshake.coalition))
    return Domain(coalition, compute_module(coalition))


@frozen
class MarketView:
    """Waits for what the market publishes."""

    network: Network
    domain: Domain
    module_key: PublicKey

    async def first_tick(self) -> AlmanacTick:
        """Return the almanac's first tick once there is one."""
        async with aclosing(self._follow(channels.ALMANAC, AlmanacTick)) as ticks:
            return await anext(ticks)

    async def cards(self) -> AsyncGenerator[ProviderCard, None]:
        """Yield each provider's card as it is admitted, and each later version."""
        async with aclosing(self.network.watch(channels.ROSTER)) as entries:
            async for entry in entries:
                yield self._card(entry.value)

    async def first_award(self) -> tuple[ClearingRecord, Award]:
        """Return the first round that awards anything, and its first award."""
        async with aclosing(self._follow(channels.CLEARING, ClearingRecord)) as records:
            async for record in records:
                if record.awards:
                    return record, record.awards[0]
        raise DemoError("the clearing stream has ended")

    async def verdicts(self, record: ClearingRecord, request: RequestId) -> tuple[Verdict, ...]:
        """Return what became of every provider's bid for ``request`` in a round."""
        found: list[Verdict] = []
        read = index = 0
        while read < record.verdict_count:
            key = channels.number(record.round) + channels.number(index)
            entry = await self.network.find(channels.VERDICTS, key)
            if entry is None:
                raise DemoError(f"the verdicts of round {record.round} are not complete")
            chunk = self._open(entry.record, VerdictChunk).value
            found += [verdict for verdict in chunk.verdicts if verdict.request_id == request]
            read, index = read + len(chunk.verdicts), index + 1
        return tuple(found)

    async def statement(self, grant: GrantId) -> SettlementStatement:
        """Return how the market settled a grant once it has."""
        async with aclosing(self._follow(channels.SETTLEMENTS, SettlementStatement)) as statements:
            async for statement in statements:
                if statement.key.grant_id == grant:
                    return statement
        raise DemoError("the stream of settlements has ended")

    async def _follow(self, stream: str, cls: type[T]) -> AsyncGenerator[T, None]:
        async with aclosing(self.network.follow(stream)) as entries:
            async for entry in entries:
                yield self._open(entry.record, cls).value

    def _card(self, raw: bytes) -> ProviderCard:
        entry = self._open(raw, RosterEntry).value
        card = open_self_signed(entry.card, ProviderCard, self.domain, signer=lambda card: card.binding.keys.signing)
        return card.value

    def _open(self, raw: bytes, cls: type[T]) -> Signed[T]:
        return open_signed(raw, cls, self.domain, by=self.module_key)
