"""What CloudWatch tells, where the table wants it: whole periods, and each figure with its source."""

from collections.abc import Iterator

import pytest
from attrs import evolve

from compute_bridge.cloud.tags import TOKEN, tags_of, token_word
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.usage import UNMEASURED, UsageMetrics, UsageSource
from compute_bridge.ports.backend import Backend
from compute_bridge.testing.orders import new_token
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = pytest.mark.anyio

PERIOD_MS = 300_000


@pytest.fixture
def quickest() -> Iterator[AwsWorld]:
    """Run one in which a day is over in a second."""
    with AwsWorld(boots_guests=False, speed=100_000) as world:
        world.use(evolve(world.config, metrics=True))
        yield world


async def launched(world: AwsWorld, backend: Backend, id_: str = "i-00000000") -> InstanceId:
    [offer, *_] = await backend.offers()
    order = world.order(offer)
    tags = tags_of(order, world.config) | {TOKEN: token_word(new_token())}
    launch = world.physics.launch(region="eu-west-1", zone="eu-west-1a", shape="t3.micro", id=id_, tags=tags)
    await world.clock.sleep_ms(5000)
    return world.instance_id(launch.machine)


def periods(usage: UsageMetrics) -> int:
    """Return of how many periods the figures are; all three must be of the same."""
    told = usage.net_in_bytes.value // 1000
    assert usage.net_out_bytes.value == 2000 * told
    # Half of two vCPUs for five minutes.
    assert usage.core_ms.value == 300_000 * told
    return told


@pytest.mark.needs("sshd")
async def test_cpu_and_network_are_cloudwatch_s(account: AwsWorld):
    account.use(evolve(account.config, metrics=True))
    async with account.open() as backend:
        offers = await backend.offers()
        offer = next(one for one in offers if one.shape == "t3.micro")
        instance = await backend.provision(account.order(offer))
        await account.clock.sleep_ms(700_000)
        usage = await backend.usage(instance.id)
        await backend.terminate(instance.id)

    assert usage.core_ms.source is usage.net_in_bytes.source is usage.net_out_bytes.source is UsageSource.BACKEND
    assert periods(usage) >= 1
    assert usage.ram_mib_ms.source is UsageSource.ALLOCATION


@pytest.mark.needs("sshd")
async def test_without_the_permission_time_is_told_and_nothing_else_guessed(
    account: AwsWorld, caplog: pytest.LogCaptureFixture
):
    allowed = account.config
    account.use(evolve(account.config, metrics=True))
    async with account.open() as backend:
        [offer, *_] = await backend.offers()
        instance = await backend.provision(account.order(offer))
        await account.clock.sleep_ms(700_000)
        account.use(allowed)
        usage = [await backend.usage(instance.id), await backend.usage(instance.id)][-1]
        await backend.terminate(instance.id)

    assert usage.wall_ms.value >= 700_000
    assert usage.core_ms == usage.net_in_bytes == usage.net_out_bytes == UNMEASURED
    assert usage.ram_mib_ms.source is UsageSource.ALLOCATION
    assert caplog.text.count("CPU and network are not told just now") == 1


async def test_what_comes_late_is_counted_and_no_figure_falls(quick: AwsWorld):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        quick.aws.beside.metrics_late_ms = 2 * PERIOD_MS
        figures = []
        for _ in range(6):
            await quick.clock.sleep_ms(PERIOD_MS)
            figures.append(periods(await backend.usage(machine)))
        # CloudWatch has lost for a moment what it told, and has it again.
        quick.aws.beside.metrics_late_ms = 5 * PERIOD_MS
        await quick.clock.sleep_ms(PERIOD_MS)
        figures.append(periods(await backend.usage(machine)))
        quick.aws.beside.metrics_late_ms = 0
        await quick.clock.sleep_ms(PERIOD_MS)
        figures.append(periods(await backend.usage(machine)))

    assert figures == sorted(figures)
    # By then at least eight periods are over, and none of them is missing.
    assert figures[5] < figures[-1] >= 8


async def test_a_period_that_comes_after_later_ones_is_counted(quick: AwsWorld):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        await quick.clock.sleep_ms(2 * PERIOD_MS)
        now_s = quick.clock.utc_ms() // PERIOD_MS * 300
        quick.aws.beside.metrics_withheld = (now_s,)
        await quick.clock.sleep_ms(4 * PERIOD_MS)
        await backend.usage(machine)
        quick.aws.beside.metrics_withheld = ()
        await quick.clock.sleep_ms(PERIOD_MS)
        over = quick.clock.utc_ms() // PERIOD_MS
        usage = await backend.usage(machine)

    assert periods(usage) >= over - quick.machine_of(machine).created_ms // PERIOD_MS


async def test_a_lease_of_hours_is_told_alike_by_another_process_and_asked_about_from_an_hour_ago(quick: AwsWorld):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        for _ in range(4):
            await quick.clock.sleep_ms(8 * PERIOD_MS)
            usage = await backend.usage(machine)
        asked = [*quick.aws.beside.metrics_asked_from]
        async with quick.open() as other:
            again = await other.usage(machine)
        later = await backend.usage(machine)

    assert 32 <= periods(usage) <= periods(again) <= periods(later)
    # The first is asked from the start, the last from an hour before what was told last.
    assert asked[-1] - asked[0] >= (32 - 8 - 13) * PERIOD_MS // 1000


