"""Usage logs: what they cost, who may write one, and what becomes of a grant without one."""

import pytest
from attrs import evolve

from compute_bridge.model import channels
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.units import BasisPoints, Milliseconds, charge, fee
from compute_bridge.model.usage import Outcome
from compute_bridge.wire.signing import public_key, sign

pytestmark = pytest.mark.anyio


@pytest.fixture
async def seller(world):
    return await world.provider("p").sell()


@pytest.fixture
async def grant(world, seller):
    request = await world.requester("alice").ask()
    await world.tick()
    return await world.grant(request)


def books(world, seller):
    alice = public_key(world.requester("alice").account).hex()
    return {"held": f"held/{alice}", "owed_by": f"owed-by/{alice}", "owed_to": f"owed-to/{seller.id.hex()}"}


async def test_the_charge_is_recomputed_from_grant_and_log(world, seller, grant):
    await seller.tell(grant, billable_ms=1_234_567, ended_at=2_000_000)
    statement = await world.statement(grant)
    amount = charge(grant.rate, Milliseconds(1_234_567))

    assert (statement.reason, statement.billable_ms, statement.charge) == (Reason.CHARGED, 1_234_567, amount)
    assert (statement.requester_fee, statement.provider_fee) == (
        fee(amount, BasisPoints(100)),
        fee(amount, BasisPoints(200)),
    )


async def test_the_books_follow_the_statement_and_sum_to_zero(world, seller, grant):
    await seller.tell(grant)
    names = books(world, seller)
    balances = await world.balances()

    assert balances[names["owed_by"]] == 1000 + 10
    assert balances[names["owed_to"]] == -(1000 - 20)
    assert balances["fees"] == -30
    assert balances[names["held"]] == 0
    assert sum(balances.values()) == 0


async def test_more_than_was_granted_is_not_charged(world, seller, grant):
    await seller.tell(grant, billable_ms=10**12, ended_at=10**13)

    assert (await world.statement(grant)).billable_ms == grant.duration_ms


async def test_more_than_the_machine_ran_is_not_charged(world, seller, grant):
    await seller.tell(grant, billable_ms=grant.duration_ms, started_at=1000, ended_at=1500)

    assert (await world.statement(grant)).billable_ms == 500


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED, Outcome.NO_SHOW])
async def test_what_was_not_served_costs_nothing(world, seller, grant, outcome):
    await seller.tell(grant, outcome=outcome, reason=Reason.NO_OFFER)
    statement, names = await world.statement(grant), books(world, seller)

    assert (statement.reason, statement.charge) == (Reason.NOTHING_DUE, 0)
    assert (await world.balances())[names["held"]] == 0
    assert names["owed_by"] not in await world.balances()


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILED, Outcome.NO_SHOW])
async def test_a_void_grant_is_cleared_again_without_that_provider(world, seller, grant, outcome):
    other = await world.provider("q").sell(2000)
    await seller.tell(grant, outcome=outcome, reason=Reason.NO_OFFER)
    await world.tick()
    again = await world.grant(grant.request_id)

    assert (again.provider_id, again.id != grant.id) == (other.id, True)
    assert (await world.reasons(grant.request_id))[seller.id] is Reason.EXCLUDED


async def test_a_requester_who_does_not_show_up_is_not_cleared_again(world, seller, grant):
    await world.provider("q").sell()
    await seller.tell(grant, outcome=Outcome.NO_SHOW, reason=Reason.ENVELOPE_ABSENT)
    await world.tick()

    assert await world.grants(grant.request_id) == [grant]


async def test_a_served_request_is_not_cleared_again(world, seller, grant):
    await world.provider("q").sell()
    await seller.tell(grant)
    await world.tick()

    assert await world.grants(grant.request_id) == [grant]


async def test_an_expired_request_is_not_cleared_again(world, seller):
    request = await world.requester("alice").ask(expires_at=world.market.almanac.now + 1)
    await world.tick()
    await world.provider("q").sell()
    await seller.refuse(await world.grant(request))
    await world.tick()

    assert len(await world.grants(request)) == 1


# --- logs that must not count -----------------------------------------------------------------------


async def assert_unsettled(world, grant):
    assert await world.statement(grant) is None
    assert world.market.dropped[channels.LOGS] == 1


async def test_a_log_by_another_provider_is_dropped(world, seller, grant):
    stranger = await world.provider("q").sell()
    await stranger.tell(grant, record_id=b"elsewhere")

    await assert_unsettled(world, grant)


