"""Lease control: what the holder of a request key may change, and nobody else."""

import pytest
from attrs import evolve

from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction, ControlVerdict
from compute_bridge.model.reason import Reason
from compute_bridge.wire.signing import public_key

pytestmark = pytest.mark.anyio

HOUR = 3_600_000


@pytest.fixture
async def seller(world, make):
    return await world.provider("p").sell(bands=(make.band(max_duration_ms=3 * HOUR),))


@pytest.fixture
async def grant(world, seller):
    request = await world.requester("alice").ask()
    await world.tick()
    return await world.grant(request)


async def held(world):
    return await world.balance(f"held/{public_key(world.requester('alice').account).hex()}")


@pytest.mark.parametrize("action", [one for one in ControlAction if one is not ControlAction.EXTEND])
async def test_the_holder_is_answered(world, grant, action):
    verdict = await world.requester("alice").control(grant, action)

    assert (verdict.action, verdict.reason, verdict.duration_ms) == (action, Reason.CONTROL_APPLIED, HOUR)


async def test_an_extension_is_reserved_for_and_counts_at_settlement(world, seller, grant):
    verdict = await world.requester("alice").control(grant, "extend", extend_ms=HOUR)
    reserved = await held(world)
    await seller.tell(grant, billable_ms=2 * HOUR, ended_at=3 * HOUR)

    assert (verdict.reason, verdict.duration_ms, reserved) == (Reason.CONTROL_APPLIED, 2 * HOUR, 2020)
    assert (await world.statement(grant)).charge == 2000
    assert await held(world) == 0


async def test_extensions_add_up_to_what_the_band_allows(world, grant):
    alice = world.requester("alice")
    reasons = [(await alice.control(grant, "extend", extend_ms=HOUR, sequence=number)).reason for number in (1, 2, 3)]

    assert reasons == [Reason.CONTROL_APPLIED, Reason.CONTROL_APPLIED, Reason.EXTENSION_REFUSED]
    assert await held(world) == 3030


async def test_an_extension_of_an_ended_lease_is_refused(world, seller, grant):
    await seller.tell(grant)
    verdict = await world.requester("alice").control(grant, "extend", extend_ms=HOUR)

    assert (verdict.reason, verdict.duration_ms) == (Reason.EXTENSION_REFUSED, HOUR)
    assert await held(world) == 0


class TestWithLittleCredit:
    @pytest.fixture
    def accounts(self):
        return {"alice": 2019}

    async def test_an_extension_that_the_account_cannot_pay_for_is_refused(self, world, grant):
        verdict = await world.requester("alice").control(grant, "extend", extend_ms=HOUR)

        assert (verdict.reason, verdict.duration_ms) == (Reason.EXTENSION_REFUSED, HOUR)
        assert await held(world) == 1010

    async def test_a_refused_extension_leaves_room_for_a_smaller_one(self, world, grant):
        alice = world.requester("alice")
        await alice.control(grant, "extend", extend_ms=HOUR)
        verdict = await alice.control(grant, "extend", extend_ms=HOUR // 2, sequence=2)

        assert (verdict.reason, verdict.duration_ms) == (Reason.CONTROL_APPLIED, HOUR + HOUR // 2)


async def test_an_extension_puts_off_abandonment(world, seller, make):
    request = await world.requester("alice").ask(requirements=make.needs(duration_ms=10_000))
    await world.tick()
    grant = await world.grant(request)
    await world.requester("alice").control(grant, "extend", extend_ms=10_000)
    await world.tick(30)
    still_open = await world.statement(grant) is None
    await world.tick()

    assert (still_open, (await world.statement(grant)).reason) == (True, Reason.NOTHING_DUE)


async def test_a_late_acceptance_puts_off_abandonment(world, seller, make):
    request = await world.requester("alice").ask(requirements=make.needs(duration_ms=10_000))
    await world.tick()
    grant = await world.grant(request)
    await world.tick(5)
    await world.requester("alice").control(grant, "accept-late")
    await world.tick(20)

    assert await world.statement(grant) is None


async def test_another_key_is_told_no_and_takes_no_number_from_the_holder(world, grant, make):
    alice = world.requester("alice")
    stranger = make.seed("stranger")
    await alice.control(grant, "release", key=stranger, record_id=b"forged")
    answers = await world.all(channels.CONTROL_VERDICTS, ControlVerdict)
    verdict = await alice.control(grant, "release")

    assert [answer.value.reason for answer in answers] == [Reason.CONTROL_SIGNATURE]
    assert verdict.reason == Reason.CONTROL_APPLIED


async def test_a_replayed_control_extends_nothing(world, grant):
    alice = world.requester("alice")
    await alice.control(grant, "extend", extend_ms=HOUR)
    entry = (await world.network.fetch(channels.CONTROL))[0]
    await world.network.append(channels.CONTROL, b"again", entry.record)
    await world.settle_down()

    assert await held(world) == 2020


async def test_a_number_below_the_last_is_told_so(world, grant):
    alice = world.requester("alice")
    await alice.control(grant, "report-usage", sequence=5)
    verdict = await alice.control(grant, "release", sequence=4)

    assert verdict.reason == Reason.CONTROL_SEQUENCE


async def test_a_control_of_an_unknown_grant_is_dropped(world, grant):
    alice = world.requester("alice")
    await alice.control(evolve(grant, id=bytes([4] * 32)), "release")

    assert world.market.dropped[channels.CONTROL] == 1
    assert await world.all(channels.CONTROL_VERDICTS, ControlVerdict) == []


async def test_a_broken_control_is_dropped_and_the_next_is_answered(world, grant):
    await world.network.append(channels.CONTROL, b"broken", b"\xff" * 300)
    verdict = await world.requester("alice").control(grant, "release")

    assert verdict.reason == Reason.CONTROL_APPLIED
