"""Spot machines that EC2 marks for termination are told of once, at no more calls than there are regions."""

import logging
import re

import anyio
import pytest
from attrs import evolve

from compute_bridge.model.ids import InstanceId
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.errors import UnavailableError
from compute_bridge.ports.notices import Interruption, SupportsNotices
from compute_bridge_aws import notices
from compute_bridge_aws.testing.stock import ZONES
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]


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


async def provisioned(account: AwsWorld, backend: Backend, region: str) -> InstanceId:
    offers = await backend.offers()
    offer = next(one for one in offers if one.spot and one.region == region)
    return (await backend.provision(account.order(offer))).id


async def waits(backend: Backend) -> bool:
    with anyio.move_on_after(1) as scope:
        await next_notices(backend)
    return scope.cancelled_caught


async def test_a_silent_region_hides_no_other_s_notice_and_keeps_its_own(
    account: AwsWorld, caplog: pytest.LogCaptureFixture
):
    def announce(id_: InstanceId) -> None:
        account.physics.preempt(account.machine_of(id_).id, notice_ms=10**9)

    caplog.set_level(logging.INFO)
    account.use(evolve(account.config, spot=True))
    async with account.open() as backend:
        there = [await provisioned(account, backend, "us-east-2") for _ in range(2)]
        here = await provisioned(account, backend, "eu-west-1")
        announce(there[0])
        told = [await next_notices(backend)]
        account.go_down_in("us-east-2")
        announce(there[1])
        is_quiet = [await waits(backend)]
        announce(here)
        told.append(await next_notices(backend))
        is_quiet.append(await waits(backend))
        await account.come_back()
        told.append(await next_notices(backend))
        is_quiet.append(await waits(backend))

    # Of the region that is silent what it told before stands, and is not told by itself; what it did not tell comes.
    assert [{one.instance for one in some} for some in told] == [{there[0]}, {there[0], here}, {*there, here}]
    assert is_quiet == [True] * 3
    assert caplog.text.count("no interruption notices of us-east-2 just now: backend aws-under-test: ") == 1
    assert caplog.text.count("us-east-2 tells interruption notices again") == 1


async def test_where_no_region_answers_the_failure_is_told(account: AwsWorld):
    account.use(evolve(account.config, spot=True))
    async with account.open() as backend:
        await account.go_down()
        with pytest.raises(UnavailableError, match=r"backend aws-under-test: .*could not be reached"):
            await next_notices(backend)


async def test_a_region_that_hangs_keeps_no_other_s_notice_for_long(
    account: AwsWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(notices, "_PATIENCE_S", 0.3)
    account.use(evolve(account.config, spot=True))
    async with account.open() as backend:
        here, there = [await provisioned(account, backend, region) for region in ("eu-west-1", "us-east-2")]
        for id_ in (here, there):
            account.physics.preempt(account.machine_of(id_).id, notice_ms=10**9)
        held = account.physics.hold_next_call("DescribeSpotInstanceRequests")
        first = await next_notices(backend)
        held.release()
        second = await next_notices(backend)

    assert len(first) == 1
    assert {one.instance for one in second} == {here, there}
    assert re.search(r"could not list spot requests in (eu-west-1|us-east-2) within 0 s", caplog.text)


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
