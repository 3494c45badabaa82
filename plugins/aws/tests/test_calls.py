"""How many calls a lease costs, and that listing costs the same for one lease and for a thousand."""

import anyio
import pytest
from attrs import evolve

from compute_bridge.cloud.tags import TOKEN, tags_of, token_word
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.usage import UsageMetrics, UsageSource
from compute_bridge.ports.backend import Offer
from compute_bridge.testing.orders import new_token
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.testing.world import AwsWorld

_LISTINGS = 2
_PERIOD_MS = 300_000
_CHECKPOINTS = 2


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_a_lease_costs_two_changing_calls(account: AwsWorld, backend: AwsBackend):
    [offer, *_] = await backend.offers()
    # The first one of a region also makes the group that all share.
    await backend.terminate((await backend.provision(account.order(offer))).id)
    before = len([call for call in account.physics.calls if call.changes])
    await backend.terminate((await backend.provision(account.order(offer))).id)
    changes = [call.op for call in account.physics.calls if call.changes][before:]

    assert changes == ["RunInstances", "TerminateInstances"]


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_the_first_lease_makes_one_group(account: AwsWorld, backend: AwsBackend):
    [offer, *_] = await backend.offers()
    await backend.terminate((await backend.provision(account.order(offer))).id)
    changes = [call.op for call in account.physics.calls if call.changes]

    assert changes == [
        "CreateSecurityGroup",
        "RevokeSecurityGroupEgress",
        "AuthorizeSecurityGroupEgress",
        "AuthorizeSecurityGroupIngress",
        "RunInstances",
        "TerminateInstances",
    ]


def populate(world: AwsWorld, offer: Offer, number: int) -> list[InstanceId]:
    order = world.order(offer)
    tags = {"Name": order.ownership.name, **tags_of(order, world.config)}
    launched = [
        world.physics.launch(
            region="eu-west-1",
            zone="eu-west-1a",
            shape="t3.micro",
            id=f"i-{at:017x}",
            tags=tags | {TOKEN: token_word(new_token())},
        )
        for at in range(number)
    ]
    return [world.instance_id(one.machine) for one in launched]


@pytest.mark.anyio
@pytest.mark.parametrize("number", [1, 100, 1000])
async def test_a_listing_costs_one_call_a_region_whatever_runs(bare: AwsWorld, number: int):
    async with bare.open() as backend:
        assert isinstance(backend, AwsBackend)
        [offer, *_] = await backend.offers()
        machines = populate(bare, offer, number)
        listings, calls = backend.places.where(offer).reads, bare.physics.count("DescribeInstances")
        async with anyio.create_task_group() as tasks:
            for machine in machines:
                tasks.start_soon(backend.watch_until_exit, machine)
            while backend.places.where(offer).reads < listings + _LISTINGS:
                await bare.clock.sleep_ms(1000)
            tasks.cancel_scope.cancel()
        listings, calls = backend.places.where(offer).reads - listings, bare.physics.count("DescribeInstances") - calls

    assert listings >= _LISTINGS
    # Each machine is looked for in its own region's listing.
    assert listings - 1 <= calls <= 2 * listings


async def usages(backend: AwsBackend, machines: list[InstanceId]) -> list[UsageMetrics]:
    told: list[UsageMetrics] = []

    async def ask(machine: InstanceId) -> None:
        told.append(await backend.usage(machine))

    async with anyio.create_task_group() as tasks:
        for machine in machines:
            tasks.start_soon(ask, machine)
    return told


@pytest.mark.anyio
@pytest.mark.parametrize(("number", "questions"), [(1, 1), (20, 1), (167, 2)])
async def test_metrics_cost_no_listing_of_their_own_and_a_question_for_166_leases(
    bare: AwsWorld, number: int, questions: int
):
    bare.use(evolve(bare.config, metrics=True))
    async with bare.open() as backend:
        assert isinstance(backend, AwsBackend)
        [offer, *_] = await backend.offers()
        machines = populate(bare, offer, number)
        calls = []
        for _ in range(_CHECKPOINTS):
            # So that no period is over while they are asked.
            await bare.clock.sleep_ms(_PERIOD_MS - bare.clock.utc_ms() % _PERIOD_MS)
            before = {op: bare.physics.count(op) for op in ("DescribeInstances", "GetMetricData")}
            told = await usages(backend, machines)
            calls.append({op: bare.physics.count(op) - count for op, count in before.items()})
            # A question that CloudWatch refuses counts as one too.
            assert [one for one in told if one.core_ms.source is not UsageSource.BACKEND] == []

    assert calls == [{"DescribeInstances": 1, "GetMetricData": questions}] * _CHECKPOINTS
