"""The truth of a schedule, read from its files when every process is dead but ours."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from compute_bridge.adapters import sqlite_chain
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.card_checks import UntrustedError
from compute_bridge.host.log_checks import open_log
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.control import ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import Claim, SettlementStatement
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import MarketError
from compute_bridge.ports.network import Entry, Network
from compute_bridge.wire import codec
from compute_bridge.wire.signing import Signed, open_signed
from compute_bridge_ledger.book import open_book
from compute_bridge_ledger.ledger import FILE
from compute_bridge_market.ledger import HOLDS, balance, trial_balance
from crashkit.clouds import Cloud
from crashkit.scene import Scene
from crashkit.truth import Award, Claimed, Log, Reply, Statement, Truth


async def gather(scene: Scene, market: Market, clock: Clock, cloud: Cloud) -> Truth:
    """Return what stands outside the bridge. The bridge must be dead, for its journal is verified too."""
    async with open_sqlite_journal(scene.journal, clock) as journal:
        await journal.verify()
        leases = {row.lease.hex(): row.state for row in await journal.lease_states()}
    awards = [award async for award in _awards(market)]
    balances, books = _money(scene)
    return Truth(
        machines=cloud.machines(),
        awards=tuple([await _award(market, one) for one in awards]),
        logs=tuple([log async for log in _logs(market, awards)]),
        statements=tuple([one async for one in _statements(market)]),
        claims=tuple([one async for one in _claims(market)]),
        replies=tuple([one async for one in _replies(market, awards)]),
        balances=balances,
        books={awards[0].value.provider_id.hex(): books} if awards else {},
        leases=leases,
        grace_ms=cloud.site.grace_ms,
        tolerance_ms=cloud.site.tolerance_ms,
    )


async def everything(network: Network, stream: str) -> AsyncIterator[Entry]:
    """Yield every entry of a stream."""
    after = 0
    while entries := await network.fetch(stream, after=after):
        for entry in entries:
            yield entry
        after = entries[-1].sequence


async def _awards(market: Market) -> AsyncIterator[Signed[ComputeGrant]]:
    async for entry in everything(market.network, channels.GRANT_STREAM):
        yield open_signed(entry.record, ComputeGrant, market.domain, by=market.config.signing_key)


async def _award(market: Market, grant: Signed[ComputeGrant]) -> Award:
    value, duration_ms = grant.value, grant.value.duration_ms
    async for entry in everything(market.network, channels.CONTROL_VERDICTS):
        verdict = open_signed(entry.record, ControlVerdict, market.domain, by=market.config.signing_key).value
        if verdict.grant_id == value.id and verdict.reason == Reason.CONTROL_APPLIED:
            duration_ms = max(duration_ms, verdict.duration_ms)
    return Award(value.id.hex(), grant.hash.hex(), value.provider_id.hex(), value.rate, duration_ms)


async def _logs(market: Market, awards: list[Signed[ComputeGrant]]) -> AsyncIterator[Log]:
    async for entry in everything(market.network, channels.LOGS):
        for grant in awards:
            try:
                log = await open_log(market, grant.value, entry.record)
            except (UntrustedError, MarketError):
                continue  # another grant's, or a stranger's
            value = log.value
            yield Log(value.grant_id.hex(), log.hash.hex(), value.outcome.value, value.started_at, value.billable_ms)


async def _statements(market: Market) -> AsyncIterator[Statement]:
    async for entry in everything(market.network, channels.SETTLEMENTS):
        one = open_signed(entry.record, SettlementStatement, market.domain, by=market.config.signing_key).value
        key = one.key
        yield Statement(
            key.grant_id.hex(), key.sequence, one.log_hash.hex(), one.billable_ms, one.charge, one.provider_fee
        )


async def _claims(market: Market) -> AsyncIterator[Claimed]:
    async for entry in everything(market.network, channels.CLAIMS):
        claim = codec.decode(codec.load(entry.record, max_bytes=16_384)[3], Claim, max_bytes=16_384)
        yield Claimed(claim.key.grant_id.hex(), claim.amount)


async def _replies(market: Market, awards: list[Signed[ComputeGrant]]) -> AsyncIterator[Reply]:
    for grant in awards:
        async for entry in everything(market.network, f"shuffle/replies/{grant.value.bearer_pointer.hex()}"):
            yield Reply(grant.value.id.hex(), entry.record)


def _money(scene: Scene) -> tuple[dict[str, int], int]:
    with closing(sqlite3.connect(scene.market_file.with_name("ledger.db"))) as db:
        balances = dict(trial_balance(db).balances)
    book = open_book(scene.folder / "bridge" / "settlement" / FILE)
    try:
        return balances, book.agreed_micros()
    finally:
        book.close()


def held(scene: Scene) -> int:
    """Return what the market's books hold for grants that are not booked yet; the market may be alive."""
    with _reading(scene.market_file.with_name("ledger.db")) as db:
        return -balance(db, HOLDS)


def lease_states(scene: Scene) -> dict[str, str]:
    """Return how the leases of a bridge that is alive stand, by grant; nothing while it has no journal."""
    if not scene.journal.exists():
        return {}
    with _reading(scene.journal) as db:
        return {row.lease.hex(): row.state for row in sqlite_chain.lease_states(db, frozenset())}


def _reading(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5))
