"""From a coalition in one process, gone quiet, to the truth about it: by asking everybody but the bridge's memory."""

from collections.abc import Iterable
from typing import TypeVar

from attrs import frozen

from compute_bridge.model import channels
from compute_bridge.model.channels import CONTROL_VERDICTS
from compute_bridge.model.control import ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import PublicKey
from compute_bridge.model.settlement import Claim, SettlementStatement
from compute_bridge.model.usage import ComputeLog
from compute_bridge.ports.errors import SignatureError
from compute_bridge.ports.journal import Journal
from compute_bridge.ports.network import Entry, Network
from compute_bridge.ports.strategy import Settlement
from compute_bridge.testing.memory_account import Account
from compute_bridge.wire.signing import Signed, open_signed
from compute_bridge_market.book import Book
from compute_bridge_market.ledger import trial_balance
from compute_bridge_market.module import Module
from compute_bridge_market.occupancy import find_award
from crashkit.truth import Award, Claimed, Log, Machine, Reply, Statement, Truth

T = TypeVar("T")


@frozen(kw_only=True)
class Witnesses:
    """Whom to ask about one provider. ``keys`` are the signing keys of all its boots."""

    network: Network
    module: Module
    book: Book
    accounts: tuple[Account, ...]
    journal: Journal
    settlement: Settlement
    keys: tuple[PublicKey, ...]

    async def truth(self, *, grace_ms: int, tolerance_ms: int = 0) -> Truth:
        """Return what they say."""
        grants = [self._signed(one, ComputeGrant, self.module.key) for one in await self._all(channels.GRANT_STREAM)]
        balance = await self.book.run(trial_balance)
        provider = grants[0].value.provider_id.hex() if grants else ""
        return Truth(
            machines=tuple(self._machines()),
            awards=tuple([await self._award(grant) for grant in grants]),
            logs=tuple([self._log(one) for one in await self._all(channels.LOGS)]),
            statements=tuple([self._statement(one) for one in await self._all(channels.SETTLEMENTS)]),
            claims=tuple([self._claim(one) for one in await self._all(channels.CLAIMS)]),
            replies=tuple([reply for grant in grants for reply in await self._replies(grant.value)]),
            balances=dict(balance.balances),
            books={provider: await self.settlement.balance()} if grants else {},
            leases={row.lease.hex(): row.state for row in await self.journal.lease_states()},
            grace_ms=grace_ms,
            tolerance_ms=tolerance_ms,
        )

    async def _all(self, stream: str) -> list[Entry]:
        found: list[Entry] = []
        while page := await self.network.fetch(stream, after=found[-1].sequence if found else 0):
            found += page
        return found

    def _machines(self) -> Iterable[Machine]:
        for index, account in enumerate(self.accounts):
            for one in account.machines.values():
                token, grant = one.tags["cb-token"], one.tags["cb-grant"]
                yield Machine(f"{index}/{one.id}", token, grant, one.started_ms, one.ended_ms or None)

    async def _award(self, grant: Signed[ComputeGrant]) -> Award:
        value = grant.value
        booked = await self.book.run(lambda db: find_award(db, value.id))
        duration = booked.duration_ms if booked else value.duration_ms
        told = [self._signed(one, ControlVerdict, self.module.key).value for one in await self._all(CONTROL_VERDICTS)]
        terms = {value.duration_ms, *(one.duration_ms for one in told if one.grant_id == value.id)}
        return Award(
            grant=value.id.hex(),
            grant_hash=grant.hash.hex(),
            provider=value.provider_id.hex(),
            rate=value.rate,
            duration_ms=duration,
            shorter_ms=tuple(sorted(terms - {duration})),
        )

    def _log(self, entry: Entry) -> Log:
        log = self._ours(entry, ComputeLog)
        value = log.value
        return Log(
            value.grant_id.hex(),
            log.hash.hex(),
            value.outcome.value,
            value.started_at,
            value.billable_ms,
            value.reason.value,
        )

    def _statement(self, entry: Entry) -> Statement:
        value = self._signed(entry, SettlementStatement, self.module.key).value
        return Statement(
            value.key.grant_id.hex(),
            value.key.sequence,
            value.log_hash.hex(),
            value.billable_ms,
            value.charge,
            value.provider_fee,
        )

    def _claim(self, entry: Entry) -> Claimed:
        value = self._ours(entry, Claim).value
        return Claimed(value.key.grant_id.hex(), value.amount)

    async def _replies(self, grant: ComputeGrant) -> list[Reply]:
        stream = f"shuffle/replies/{grant.bearer_pointer.hex()}"
        return [Reply(grant.id.hex(), one.record) for one in await self._all(stream)]

    def _ours(self, entry: Entry, cls: type[T]) -> Signed[T]:
        for key in self.keys:
            try:
                return self._signed(entry, cls, key)
            except SignatureError:
                continue
        raise SignatureError(f"record {entry.sequence} is by no boot of the provider")

    def _signed(self, entry: Entry, cls: type[T], key: PublicKey) -> Signed[T]:
        return open_signed(entry.record, cls, self.module.domain, by=key)