async def test_the_last_figures_are_asked_for_anew(quick: AwsWorld):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        quick.aws.beside.metrics_late_ms = PERIOD_MS
        await quick.clock.sleep_ms(3 * PERIOD_MS)
        before = periods(await backend.usage(machine))
        await backend.terminate(machine)
        quick.aws.beside.metrics_late_ms = 0
        after = periods(await backend.usage(machine))

    assert after > before


@pytest.mark.parametrize("status", ["InternalError", "Forbidden"])
async def test_an_answer_without_its_figures_is_no_answer(
    quick: AwsWorld, status: str, caplog: pytest.LogCaptureFixture
):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        await quick.clock.sleep_ms(2 * PERIOD_MS)
        told = await backend.usage(machine)
        quick.aws.beside.metric_status = status
        await quick.clock.sleep_ms(2 * PERIOD_MS)
        silent = await backend.usage(machine)
        quick.aws.beside.metric_status = "Complete"
        await quick.clock.sleep_ms(PERIOD_MS)
        again = await backend.usage(machine)

    assert periods(told) == periods(silent) < periods(again)
    assert f"CloudWatch told {status} in place of figures" in caplog.text


async def test_a_lease_whose_start_cloudwatch_has_forgotten_is_not_counted_too_low(quick: AwsWorld):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        quick.clock.jump_utc(63 * 24 * 12 * PERIOD_MS)
        async with quick.open() as other:
            usage = await other.usage(machine)

    assert usage.core_ms == usage.net_in_bytes == usage.net_out_bytes == UNMEASURED
    assert usage.wall_ms.value >= 63 * 24 * 12 * PERIOD_MS


async def test_each_period_is_counted_once(quick: AwsWorld):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        begin = quick.machine_of(machine).created_ms // PERIOD_MS
        figures = []
        # From the first on each question settles more.
        for wait in (14, 2, 2, 2):
            await quick.clock.sleep_ms((wait + 1) * PERIOD_MS - quick.clock.utc_ms() % PERIOD_MS)
            over = quick.clock.utc_ms() // PERIOD_MS - begin
            told = periods(await backend.usage(machine))
            figures.append((over, told, quick.clock.utc_ms() // PERIOD_MS - begin))

    assert [one for one in figures if not one[0] <= one[1] <= one[2]] == []


async def test_machines_of_several_ages_are_each_counted_from_their_start(quick: AwsWorld):
    async with quick.open() as backend:
        elder = await launched(quick, backend)
        await quick.clock.sleep_ms(6 * PERIOD_MS)
        younger = await launched(quick, backend, "i-00000001")
        await quick.clock.sleep_ms(2 * PERIOD_MS)
        await backend.list_owned()
        figures = [periods(await backend.usage(machine)) for machine in (younger, elder)]

    # Whoever is asked about first, both are in one question.
    assert figures[1] >= 8 > figures[0] >= 2


@pytest.mark.parametrize("behind", [15, 1000])
async def test_a_series_that_is_hours_behind_the_others_loses_nothing(quick: AwsWorld, behind: int):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        quick.aws.beside.metrics_behind_ms = {"NetworkIn": behind * PERIOD_MS}
        await quick.clock.sleep_ms(24 * PERIOD_MS)
        early = await backend.usage(machine)
        quick.aws.beside.metrics_behind_ms = {}
        await quick.clock.sleep_ms(PERIOD_MS)
        late = await backend.usage(machine)

    assert early.net_in_bytes.value // 1000 < early.net_out_bytes.value // 2000
    assert periods(late) >= 25


async def test_a_series_that_tells_nothing_is_not_waited_for_without_end(quickest: AwsWorld):
    beside = quickest.aws.beside
    async with quickest.open() as backend:
        machine = await launched(quickest, backend)
        beside.metrics_behind_ms = {"NetworkIn": 10_000 * PERIOD_MS}
        await quickest.clock.sleep_ms(36 * 12 * PERIOD_MS)
        for _ in range(2):
            await backend.usage(machine)
            await quickest.clock.sleep_ms(PERIOD_MS)

    # The first is asked from the start, the last from a day ago.
    assert beside.metrics_asked_from[-1] - beside.metrics_asked_from[0] >= 11 * 12 * PERIOD_MS // 1000


@pytest.mark.parametrize("listings", [1, 2])
async def test_what_was_counted_outlives_one_listing_that_misses_the_machine(quick: AwsWorld, listings: int):
    async with quick.open() as backend:
        machine = await launched(quick, backend)
        await quick.clock.sleep_ms(10 * PERIOD_MS)
        before = await backend.usage(machine)
        # CloudWatch forgets the start, and has lost for a moment what it told.
        quick.clock.jump_utc(63 * 24 * 12 * PERIOD_MS)
        quick.aws.beside.metrics_late_ms = 64 * 24 * 12 * PERIOD_MS
        quick.physics.propagation_ms = 100 * 24 * 12 * PERIOD_MS
        for _ in range(listings):
            assert await backend.list_owned() == ()
            await quick.clock.sleep_ms(2 * backend.consistency_window_ms)
        quick.physics.propagation_ms = 0
        after = await backend.usage(machine)

    # Whatever stays missing for longer than a listing may be behind is forgotten, or counts would be kept for ever.
    assert (periods(before) >= 10, after.core_ms != UNMEASURED) == (True, listings == 1)
    assert periods(before) <= periods(after) or listings > 1
