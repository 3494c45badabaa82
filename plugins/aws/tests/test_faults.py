"""The faults that EC2 alone has, beside those of test_fault_matrix; each ends with one outcome, and nothing left."""

from collections.abc import AsyncIterator

import anyio
import pytest
from attrs import evolve

from compute_bridge.model.ids import InstanceId
from compute_bridge.ports.backend import Backend, ExitCause, Instance, Offer
from compute_bridge.ports.doctor import Verdict
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    NoCapacityError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]


@pytest.fixture(autouse=True)
async def nothing_is_left(account: AwsWorld) -> AsyncIterator[None]:
    yield
    account.physics.come_back()
    account.physics.accept_credentials()
    await account.clock.sleep_ms(10_000)

    assert await account.running() == frozenset()
    assert await account.leftovers() == frozenset()


async def offer_of(backend: Backend, *, zone: str = "eu-west-1a", shape: str = "t3.micro", spot: bool = False) -> Offer:
    offers = await backend.offers()
    return next(one for one in offers if (one.zone, one.shape, one.spot) == (zone, shape, spot))


async def lease(account: AwsWorld, backend: Backend) -> Instance:
    return await backend.provision(account.order(await offer_of(backend)))


async def settle(account: AwsWorld, backend: Backend) -> None:
    await account.clock.sleep_ms(backend.consistency_window_ms)


async def test_no_capacity_is_an_answer_and_not_a_500_to_be_tried_again(account: AwsWorld, backend: AwsBackend):
    order = account.order(await offer_of(backend))
    account.physics.exhaust()
    with pytest.raises(NoCapacityError) as caught:
        await backend.provision(order)

    assert account.physics.count("RunInstances") == 1
    assert caught.value.scope is Scope.OFFER


async def test_a_token_used_up_makes_nothing(account: AwsWorld, backend: AwsBackend):
    order = account.order(await offer_of(backend))
    instance = await backend.provision(order)
    await backend.terminate(instance.id)
    with pytest.raises(UnservableError):
        await backend.provision(order)


async def test_a_table_that_changed_meets_the_machine_of_the_token(account: AwsWorld, backend: AwsBackend):
    order = account.order(await offer_of(backend))
    instance = await backend.provision(order)
    account.use(evolve(account.config, kms_key="arn:aws:kms:eu-west-1:123456789012:key/0"))
    async with account.open() as other:
        met = await other.provision(order)

    assert met == instance
    assert await account.running() == {instance.id}
    await backend.terminate(instance.id)


async def test_a_table_that_changed_makes_no_second_machine_of_a_used_up_token(account: AwsWorld, backend: AwsBackend):
    order = account.order(await offer_of(backend))
    await backend.terminate((await backend.provision(order)).id)
    account.use(evolve(account.config, kms_key="arn:aws:kms:eu-west-1:123456789012:key/0"))
    async with account.open() as other:
        with pytest.raises(UnservableError, match="used up"):
            await other.provision(order)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("Server.InsufficientInstanceCapacity", NoCapacityError),
        ("Server.InternalError", NoCapacityError),
        ("Client.VolumeLimitExceeded", QuotaError),
        ("Client.InternalError", UnservableError),
    ],
)
async def test_a_launch_that_fails_after_pending_says_why(
    account: AwsWorld, backend: AwsBackend, code: str, kind: type[BackendError]
):
    account.physics.fail_next_launch(code)
    with pytest.raises(kind):
        await lease(account, backend)


async def test_a_quota_is_of_the_region_and_takes_the_offers_away(account: AwsWorld, backend: AwsBackend):
    order = account.order(await offer_of(backend))
    account.physics.use_up_quota()
    with pytest.raises(QuotaError) as caught:
        await backend.provision(order)
    async with account.open() as other:
        offers = await other.offers()

    assert caught.value.scope is Scope.REGION
    assert offers == ()


async def test_a_throttled_create_is_sent_once(account: AwsWorld, backend: AwsBackend):
    order = account.order(await offer_of(backend))
    await backend.terminate((await lease(account, backend)).id)
    sent = account.physics.count("RunInstances")
    account.physics.throttle()
    with pytest.raises(ThrottledError):
        await backend.provision(order)
    account.physics.relent()

    assert account.physics.count("RunInstances") == sent + 1


async def test_a_machine_that_is_marked_is_told_by_its_spot_request(account: AwsWorld, sdk):
    account.use(evolve(account.config, spot=True))
    filters = [{"Name": "status-code", "Values": ["marked-for-termination"]}]
    async with account.open() as backend:
        instance = await backend.provision(account.order(await offer_of(backend, spot=True)))
        before = await anyio.to_thread.run_sync(sdk(account).spot_requests, "eu-west-1", filters)
        account.physics.preempt(account.machine_of(instance.id).id, notice_ms=3_600_000)
        [marked] = await anyio.to_thread.run_sync(sdk(account).spot_requests, "eu-west-1", filters)
        await backend.terminate(instance.id)

    assert before == []
    assert f"eu-west-1/{marked['InstanceId']}" == instance.id


