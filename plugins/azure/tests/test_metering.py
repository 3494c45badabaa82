"""CPU and network by Azure Monitor, where the table says so."""

import pytest

from compute_bridge.model.units import UtcMs
from compute_bridge.model.usage import Figure, UsageMetrics, UsageSource
from compute_bridge_azure.metering import NAMES, metered
from compute_bridge_azure.testing.answers import No
from compute_bridge_azure.testing.views import metric_views

BORN_MS = 1_795_856_400_000


def told(minutes, vcpus=2):
    now_ms = UtcMs(BORN_MS + minutes * 60_000)
    return metered(UsageMetrics(), metric_views(list(NAMES), BORN_MS, now_ms), vcpus, now_ms)


def test_windows_count_when_they_have_settled():
    assert told(7).core_ms == Figure(0, UsageSource.BACKEND)
    assert told(8).core_ms == Figure(300_000, UsageSource.BACKEND)
    assert told(13) == told(14)


def test_no_figure_falls():
    figures = [told(minutes) for minutes in range(40)]

    assert [one.core_ms.value for one in figures] == sorted(one.core_ms.value for one in figures)
    assert [one.net_in_bytes.value for one in figures] == sorted(one.net_in_bytes.value for one in figures)


@pytest.mark.parametrize("value", [None, "NaN", -1, "many"])
def test_what_is_no_number_is_none(value):
    points = [{"timeStamp": "2020-01-01T00:00:00Z", "average": value, "total": value}]
    metrics = [{"name": {"value": name}, "timeseries": [{"data": points}]} for name in NAMES]

    assert metered(UsageMetrics(), metrics, 2, UtcMs(BORN_MS)).core_ms.value == 0


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_the_figures_say_who_counted_them(world):
    world.sell(metrics=True)
    async with world.open() as backend:
        instance = await backend.provision(world.order((await backend.offers())[0]))
        await world.clock.sleep_ms(600_000)
        usage = await backend.usage(instance.id)
        world.arm.refuse_next("GetMetrics", No(503, "ServerBusy"))
        silent = await backend.usage(instance.id)
        await backend.terminate(instance.id)

    assert (silent.core_ms, silent.net_in_bytes, silent.net_out_bytes) == (
        usage.core_ms,
        usage.net_in_bytes,
        usage.net_out_bytes,
    )
    assert silent.wall_ms.value >= usage.wall_ms.value >= 600_000
    assert usage.core_ms.source is usage.net_out_bytes.source is UsageSource.BACKEND
    assert usage.core_ms.value >= 300_000
    assert usage.net_out_bytes.value >= 1000
    assert usage.ram_mib_ms.source is UsageSource.ALLOCATION
