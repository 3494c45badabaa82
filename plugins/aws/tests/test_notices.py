"""Spot machines that EC2 marks for termination are told of once, at no more calls than there are regions."""

import anyio
import pytest
from attrs import evolve

from compute_bridge.ports.notices import Interruption, SupportsNotices
from compute_bridge_aws.testing.stock import ZONES
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60), pytest.mark.needs("sshd")]


async def next_notices(backend, *, within_s: float = 20.0) -> tuple[Interruption, ...]:
    assert isinstance(backend, SupportsNotices)
    with anyio.fail_after(within_s):
        return await backend.next_notices()


async def test_a_marked_machine_is_told_of_once(account: AwsWorld):
    account.use(evolve(account.config, spot=True))
    async with account.open() as backend:
        offer = next(one for one in await backend.offers() if one.spot)
        spot = await backend.provision(account.order(offer))
        firm = await backend.provision(account.order(next(one for one in await backend.offers() if not one.spot)))
        account.physics.preempt(account.machine_of(spot.id).id, notice_ms=10**9)
        told = await next_notices(backend)
        with anyio.move_on_after(1) as waits:
            await next_notices(backend)

    assert [spot.id] == [one.instance for one in told]
    assert firm.id != spot.id
    assert waits.cancelled_caught


async def test_what_is_not_marked_is_asked_for_by_one_call_a_region_and_tick(account: AwsWorld):
    account.use(evolve(account.config, spot=True))
    async with account.open() as backend:
        for _ in range(2):
            await backend.provision(account.order(next(one for one in await backend.offers() if one.spot)))
        with anyio.move_on_after(0.5):
            await next_notices(backend)
    calls = [call for call in account.physics.calls if call.op == "DescribeSpotInstanceRequests"]
    apart = [after.at_ms - before.at_ms for before, after in zip(calls, calls[len(ZONES) :], strict=False)]

    assert calls
    assert min(apart) >= account.config.watch_ms - 100


async def test_an_account_that_sells_no_spot_capacity_asks_nothing(bare: AwsWorld):
    async with bare.open() as backend:
        with anyio.move_on_after(0.5):
            await next_notices(backend)

    assert [] == [call for call in bare.physics.calls if call.op == "DescribeSpotInstanceRequests"]