async def test_notices_that_are_not_told_hide_no_machine(account: AwsWorld):
    account.use(evolve(account.config, spot=True))
    async with account.open() as backend:
        instance = await backend.provision(account.order(await offer_of(backend, spot=True)))
        [reads, *rest] = account.aws.policy["Statement"]
        some = [action for action in reads["Action"] if action != "ec2:DescribeSpotInstanceRequests"]
        account.aws.policy = {"Statement": [reads | {"Action": some}, *rest]}
        owned = await backend.list_owned()
        await backend.terminate(instance.id)

    assert [one.id for one in owned] == [instance.id]


async def test_a_guest_that_powers_off_early_has_exited(account: AwsWorld, backend: AwsBackend):
    instance = await lease(account, backend)
    account.physics.shut_down(account.machine_of(instance.id).id)
    seen = await backend.watch_until_exit(instance.id)

    assert seen.cause is ExitCause.EXITED


async def test_a_crash_is_a_loss(account: AwsWorld, backend: AwsBackend):
    instance = await lease(account, backend)
    await account.kill(instance.id)
    seen = await backend.watch_until_exit(instance.id)

    assert seen.cause is ExitCause.LOST


async def test_a_region_that_is_disabled_is_left_out_of_the_catalog(
    account: AwsWorld, caplog: pytest.LogCaptureFixture
):
    account.aws.ec2.disabled = {"us-east-2"}
    async with account.open() as backend:
        regions = {capability.region for capability in backend.capabilities()}

    assert regions == {"eu-west-1"}
    assert "region us-east-2 is left out of the catalog: it is not enabled for the account" in caplog.text


async def test_a_listing_wants_every_region_and_names_the_silent_one(account: AwsWorld, backend: AwsBackend):
    account.physics.go_down("us-east-2")
    with pytest.raises(UnavailableError, match="list machines in us-east-2"):
        await backend.list_owned()
    account.aws.ec2.disabled = {"us-east-2"}
    account.physics.come_back()
    with pytest.raises(CredentialsError, match="list machines in us-east-2: AuthFailure"):
        await backend.list_owned()


@pytest.mark.parametrize("how", ["dead", "not enabled"])
async def test_a_region_that_is_not_to_be_seen_holds_up_no_lease_of_another(account: AwsWorld, how: str):
    async with account.open() as backend:
        before = await lease(account, backend)
        if how == "dead":
            account.physics.go_down("us-east-2")
        else:
            account.aws.ec2.disabled = {"us-east-2"}
        regions = {offer.region for offer in await backend.offers()}
        after = await lease(account, backend)
        found = [await backend.find(before.token), await backend.find(after.token)]
        wall = (await backend.usage(before.id)).wall_ms.value
        await backend.terminate(after.id)
        exit_ = await backend.watch_until_exit(after.id)
        await backend.terminate(before.id)
        with pytest.raises(BackendError, match="list machines in us-east-2"):
            await backend.find(before.token)

    assert regions == {"eu-west-1"}
    assert [one.id for one in found if one is not None] == [before.id, after.id]
    assert (wall > 0, exit_.cause) == (True, ExitCause.TERMINATED)
    assert await account.running() == frozenset()


@pytest.mark.parametrize("how", ["dead", "not enabled"])
async def test_the_first_region_of_the_table_takes_no_other_down_with_it(account: AwsWorld, how: str):
    first, other = (table.name for table in account.config.regions)
    if how == "dead":
        account.physics.go_down(first)
    else:
        account.aws.ec2.disabled = {first}
    async with account.open() as backend:
        assert isinstance(backend, AwsBackend)
        instance = await backend.provision(account.order((await backend.offers())[0]))
        declared = {capability.region for capability in backend.capabilities()}
        found = {finding.check: finding.verdict for finding in await backend.examine()}
        await backend.terminate(instance.id)

    assert declared == {other}
    assert (found["identity"], found[f"permission ec2:RunInstances {other}"]) == (Verdict.OK, Verdict.OK)
    assert found[f"permission ec2:DescribeInstances {first}"] is not Verdict.OK
    assert (found.get("regions") is Verdict.FAULT) is (how == "not enabled")


async def test_a_group_that_was_deleted_is_made_again(account: AwsWorld, backend: AwsBackend):
    first = await lease(account, backend)
    await backend.terminate(first.id)
    for group in account.physics.resources("security-group"):
        account.physics.remove("security-group", group.id)
    second = await lease(account, backend)

    assert await account.running() == {second.id}
    await backend.terminate(second.id)


async def test_a_strange_id_is_nobodys(backend: AwsBackend):
    for id_ in ("i-0123456789abcdef0", "eu-west-1/nothing", "mars-1/i-0123456789abcdef0"):
        await backend.terminate(InstanceId(id_))


async def test_an_unknown_code_concludes_nothing(account: AwsWorld, backend: AwsBackend):
    order = account.order(await offer_of(backend))
    await backend.terminate((await lease(account, backend)).id)
    account.aws.refused_next = ["SomethingThatAmazonInventsTomorrow"]
    with pytest.raises(UnavailableError, match="SomethingThatAmazonInventsTomorrow: this code is in no table of ours"):
        await backend.provision(order)


async def test_prices_and_shapes_in_pages_of_one_are_all_read(bare: AwsWorld):
    async with bare.open_backend() as backend:
        assert isinstance(backend, AwsBackend)
        whole = await backend.fetch_catalog()
        bare.page_by(1)
        bare.aws.beside.page = 1
        paged = await backend.fetch_catalog()

    assert {row.key for row in whole.rows} == {row.key for row in paged.rows}
