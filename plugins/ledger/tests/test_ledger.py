import sqlite3
import stat
from contextlib import asynccontextmanager

import anyio
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from compute_bridge.api import SettlementContext, SettlementKind, SettlementResult, SettlementState
from compute_bridge.model.ids import Fingerprint, GrantId, ProviderId
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import Claim, EntryKind, SettlementKey, SettlementStatement
from compute_bridge.model.units import Micros, MicrosPerHour, Milliseconds
from compute_bridge.ports.errors import BooksUnwritableError, SettlementError
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.testing.policies import SettlementConformance
from compute_bridge_ledger.book import VERSION, open_book
from compute_bridge_ledger.hooks import COMPUTE_BRIDGE_API, register_settlements
from compute_bridge_ledger.ledger import FILE, LedgerConfig, open_ledger

KEY = SettlementKey(GrantId(b"g" * 32), EntryKind.CHARGE, 0)
CLAIM = Claim(
    key=KEY,
    provider_id=ProviderId(b"p" * 32),
    log_hash=Fingerprint(b"l" * 32),
    rate=MicrosPerHour(7200),
    billable_ms=Milliseconds(500),
    amount=Micros(1000),
    currency="EUR",
)


def statement_of(claim=CLAIM, **changes):
    stated = SettlementStatement(
        key=claim.key,
        provider_id=claim.provider_id,
        log_hash=claim.log_hash,
        reason=Reason.CHARGED,
        rate=claim.rate,
        billable_ms=claim.billable_ms,
        charge=claim.amount,
        requester_fee=Micros(20),
        provider_fee=Micros(10),
        currency=claim.currency,
    )
    return evolve(stated, **changes)


def claim_of(number, amount=1000, kind=EntryKind.CHARGE):
    key = SettlementKey(GrantId(number.to_bytes(32, "big")), kind, 0)
    return evolve(CLAIM, key=key, amount=Micros(amount))


class Market:
    """What was published, in order."""

    def __init__(self):
        self.claims = []

    async def publish(self, claim):
        await anyio.lowlevel.checkpoint()
        self.claims.append(claim)


@asynccontextmanager
async def opened(folder, market=None):
    publish = (market or Market()).publish
    context = SettlementContext(folder, VirtualClock(), publish, lambda _reference: b"")
    async with open_ledger(context, LedgerConfig()) as ledger:
        yield ledger


@pytest.mark.anyio
class TestLedger(SettlementConformance):
    @pytest.fixture
    def kind(self) -> SettlementKind:
        return register_settlements()[0]


def test_the_kind_is_registered():
    assert (1, ["ledger"]) == (COMPUTE_BRIDGE_API, [kind.kind for kind in register_settlements()])


@pytest.mark.anyio
async def test_a_claim_is_published_once(tmp_path):
    market = Market()
    async with opened(tmp_path, market) as ledger:
        await ledger.settle(CLAIM)
        await ledger.settle(CLAIM)

    assert [CLAIM] == market.claims


@pytest.mark.anyio
async def test_a_claim_of_nothing_says_so(tmp_path):
    async with opened(tmp_path) as ledger:
        result = await ledger.settle(evolve(CLAIM, amount=Micros(0)))

    assert SettlementResult(SettlementState.CLAIMED, Reason.NOTHING_DUE) == result


@pytest.mark.anyio
async def test_a_claim_that_the_market_has_answered_says_how(tmp_path):
    async with opened(tmp_path) as ledger:
        await ledger.settle(CLAIM)
        stated = await ledger.reconcile(statement_of())

        assert stated == await ledger.settle(CLAIM)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "changes",
    [
        {"log_hash": b"x" * 32},
        {"provider_id": b"x" * 32},
        {"rate": 1},
        {"billable_ms": 1},
        {"charge": 999},
        {"currency": "USD"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_statement_that_differs_is_kept_told_and_not_counted(tmp_path, caplog, changes):
    differs = statement_of(**changes)
    async with opened(tmp_path) as ledger:
        await ledger.settle(CLAIM)
        first = await ledger.reconcile(differs)
        again = await ledger.reconcile(differs)
        balance = await ledger.balance()

    assert first == again == SettlementResult(SettlementState.DIFFERS, Reason.CLAIM_MISMATCH)
    assert (0, 2) == (balance, len(caplog.records))
    with sqlite3.connect(tmp_path / FILE) as book:
        assert [(differs.charge, "differs")] == book.execute("SELECT charge, state FROM statements").fetchall()
    book.close()


@pytest.mark.anyio
async def test_a_market_that_contradicts_itself_is_an_error_and_the_first_word_stands(tmp_path):
    async with opened(tmp_path) as ledger:
        await ledger.settle(CLAIM)
        await ledger.reconcile(statement_of())
        with pytest.raises(SettlementError, match=r"grant 676767676767, charge 0: the market stated it before"):
            await ledger.reconcile(statement_of(provider_fee=Micros(11)))

        assert 990 == await ledger.balance()


@pytest.mark.anyio
async def test_a_refund_and_a_subsidy_count_the_other_way(tmp_path):
    refund = claim_of(2, 300, EntryKind.REFUND)
    async with opened(tmp_path) as ledger:
        for claim, fee in ((claim_of(1, 1000), -50), (refund, 30)):
            await ledger.settle(claim)
            await ledger.reconcile(statement_of(claim, provider_fee=Micros(fee)))

        assert 1050 - 270 == await ledger.balance()


@pytest.mark.anyio
async def test_sums_beyond_64_bits_are_exact(tmp_path):
    most = 2**63 - 1
    async with opened(tmp_path) as ledger:
        for number in range(3):
            claim = claim_of(number, most)
            await ledger.settle(claim)
            await ledger.reconcile(statement_of(claim, provider_fee=Micros(0)))

        assert 3 * most == await ledger.balance()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.sampled_from(["settle", "agree", "differ"]))))
