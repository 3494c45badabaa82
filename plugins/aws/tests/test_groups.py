"""What a guest may reach, and who may reach it: by the rules of the group that its machine is in."""

from ipaddress import IPv4Address, IPv4Network

import anyio
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.ports.backend import Offer
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.group import NOT_PUBLIC, Rules, public_ranges
from compute_bridge_aws.testing.world import AwsWorld

_RANGES = [IPv4Network(range_) for range_ in public_ranges()]


@given(st.ip_addresses(v=4))
def test_the_ranges_are_all_that_is_public_and_nothing_else(address: IPv4Address):
    is_public = not any(address in range_ for range_ in NOT_PUBLIC)

    assert is_public is any(address in range_ for range_ in _RANGES)


@pytest.mark.parametrize("address", ["10.0.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "169.254.169.254"])
def test_where_other_leases_are_is_not_public(address: str):
    assert not any(IPv4Address(address) in range_ for range_ in _RANGES)


def test_the_ranges_fit_a_group():
    assert len(_RANGES) <= 60


def test_a_group_is_named_by_its_rules_and_owner():
    egress, isolated = NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED
    names = {
        Rules.of(policy, port=port).name(policy, owner)
        for policy in (egress, isolated)
        for port in (22, 2222)
        for owner in ("a", "b")
    }

    assert len(names) == 8
    assert all(name.startswith(("cb-egress-", "cb-isolated-")) for name in names)


async def started(account: AwsWorld, backend: AwsBackend, policy: NetworkPolicy) -> Rules:
    [offer, *_] = await backend.offers()
    instance = await backend.provision(order_with(account, offer, policy))
    [nic] = account.machine_of(instance.id).document["NetworkInterfaces"]
    group = account.physics.resource("security-group", nic["Groups"][0])
    await backend.terminate(instance.id)
    return Rules(group.document["IpPermissions"], group.document["IpPermissionsEgress"])


def order_with(account: AwsWorld, offer: Offer, policy: NetworkPolicy):
    order = account.order(offer)
    return evolve(order, requirements=evolve(order.requirements, network=policy))


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_an_isolated_guest_opens_no_connection(account: AwsWorld, backend: AwsBackend):
    rules = await started(account, backend, NetworkPolicy.ISOLATED)

    assert rules.inward == {("tcp", 22022, 22022, "0.0.0.0/0")}
    assert rules.outward == frozenset()


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_a_guest_with_egress_reaches_what_is_public(account: AwsWorld, backend: AwsBackend):
    rules = await started(account, backend, NetworkPolicy.EGRESS)

    assert rules.inward == {("tcp", 22022, 22022, "0.0.0.0/0")}
    assert {range_ for *_, range_ in rules.outward} == set(public_ranges())


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_a_group_that_somebody_widened_is_mended(account: AwsWorld):
    async with account.open() as backend:
        assert isinstance(backend, AwsBackend)
        await started(account, backend, NetworkPolicy.ISOLATED)
        [group] = account.physics.resources("security-group")
        wide = frozenset({("-1", -1, -1, "0.0.0.0/0"), ("tcp", 1, 9, "::/0")})
        document = {**group.document, "IpPermissions": wide, "IpPermissionsEgress": wide}
        account.physics.put(evolve(group, document=document))
        await account.clock.sleep_ms(300_000)
        rules = await started(account, backend, NetworkPolicy.ISOLATED)
        groups = account.physics.resources("security-group")

    assert rules == Rules.of(NetworkPolicy.ISOLATED, port=22022)
    assert len(groups) == 1


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_two_processes_make_one_group(account: AwsWorld):
    async with account.open() as one, account.open() as other:
        [offer, *_] = await one.offers()
        orders = [account.order(offer), account.order(offer)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.provision, orders[0])
            tasks.start_soon(other.provision, orders[1])
        made = account.physics.resources("security-group")

    assert len(made) == 1


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_the_groups_go_with_the_bridge_once_nothing_runs_in_them(account: AwsWorld):
    async with account.open() as one:
        [offer, *_] = await one.offers()
        isolated = await one.provision(order_with(account, offer, NetworkPolicy.ISOLATED))
        egress = await one.provision(order_with(account, offer, NetworkPolicy.EGRESS))
        await one.terminate(egress.id)
    names = [group.document["GroupName"] for group in account.physics.resources("security-group")]
    async with account.open() as other:
        order = order_with(account, offer, NetworkPolicy.ISOLATED)
        await other.terminate((await other.provision(order)).id)
        await other.terminate(isolated.id)

    assert [name.rpartition("-")[0] for name in names] == ["cb-isolated"]
    assert account.physics.resources("security-group") == ()


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_the_groups_of_another_owner_stay(account: AwsWorld):
    async with account.open() as mine:
        [offer, *_] = await mine.offers()
        await mine.provision(account.order(offer))
        account.use(evolve(account.config, owner="somebody-else"))
        async with account.open() as theirs:
            await theirs.terminate((await theirs.provision(account.order(offer))).id)

        assert [group.tags["cb-owner"] for group in account.physics.resources("security-group")] == ["operator-1"]


@pytest.mark.anyio
async def test_a_process_that_made_no_machine_asks_for_no_group(account: AwsWorld):
    async with account.open() as backend:
        await backend.offers()

    assert account.physics.count("DescribeSecurityGroups") == 0


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_a_bridge_that_stops_while_aws_is_silent_says_what_may_stay(
    account: AwsWorld, caplog: pytest.LogCaptureFixture
):
    async with account.open() as backend:
        [offer, *_] = await backend.offers()
        await backend.terminate((await backend.provision(account.order(offer))).id)
        await account.go_down()

    assert "security groups may stay" in caplog.text
