"""What CloudWatch tells, where the table wants it: whole periods, and each figure with its source."""

import pytest
from attrs import evolve

from compute_bridge.model.usage import UNMEASURED, UsageSource
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]


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
    periods = usage.net_in_bytes.value // 1000
    assert periods >= 1
    assert usage.net_out_bytes.value == 2000 * periods
    # Half of two vCPUs for five minutes.
    assert usage.core_ms.value == 300_000 * periods
    assert usage.ram_mib_ms.source is UsageSource.ALLOCATION


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
