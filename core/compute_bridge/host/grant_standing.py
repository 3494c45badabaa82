"""Whether the market shows the grant open for which a machine was made; all that its tags name is the grant's hash."""

from enum import Enum, auto

import anyio
from attrs import define, field, frozen

from compute_bridge.host.identity import Identity
from compute_bridge.host.lease_state import KIND_OF, Granted, read_body
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, GrantId
from compute_bridge.ports.errors import MarketError, NetworkError, RecordError
from compute_bridge.ports.journal import Journal
from compute_bridge.wire.signing import Signed, open_signed

ANSWER_S = 60.0


class Standing(Enum):
    """What the market shows of a grant: no settlement yet, its settlement or no such grant, or nothing at all."""

    OPEN = auto()
    CLOSED = auto()
    SILENT = auto()


@frozen
class GrantStanding:
    """How a grant stands, why in words, and its id where one is known.

    ``lease`` is what the journal calls its lease: the grant's id, or empty where the journal has none.
    """

    standing: Standing
    detail: str
    grant: GrantId | None = None
    lease: bytes = b""


@define
class GrantStandings:
    """Asks the market how grants stand, by the hash of their record. ``answer_s`` is in real seconds.

    A market that was silent once is not asked again before :meth:`listen_again`: every question could wait as long.
    """

    market: Market
    journal: Journal
    identity: Identity
    answer_s: float = ANSWER_S
    _ids: dict[Fingerprint, GrantId] = field(factory=dict, init=False)
    _leases: set[GrantId] = field(factory=set, init=False)
    _journal_to: int = field(default=0, init=False)
    _market_to: int = field(default=0, init=False)
    _silence: GrantStanding | None = field(default=None, init=False)

    def listen_again(self) -> None:
        """Ask the market again from here on, though it was silent."""
        self._silence = None

    async def of(self, record: Fingerprint) -> GrantStanding:
        """Return how the grant with this record hash stands.

        :raises JournalError: if the journal cannot be read.
        """
        if not self.market.now:
            return GrantStanding(Standing.SILENT, "no almanac tick has been seen")
        if self._silence is not None:
            return self._silence
        try:
            with anyio.fail_after(self.answer_s):
                return await self._of(record)
        except TimeoutError:
            return self._silent(f"the market has no answer within {self.answer_s} s")
        except NetworkError as error:
            return self._silent(str(error))

    def _silent(self, detail: str) -> GrantStanding:
        self._silence = GrantStanding(Standing.SILENT, detail)
        return self._silence

    async def _of(self, record: Fingerprint) -> GrantStanding:
        grant = await self._find(record)
        if grant is None:
            return GrantStanding(Standing.CLOSED, "the market has awarded us no such grant")
        lease = grant if grant in self._leases else b""
        try:
            await self.market.statement(grant)
        except (MarketError, RecordError):
            return GrantStanding(Standing.OPEN, "the market has not settled its grant", grant, lease)
        return GrantStanding(Standing.CLOSED, "the market has settled its grant", grant, lease)

    async def _find(self, record: Fingerprint) -> GrantId | None:
        if record not in self._ids:
            await self._read_journal()
        if record not in self._ids:
            # The grant of a journal that is not ours: of another bridge with this root key.
            await self._read_market()
        return self._ids.get(record)

    async def _read_journal(self) -> None:
        while events := await self.journal.events(after=self._journal_to, kind=KIND_OF[Granted]):
            for event in events:
                granted: Granted = read_body(event)
                self._note(granted.grant)
                self._leases.add(GrantId(event.lease))
            self._journal_to = events[-1].sequence

    async def _read_market(self) -> None:
        network = self.market.network
        while entries := await network.fetch(channels.GRANT_STREAM, after=self._market_to):
            for entry in entries:
                self._note(entry.record)
            self._market_to = entries[-1].sequence

    def _note(self, raw: bytes) -> None:
        market = self.market
        try:
            grant: Signed[ComputeGrant] = open_signed(raw, ComputeGrant, market.domain, by=market.config.signing_key)
        except RecordError:
            return  # not the module's: a grant of nobody
        if grant.value.provider_id == self.identity.provider:
            self._ids[grant.hash] = grant.value.id