@settings(max_examples=25)
def test_whatever_comes_and_comes_again_the_balance_is_that_of_the_agreed(tmp_path_factory, acts):
    async def play():
        claimed: set[int] = set()
        stated: dict[int, str] = {}
        async with opened(tmp_path_factory.mktemp("book")) as ledger:
            for number, _, act in acts:
                claim = claim_of(number, 100 + number)
                if act == "settle":
                    await ledger.settle(claim)
                    claimed.add(number)
                elif number in claimed and stated.get(number, act) == act:
                    await ledger.reconcile(statement_of(claim, rate=MicrosPerHour(7200 if act == "agree" else 1)))
                    stated[number] = act
            return await ledger.balance(), sum(90 + number for number, act in stated.items() if act == "agree")

    balance, expected = anyio.run(play)

    assert expected == balance


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_nobody_else_may_read_the_book(tmp_path):
    async with opened(tmp_path / "new"):
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new", tmp_path / "new" / FILE)]

    assert [0o700, 0o600] == modes


def spoilt(path, sql):
    open_book(path).close()
    with sqlite3.connect(path) as book:
        book.execute(sql)
    book.close()


def test_a_file_that_is_no_database_is_refused_by_name_and_left_alone(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(b"x" * 4096)
    with pytest.raises(SettlementError, match=rf"{FILE} is damaged"):
        open_book(path)

    assert b"x" * 4096 == path.read_bytes()


def test_a_database_of_somebody_else_is_refused(tmp_path):
    spoilt(tmp_path / FILE, "PRAGMA application_id = 7")
    with pytest.raises(SettlementError, match="is something else; move it away"):
        open_book(tmp_path / FILE)


def test_a_book_of_a_newer_version_is_refused(tmp_path):
    spoilt(tmp_path / FILE, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(SettlementError, match=rf"version {VERSION + 1}, this is {VERSION}; install the newer"):
        open_book(tmp_path / FILE)


def test_a_damaged_book_is_refused(tmp_path):
    book = open_book(tmp_path / FILE)
    for number in range(200):
        book.claim(claim_of(number), at_ms=1)
    book.close()
    raw = bytearray((tmp_path / FILE).read_bytes())
    raw[8192 : 8192 + 3000] = b"\xff" * 3000
    (tmp_path / FILE).write_bytes(raw)
    with pytest.raises(SettlementError, match="damaged"):
        open_book(tmp_path / FILE)


def test_a_record_that_is_none_is_damage(tmp_path):
    book = open_book(tmp_path / FILE)
    book.claim(CLAIM, at_ms=1)
    book.close()
    spoilt(tmp_path / FILE, "UPDATE claims SET record = x'00'")
    book = open_book(tmp_path / FILE)
    with pytest.raises(SettlementError, match=r"damaged \(.*\): put back a copy"):
        book.claim_of(KEY)
    book.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettlementError, match="cannot be opened"):
        open_book(tmp_path / "file" / FILE)


async def settle_many(ledger):
    for number in range(1000):
        await ledger.settle(claim_of(number))


@pytest.mark.anyio
async def test_a_second_claim_says_that_nothing_changes(tmp_path, caplog):
    caplog.set_level("INFO")
    async with opened(tmp_path) as ledger:
        await ledger.settle(CLAIM)
        first = caplog.text
        await ledger.settle(CLAIM)

    assert "" == first
    assert f"{Reason.ALREADY_SETTLED}, nothing changes" in caplog.text


@pytest.mark.anyio
async def test_a_booking_is_on_the_disk_when_it_returns(tmp_path):
    async with opened(tmp_path) as ledger:
        (mode,), (synchronous,) = (
            ledger._book._db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
        )

    full = 2
    assert ("wal", full) == (mode, synchronous)


@pytest.mark.anyio
async def test_a_full_disk_is_an_error_and_what_stands_stays(tmp_path):
    async with opened(tmp_path) as ledger:
        await ledger.settle(CLAIM)
        ledger._book._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(BooksUnwritableError, match="full"):
            await settle_many(ledger)
        ledger._book._db.execute("PRAGMA max_page_count = 100000")

        assert SettlementState.CLAIMED is (await ledger.settle(CLAIM)).state
