"""Rounds: what they award, what they record, and what anybody can check."""

import pytest
from attrs import evolve

from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.clearing import ClearingInputs
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import grant_id
from compute_bridge.model.reason import Reason
from compute_bridge.wire import codec, merkle
from compute_bridge.wire.signing import open_signed, record_hash

pytestmark = pytest.mark.anyio


async def test_the_cheaper_of_two_bridges_wins(world):
    dear, cheap = await world.provider("dear").sell(2000), await world.provider("cheap").sell(1500)
    request = await world.requester("alice").ask()
    await world.tick()
    grant = await world.grant(request)

    assert (grant.provider_id, grant.rate) == (cheap.id, 1500)
    assert await world.reasons(request) == {cheap.id: Reason.WON, dear.id: Reason.OUTBID}


async def test_the_ticks_are_numbered_linked_and_signed(world):
    await world.tick(3)
    ticks = await world.all(channels.ALMANAC, AlmanacTick)

    assert [tick.value.tick for tick in ticks] == [1, 2, 3, 4]
    assert [tick.value.previous for tick in ticks] == [bytes(32), *(tick.hash for tick in ticks[:-1])]
    assert len({tick.value.random for tick in ticks}) == 4


async def test_a_round_without_open_requests_writes_no_record(world):
    await world.provider("p").sell()
    await world.tick(3)

    assert await world.records() == []


async def test_a_request_waits_for_the_round_that_closes_after_it(world):
    await world.provider("p").sell()
    await world.requester("alice").ask()
    closes_at = world.market.almanac.now
    await world.tick()
    ticks = await world.all(channels.ALMANAC, AlmanacTick)
    record = (await world.records())[0].value

    assert (record.closed_at, record.beacon) == (closes_at, ticks[closes_at].hash)


async def test_a_grant_is_the_projection_of_its_record(world):
    provider = await world.provider("p").sell()
    request = await world.requester("alice").ask()
    await world.tick()
    grant, record = await world.grant(request), (await world.records())[0].value
    award = record.awards[0]

    assert (award.request_id, award.grant_id, award.provider_id) == (request, grant.id, provider.id)
    assert grant.id == grant_id(request, world.domain.module, record.round)
    assert (grant.card_hash, grant.rate) == (award.card_hash, award.rate)
    assert (grant.region, grant.posture, grant.band) == (award.region, award.posture, award.band)
    assert (grant.valid_from, grant.valid_to) == (record.closed_at + 1, record.closed_at + 6)


async def test_the_latest_grant_of_a_request_is_in_the_collection(world):
    await world.provider("p").sell()
    request = await world.requester("alice").ask()
    await world.tick()
    held = await world.network.get(channels.GRANTS, request)

    assert open_signed(held.value, ComputeGrant, world.domain, by=world.module.key).value == await world.grant(request)


async def test_records_are_numbered_linked_and_name_what_went_in(world):
    await world.provider("p").sell()
    for _ in range(3):
        await world.requester("alice").ask()
        await world.tick()
    records = await world.records()

    assert [record.value.round for record in records] == [1, 2, 3]
    assert [record.value.previous for record in records] == [bytes(32), records[0].hash, records[1].hash]
    for record in records:
        assert record.value.inputs == record_hash(await world.inputs(record.value.round))
        assert record.value.rule_fingerprint == world.module.config.rule_fingerprint


async def test_the_verdict_root_covers_every_verdict(world):
    for name in ("p", "q", "r"):
        await world.provider(name).sell()
    for _ in range(4):
        await world.requester("alice").ask()
    await world.tick()
    record = (await world.records())[0].value
    verdicts = await world.verdicts(record.round)

    assert len(verdicts) == record.verdict_count == 12
    assert record.verdict_root == merkle.root([codec.encode(verdict) for verdict in verdicts])


async def test_the_inputs_name_what_every_provider_had_open(world):
    provider = await world.provider("p").sell()
    await world.requester("alice").ask()
    await world.tick()
    await world.requester("alice").ask()
    await world.tick()
    first, second = [signed.value for signed in await world.all(channels.CLEARING_INPUTS, ClearingInputs)]

    assert [(one.provider_id, one.open) for one in first.providers] == [(provider.id, 0)]
    assert [(one.open, one.loads[0].open) for one in second.providers] == [(1, 1)]


async def test_a_provider_is_not_given_more_than_it_can_hold(world):
    provider = await world.provider("p").sell(max_leases=2)
    asked = [await world.requester("alice").ask() for _ in range(3)]
    await world.tick()
    grants = await world.grants()
    left = next(one for one in asked if one not in {grant.request_id for grant in grants})

    assert len(grants) == 2
    assert await world.reasons(left) == {provider.id: Reason.NO_FREE_CAPACITY}


async def test_a_slot_is_free_again_once_the_log_is_in(world):
    provider = await world.provider("p").sell(max_leases=1)
    first, second = await world.requester("alice").ask(), await world.requester("bob").ask()
    await world.tick()
    await provider.tell((await world.grants())[0])
    await world.tick()

    assert {grant.request_id for grant in await world.grants()} == {first, second}