async def test_a_log_in_the_name_of_the_provider_by_another_key_is_dropped(world, seller, grant, make):
    forged = sign(seller.log(grant).value, make.seed("stranger"), domain=world.domain)
    await world.network.append(channels.LOGS, b"forged", forged.raw)
    await world.settle_down()

    await assert_unsettled(world, grant)


async def test_a_log_for_an_unknown_grant_is_dropped(world, seller, grant):
    await seller.tell(evolve(grant, id=bytes([3] * 32)))

    await assert_unsettled(world, grant)


async def test_a_log_of_another_coalition_is_dropped(world, seller, grant, make):
    elsewhere = sign(seller.log(grant).value, seller.boot, domain=make.elsewhere)
    await world.network.append(channels.LOGS, grant.id, elsewhere.raw)
    await world.settle_down()

    await assert_unsettled(world, grant)


async def test_a_log_of_an_epoch_before_the_grant_is_dropped(world):
    older = await world.provider("p").sell()
    newer = world.provider("p")
    newer.epoch = older.epoch
    await newer.claim()
    await newer.sell()
    request = await world.requester("alice").ask()
    await world.tick()
    grant = await world.grant(request)
    await older.tell(grant)

    await assert_unsettled(world, grant)


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-1], lambda raw: raw + bytes(9000), lambda _raw: b"\0" * 99])
async def test_a_broken_log_is_dropped_and_a_good_one_still_counts(world, seller, grant, spoil):
    await world.network.append(channels.LOGS, b"broken", spoil(seller.log(grant).raw))
    await seller.tell(grant)

    assert (await world.statement(grant)).reason is Reason.CHARGED


async def test_a_log_signed_after_a_reboot_counts(world, seller, grant):
    await seller.claim()
    await seller.tell(grant)

    assert (await world.statement(grant)).reason is Reason.CHARGED


async def test_a_log_signed_before_a_reboot_counts(world, seller, grant):
    log = seller.log(grant)
    await seller.claim()
    await seller.sell()
    await world.network.append(channels.LOGS, grant.id, log.raw)
    await world.settle_down()

    assert (await world.statement(grant)).reason is Reason.CHARGED


async def test_a_replayed_log_changes_nothing_and_the_market_says_so(world, seller, grant, caplog):
    caplog.set_level("INFO")
    log = await seller.tell(grant)
    before = await world.balances()
    await world.network.append(channels.LOGS, b"again", log.raw)
    await world.settle_down()

    assert f"{Reason.ALREADY_SETTLED} by this very log" in caplog.text
    assert await world.balances() == before
    assert len(await world.all(channels.SETTLEMENTS, SettlementStatement)) == 1


async def test_of_two_logs_that_differ_the_first_counts_and_the_second_is_told_so(world, seller, grant):
    first = await seller.tell(grant, billable_ms=1000)
    before = await world.balances()
    second = await seller.tell(grant, record_id=b"second thoughts")
    statement, told = await world.statement(grant), await world.statement(grant, sequence=1)

    assert (statement.log_hash, statement.billable_ms) == (first.hash, 1000)
    assert (told.log_hash, told.reason, told.charge) == (second.hash, Reason.LOG_DISPUTED, 0)
    assert await world.balances() == before


# --- abandonment ------------------------------------------------------------------------------------


@pytest.fixture
async def short(world, seller, make):
    """A grant of ten seconds: ten ticks to run, five to be accepted in, five of grace."""
    request = await world.requester("alice").ask(requirements=make.needs(duration_ms=10_000))
    await world.tick()
    return await world.grant(request)


async def test_a_grant_is_not_abandoned_while_its_log_can_still_be_on_time(world, short):
    await world.tick(20)

    assert await world.statement(short) is None


async def test_a_grant_without_a_log_is_abandoned_and_the_market_says_so(world, seller, short):
    await world.tick(21)
    statement = await world.statement(short)

    assert (statement.reason, statement.log_hash, statement.charge) == (Reason.NOTHING_DUE, bytes(32), 0)
    assert (await world.balances())[books(world, seller)["held"]] == 0


async def test_an_abandoned_request_is_cleared_again_without_that_provider(world, seller, short):
    other = await world.provider("q").sell(2000)
    await world.tick(22)

    assert [grant.provider_id for grant in await world.grants(short.request_id)] == [seller.id, other.id]


async def test_a_log_that_comes_after_abandonment_is_told_so(world, seller, short):
    await world.tick(21)
    log = await seller.tell(short)
    told = await world.statement(short, sequence=1)

    assert (told.log_hash, told.reason, told.charge) == (log.hash, Reason.ALREADY_SETTLED, 0)
    assert books(world, seller)["owed_by"] not in await world.balances()
