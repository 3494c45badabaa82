"""What a market that starts makes of what it finds: its own past, another leader's, or a lost file."""

import anyio
import pytest
from attrs import evolve

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.clearing import ClearingRecord
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.usage import Outcome
from compute_bridge_market.book import BookError

pytestmark = pytest.mark.anyio

HOUR = 3_600_000


async def live(world):
    """Let a market have a past: served, refused and cleared again, extended, still open, still waiting."""
    cheap, dear = await world.provider("cheap").sell(1000), await world.provider("dear").sell(2000)
    alice, bob = world.requester("alice"), world.requester("bob")
    served, refused, running = await alice.ask(), await bob.ask(), await alice.ask()
    await world.tick()
    await cheap.tell(await world.grant(served))
    await cheap.tell(await world.grant(refused), outcome=Outcome.FAILED, reason=Reason.NO_OFFER)
    await alice.control(await world.grant(running), "extend", extend_ms=HOUR)
    await alice.control(await world.grant(running), "extend", extend_ms=500 * 24 * HOUR // 1000, sequence=2)
    await world.tick()
    await dear.tell(await world.grant(refused))
    return await bob.ask(max_rate=1)


async def everything(world):
    """Return all that is on the network."""
    streams = [getattr(channels, name) for name in dir(channels) if name.isupper()]
    return {stream: await world.network.fetch(stream, limit=10_000) for stream in streams}


async def test_a_restart_publishes_nothing(world):
    await live(world)
    before = await everything(world)
    await world.stop()
    await world.start()

    assert await everything(world) == before


async def test_a_restart_goes_on_with_the_next_tick_and_term(world):
    await live(world)
    await world.stop()
    await world.start()
    await world.requester("alice").ask()
    await world.tick()
    ticks, records = await world.all(channels.ALMANAC, AlmanacTick), await world.all(channels.CLEARING, ClearingRecord)

    assert [tick.value.tick for tick in ticks] == list(range(1, len(ticks) + 1))
    assert records[-1].value.term == records[0].value.term + 1


@pytest.mark.parametrize("repeats", [1, 100], ids=["short", "longer than a batch"])
async def test_a_lost_book_is_made_anew_from_the_network(world, repeats):
    for _ in range(repeats):
        await world.network.append(channels.INTAKE, _.to_bytes(2, "big"), b"garbage")
        await world.network.append(channels.CARD_SUBMISSIONS, _.to_bytes(2, "big"), b"garbage")
    await live(world)
    balances, before = await world.balances(), await everything(world)
    await world.stop()
    await world.start(book="found-empty.db")

    assert await world.balances() == balances
    assert await everything(world) == before


async def test_a_market_with_a_book_made_anew_clears_as_before(world):
    waiting = await live(world)
    await world.stop()
    await world.start(book="found-empty.db")
    newest = await world.requester("alice").ask()
    await world.tick()

    assert await world.grant(waiting) is None
    assert (await world.grant(newest)).provider_id == world.provider("cheap").id


async def test_a_book_of_another_coalition_is_refused(world):
    await world.stop()
    elsewhere = evolve(world.module.handshake, coalition=evolve(world.module.handshake.coalition, name="other"))
    world.module = evolve(world.module, handshake=elsewhere)

    with pytest.raises(BookError, match="is the book of coalition"):
        await world.start()


async def test_a_file_that_is_no_book_is_refused(world):
    (world.folder / "notes.txt").write_text("not a database, and long enough to be looked at" * 20)

    with pytest.raises(BookError, match=r"notes\.txt"):
        await world.start(book="notes.txt")


async def ask_until_the_disk_is_full(world):
    pages = world.book._db.execute("PRAGMA page_count").fetchone()[0]
    world.book._db.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(50):
        await world.requester("alice").submit()
        await world.tick()


async def test_a_full_disk_books_nothing_and_loses_nothing(world):
    provider = await world.provider("p").sell()
    with pytest.raises(BookError, match="full"):
        await ask_until_the_disk_is_full(world)
    world.book._db.execute("PRAGMA max_page_count = 1000000")
    await world.tick(2)
    grants = await world.grants()

    assert len(grants) == len({grant.request_id for grant in grants}) > 0
    assert {grant.provider_id for grant in grants} == {provider.id}
    assert sum((await world.balances()).values()) == 0


# --- two leaders ------------------------------------------------------------------------------------


@pytest.fixture
async def rival(world, module, attester, network):
    """Another process that serves the same market with a book of its own."""
    other = type(world)(module, attester, network, world.clock, world.folder, salt="rival")
    await other.start(book="rival.db")
    yield other
    await other.stop()


async def test_two_leaders_keep_one_almanac(world, rival):
    for _ in range(5):
        await world.market.tick()
        await rival.market.tick()
    ticks = await world.all(channels.ALMANAC, AlmanacTick)

    assert [tick.value.tick for tick in ticks] == list(range(1, len(ticks) + 1))
    assert [tick.value.previous for tick in ticks[1:]] == [tick.hash for tick in ticks[:-1]]


async def test_two_leaders_award_a_request_once(world, rival):
    await world.provider("p").sell()
    for _ in range(4):
        await world.requester("alice").ask()
        await rival.settle_down()
        await world.market.tick()
        await rival.market.tick()
    grants = await world.grants()

    assert len(grants) == len({grant.request_id for grant in grants}) == 4


async def test_a_leader_that_has_not_read_the_other_cannot_commit(world, rival):
    await world.provider("p").sell()
    await world.requester("alice").ask()
    await rival.settle_down()
    await world.market.tick()
    tick = await rival.market.almanac.advance()
    committed = await rival.market.rounds.hold(tick)

    assert not committed
    assert len(await world.grants()) == 1


@pytest.mark.parametrize("terms", [(1, 1), (1, 2), (2, 1)])
async def test_two_leaders_at_the_same_moment_commit_one_record(world, rival, terms):
    await world.provider("p").sell()
    await world.requester("alice").ask()
    await rival.settle_down()
    tick = await world.market.almanac.advance()
    async with anyio.create_task_group() as tasks:
        for leader, term in zip((world, rival), terms, strict=True):
            leader.market.rounds.term = term
            tasks.start_soon(leader.market.rounds.hold, tick)
    await world.tick()

    assert len(await world.records()) == 1
    assert len(await world.grants()) == 1


async def test_leaders_with_books_of_their_own_come_to_the_same_balances(world, rival):
    await live(world)
    await rival.settle_down()
    await rival.settle_down()

    assert await rival.balances() == await world.balances()
    assert len(await world.all(channels.SETTLEMENTS, SettlementStatement)) == 3


@pytest.fixture
async def twin(world, rival):
    """Another process that serves the same market with the same book."""
    await rival.stop()
    await rival.start(book="market.db")
    return rival


async def test_one_book_that_two_leaders_share_counts_each_entry_once(world, twin):
    provider = await world.provider("p").sell()
    request = await world.requester("alice").ask()
    await world.tick()
    await twin.market.tick()
    await twin.settle_down()
    await provider.tell(await world.grant(request))
    await twin.settle_down()

    assert (await world.balances())["fees"] == -30
    assert await world.balances() == await twin.balances()


async def test_leaders_that_share_a_book_link_each_record_to_the_one_before(world, twin):
    await world.provider("p").sell()
    for leader in (world, twin, twin, world):
        await world.requester("alice").ask()
        await leader.market.tick()
        await leader.market.tick()
    records = await world.records()

    assert [record.value.round for record in records] == [1, 2, 3, 4]
    assert [record.value.previous for record in records[1:]] == [record.hash for record in records[:-1]]


async def test_leaders_that_share_a_book_know_each_others_cards(world, twin):
    provider = await world.provider("p").sell()
    request = await world.requester("alice").ask()
    await twin.market.tick()

    assert (await world.grant(request)).provider_id == provider.id