async def test_a_request_waits_until_somebody_can_serve_it(world):
    request = await world.requester("alice").ask()
    await world.tick(3)
    await world.provider("p").sell()
    await world.tick()

    assert await world.grant(request) is not None


async def test_a_request_is_cleared_until_it_expires_and_no_longer(world):
    expires_at = world.market.almanac.now + 2
    request = await world.requester("alice").ask(expires_at=expires_at)
    await world.tick(2)
    await world.provider("p").sell()
    await world.tick()

    assert await world.grant(request) is None


async def test_the_same_losses_for_the_same_reasons_are_recorded_once(world):
    await world.provider("p").sell(20_000)
    await world.requester("alice").ask()
    await world.tick(5)

    assert len(await world.records()) == 1


async def test_a_new_loser_is_recorded(world):
    await world.provider("p").sell(20_000)
    request = await world.requester("alice").ask()
    await world.tick(2)
    late = await world.provider("q").sell(30_000)
    await world.tick(2)

    assert len(await world.records()) == 2
    assert (await world.reasons(request))[late.id] is Reason.ABOVE_MAX_RATE


async def test_a_card_that_is_too_old_takes_part_in_no_round(world):
    await world.provider("p").sell()
    await world.tick(world.module.config.card_max_age_ticks + 1)
    request = await world.requester("alice").ask(expires_at=10_000)
    await world.tick()

    assert await world.grant(request) is None


async def test_a_card_of_a_boot_that_is_over_takes_part_in_no_round(world):
    provider = await world.provider("p").sell()
    await provider.claim()
    request = await world.requester("alice").ask()
    await world.tick()

    assert await world.grant(request) is None


async def test_an_epoch_that_is_overwritten_with_garbage_stops_nobody(world):
    provider = await world.provider("p").sell()
    await world.network.put(channels.EPOCHS, provider.id, b"garbage", expect=1)
    request = await world.requester("alice").ask()
    await world.tick()

    assert (await world.grant(request)).provider_id == provider.id


@pytest.mark.parametrize("stream", [channels.CLEARING, channels.CLEARING_INPUTS, channels.ALMANAC, channels.VERDICTS])
async def test_what_others_write_into_the_markets_streams_is_passed_over(world, stream):
    await world.provider("p").sell()
    for number in (1, 2, 3):
        key = channels.number(number) + (channels.number(0) if stream == channels.VERDICTS else b"")
        if await world.network.find(stream, key) is None:
            await world.network.append(stream, key, b"squatter")
    await world.settle_down()
    request = await world.requester("alice").ask()
    await world.tick(2)

    assert await world.grant(request) is not None


async def test_a_roster_overwritten_by_a_stranger_is_mended_by_the_next_card(world):
    provider = await world.provider("p").sell()
    found = await world.network.get(channels.ROSTER, provider.id)
    await world.network.put(channels.ROSTER, provider.id, b"garbage", expect=found.version)
    await provider.sell()

    assert (await world.network.get(channels.ROSTER, provider.id)).value != b"garbage"


# --- credit ---------------------------------------------------------------------------------------

RESERVED = 1010
"""An hour at 1000, and the requester's fee of one percent."""


class TestCredit:
    @pytest.fixture
    def accounts(self):
        return {"alice": 2 * RESERVED + 500, "bob": 10**9}

    async def test_an_award_sets_its_charge_and_fee_aside(self, world, market_file):
        await world.provider("p").sell()
        await world.requester("alice").ask()
        await world.tick()

        assert await world.balance(f"held/{market_file.accounts[0].key.hex()}") == RESERVED

    async def test_what_an_account_cannot_pay_for_is_not_awarded(self, world):
        provider = await world.provider("p").sell()
        asked = [await world.requester("alice").ask() for _ in range(3)]
        await world.tick()
        granted = {grant.request_id for grant in await world.grants()}
        left = next(one for one in asked if one not in granted)

        assert len(granted) == 2
        assert await world.reasons(left) == {provider.id: Reason.CREDIT_EXHAUSTED}

    async def test_a_request_without_credit_leaves_its_slot_to_another(self, world):
        await world.provider("p").sell(max_leases=1)
        long = evolve((await self.requirements(world)), duration_ms=100 * 3_600_000)
        await world.requester("alice").ask(requirements=long)
        other = await world.requester("bob").ask()
        await world.tick()

        assert [grant.request_id for grant in await world.grants()] == [other]

    async def test_what_took_no_part_is_not_among_the_inputs(self, world):
        await world.provider("p").sell()
        for _ in range(3):
            await world.requester("alice").ask()
        await world.tick()
        record = (await world.records())[0].value
        inputs, verdicts = await world.inputs(1), await world.verdicts(1)

        assert len(inputs.requests) == 2
        assert record.verdict_count == len(verdicts) == 3
        assert verdicts[-1].reason is Reason.CREDIT_EXHAUSTED

    async def test_credit_given_back_is_credit_again(self, world):
        provider = await world.provider("p").sell()
        for _ in range(3):
            await world.requester("alice").ask()
        await world.tick()
        await provider.refuse((await world.grants())[0])
        await world.provider("q").sell()
        await world.tick()

        assert len(await world.grants()) == 3

    async def requirements(self, world):
        return world.requester("alice").request()[0].value.requirements
