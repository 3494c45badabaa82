"""What Cloud Monitoring tells, where the table wants it: each figure with its source, and few calls for many leases."""

import json
import logging

import pytest
from anyio import to_thread

from compute_bridge.model.usage import UNMEASURED, UsageSource
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.promises.situation import tasks_of_a_test
from compute_bridge_gcp.facts import sums_in
from compute_bridge_gcp.metering import CPU, RECEIVED, SENT
from compute_bridge_gcp.policy import PERMISSIONS
from compute_bridge_gcp.sdk import Sdk

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


async def started(world, backend):
    """Start a machine without a guest, and return its id."""
    offers = await backend.offers()
    offer = next(one for one in offers if one.shape == "e2-standard-2" and one.zone == "europe-west4-a")
    return await world.start(world.order(offer))


def metrics_of(usage):
    return (usage.core_ms, usage.net_in_bytes, usage.net_out_bytes)


async def test_cpu_and_network_are_cloud_monitoring_s_and_all_else_is_allocated(metered):
    async with metered.open() as backend:
        one = await started(metered, backend)
        await metered.clock.sleep_ms(12 * MINUTE_MS)
        usage = await backend.usage(one)

    minutes = usage.net_in_bytes.value // 1000
    assert minutes >= 6
    assert usage.net_in_bytes.value == 1000 * minutes
    assert usage.net_out_bytes.value == 2000 * minutes
    # Half of two vCPUs for a minute.
    assert usage.core_ms.value == MINUTE_MS * minutes
    assert {UsageSource.BACKEND} == {figure.source for figure in metrics_of(usage)}
    assert usage.ram_mib_ms.source is usage.disk_gib_ms.source is UsageSource.ALLOCATION
    assert usage.wall_ms.source is UsageSource.BACKEND


async def test_before_a_minute_of_a_machine_is_told_nothing_was_used(metered):
    async with metered.open() as backend:
        usage = await backend.usage(await started(metered, backend))

    assert [(0, UsageSource.BACKEND)] * 3 == [(figure.value, figure.source) for figure in metrics_of(usage)]


async def test_no_figure_falls_and_another_process_counts_the_same(metered):
    seen = []
    async with metered.open() as backend:
        one = await started(metered, backend)
        for _ in range(8):
            await metered.clock.sleep_ms(2 * MINUTE_MS)
            seen.append((await backend.usage(one)).core_ms.value)
    async with metered.open() as other:
        again = (await other.usage(one)).core_ms.value

    assert seen == sorted(seen)
    assert seen[0] == 0 < seen[-1] <= again <= seen[-1] + 2 * MINUTE_MS


async def test_machines_are_told_apart(metered):
    async with metered.open() as backend:
        first = await started(metered, backend)
        await metered.clock.sleep_ms(10 * MINUTE_MS)
        second = await started(metered, backend)
        await metered.clock.sleep_ms(8 * MINUTE_MS)
        both = [(await backend.usage(one)).net_in_bytes.value // 1000 for one in (first, second)]

    assert both[0] - both[1] in (9, 10, 11)


@pytest.mark.parametrize("leases", [1, 100])
async def test_three_questions_a_minute_serve_every_lease(metered, leases):
    async with metered.open() as backend:
        [offer, *_] = await backend.offers()
        await to_thread.run_sync(metered.crowd, offer, leases)
        ids = [one.id for one in await backend.list_owned()]
        await metered.clock.sleep_ms(7 * MINUTE_MS)
        begun_ms = metered.clock.monotonic_ms()
        for _ in range(3):
            async with tasks_of_a_test() as tasks:
                for id_ in ids:
                    tasks.start_soon(backend.usage, id_)
        minutes = (metered.clock.monotonic_ms() - begun_ms) // MINUTE_MS

    assert 3 <= metered.physics.count("timeSeries.list") <= 3 * (minutes + 2)


async def test_a_table_without_metrics_asks_for_none(bare_world):
    async with bare_world.open() as backend:
        usage = await backend.usage(await started(bare_world, backend))

    assert usage.core_ms.source is UsageSource.ALLOCATION
    assert bare_world.physics.count("timeSeries.list") == 0


async def test_metrics_that_fail_hide_nothing_that_was_allocated_and_are_logged_once(metered, caplog):
    async with metered.open() as backend:
        one = await started(metered, backend)
        metered.fake.granted = frozenset(PERMISSIONS)
        with caplog.at_level(logging.WARNING):
            usages = []
            for _ in range(3):
                await metered.clock.sleep_ms(7 * MINUTE_MS)
                usages.append(await backend.usage(one))

    assert [(UNMEASURED,) * 3] * 3 == [metrics_of(usage) for usage in usages]
    assert all(usage.wall_ms.value >= 7 * MINUTE_MS and usage.ram_mib_ms.value > 0 for usage in usages)
    assert caplog.text.count("CPU and network are not told just now") == 1
    assert metered.physics.count("timeSeries.list") <= 9


async def test_metrics_that_fail_are_asked_for_again_after_a_minute_whoever_asks(metered):
    async with metered.open() as backend:
        one = await started(metered, backend)
    metered.fake.granted = frozenset(PERMISSIONS)
    # A minute of this clock is one on the wall, and it says that the machine is old.
    metered.clock = HurriedClock(speed=1)
    metered.clock.jump_utc(60 * MINUTE_MS)
    async with metered.open() as backend:
        for _ in range(3):
            await backend.usage(one)

    assert metered.physics.count("timeSeries.list") == 3


async def test_while_metrics_fail_what_was_told_stands_and_what_was_missed_is_caught_up_with(metered):
    async with metered.open() as backend:
        one = await started(metered, backend)
        await metered.clock.sleep_ms(9 * MINUTE_MS)
        before = await backend.usage(one)
        metered.fake.granted = frozenset(PERMISSIONS)
        await metered.clock.sleep_ms(5 * MINUTE_MS)
        meanwhile = await backend.usage(one)
        metered.fake.granted = None
        await metered.clock.sleep_ms(2 * MINUTE_MS)
        after = await backend.usage(one)

    assert before.core_ms.value > 0
    assert metrics_of(meanwhile) == metrics_of(before)
    assert after.core_ms.value >= before.core_ms.value + 6 * MINUTE_MS


async def test_one_metric_that_fails_leaves_the_others_where_they_were(metered):
    async with metered.open() as backend:
        one = await started(metered, backend)
        await metered.clock.sleep_ms(9 * MINUTE_MS)
        metered.fake.refuse_next("timeSeries.list", 503, "backendError")
        failed = await backend.usage(one)
        await metered.clock.sleep_ms(2 * MINUTE_MS)
        usage = await backend.usage(one)

    assert metrics_of(failed) == (UNMEASURED,) * 3
    assert usage.core_ms.value == 60 * usage.net_in_bytes.value == 30 * usage.net_out_bytes.value


async def test_every_page_is_read(metered):
    metered.reconfigure(page_size=1)
    async with metered.open() as backend:
        offer = next(one for one in await backend.offers() if one.shape == "e2-standard-2")
        await to_thread.run_sync(metered.crowd, offer, 150)
    sdk = Sdk(metered.config, metered.key)
    await metered.clock.sleep_ms(8 * MINUTE_MS)
    now = metered.physics.now_ms() // MINUTE_MS * MINUTE_MS
    told = await to_thread.run_sync(sdk.time_series, SENT, now - 60 * MINUTE_MS, now)

    assert len(told) == 300
    assert metered.physics.count("timeSeries.list") == 2


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ({"doubleValue": 1.5}, "1.5"),
        ({"int64Value": "7"}, "7"),
        ({"doubleValue": "NaN"}, "0"),
        ({"int64Value": "-1"}, "0"),
        ({}, "0"),
    ],
)
def test_what_is_no_number_is_none(value, amount):
    point = {"interval": {"endTime": "2026-01-01T00:01:00Z"}, "value": value}
    page = {"timeSeries": [{"resource": {"labels": {"instance_id": "1"}}, "points": [point]}]}

    assert [("1", amount)] == [(number, str(found)) for number, found in sums_in(page, 0)]


def test_a_point_that_ends_where_the_time_begins_is_of_the_time_before():
    points = [{"interval": {"endTime": "1970-01-01T00:01:00Z"}, "value": {"int64Value": "5"}}]
    page = json.loads(json.dumps({"timeSeries": [{"resource": {"labels": {"instance_id": "1"}}, "points": points}]}))

    assert [] == [*sums_in(page, MINUTE_MS)]


GOOD = {
    "filter": f'metric.type = "{RECEIVED}" AND resource.type = "gce_instance"',
    "interval.startTime": "2026-01-01T00:00:00Z",
    "interval.endTime": "2026-01-01T00:10:00Z",
    "aggregation.alignmentPeriod": "600s",
    "aggregation.perSeriesAligner": "ALIGN_SUM",
}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"filter": 'resource.type = "gce_instance"'}, 400),
        ({"filter": ""}, 400),
        ({"filter": f'metric.type = "{CPU}" AND metric.type = "{SENT}"'}, 400),
        ({"filter": 'metric.type = "compute.googleapis.com/no/such"'}, 404),
        ({"filter": f'metric.type = "{CPU}" AND resource.type = "gae_app"'}, 400),
        ({"interval.endTime": ""}, 400),
        ({"interval.startTime": ""}, 400),
        ({"interval.endTime": "2026-01-01T00:00:00Z"}, 400),
        ({"interval.endTime": "2026-01-01T00:10:00"}, 400),
        ({"aggregation.alignmentPeriod": "59s"}, 400),
        ({"aggregation.alignmentPeriod": ""}, 400),
        ({"aggregation.perSeriesAligner": "ALIGN_SOMEHOW"}, 400),
        ({"pageSize": "-1"}, 400),
        ({"pageSize": "1000000"}, 200),
        ({"pageToken": "somewhere"}, 400),
        ({"no-such": "1"}, 400),
    ],
)
async def test_the_fake_refuses_what_the_vendor_refuses(metered, changes, status):
    sdk = Sdk(metered.config, metered.key)
    url = f"{metered.fake.url}/v3/projects/{metered.config.project}/timeSeries"
    answer = await to_thread.run_sync(lambda: sdk._session().get(url, params={**GOOD, **changes}))

    assert status == answer.status_code, answer.text
