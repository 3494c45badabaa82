"""What CloudWatch tells of a machine: CPU and network, in periods of five minutes and some minutes late."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from attrs import evolve

from compute_bridge.cloud.machine import Machine
from compute_bridge.model.usage import Figure, UsageMetrics, UsageSource
from compute_bridge_aws.account import Account
from compute_bridge_aws.machine_of import split

_PERIOD_S = 300
# In ids of queries CloudWatch wants a lower-case letter first.
_SERIES = {"cpu": ("CPUUtilization", "Average"), "in": ("NetworkIn", "Sum"), "out": ("NetworkOut", "Sum")}


async def metered(account: Account, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
    """Return ``allocated`` with CPU and network as they were used; 0 until CloudWatch has its first period.

    :raises BackendError: if CloudWatch does not tell: a figure must not fall back to what was allocated.
    """
    region, id_ = split(machine.id)
    filters = [{"Name": "instance-id", "Values": [id_]}]
    told = await account.read(f"look for a machine in {region}", partial(account.sdk.instances, region, filters))
    options = told[0].get("CpuOptions", {}) if told else {}
    vcpus = options.get("CoreCount", 0) * options.get("ThreadsPerCore", 0)
    series = await _read(account, machine, region, id_)
    # Percent of all vCPUs, averaged over a period.
    core_ms = sum(series["cpu"], Decimal(0)) * vcpus * _PERIOD_S * 10
    return evolve(
        allocated,
        core_ms=_figure(core_ms),
        net_in_bytes=_figure(sum(series["in"], Decimal(0))),
        net_out_bytes=_figure(sum(series["out"], Decimal(0))),
    )


async def _read(account: Account, machine: Machine, region: str, id_: str) -> dict[str, list[Decimal]]:
    ended = machine.exit.ended_at if machine.exit else 0
    until = ended or account.clock.utc_ms()
    # A period is told whole or not at all, so that no figure falls when the rest of it comes in.
    start, end = machine.started_at // 1000 // _PERIOD_S * _PERIOD_S, until // 1000 // _PERIOD_S * _PERIOD_S
    series: dict[str, list[Decimal]] = {name: [] for name in _SERIES}
    if end > start:
        call = partial(account.sdk.metrics, region, metric_queries(id_), _moment(start), _moment(end))
        for told in await account.read(f"read metrics in {region}", call):
            series[told["Id"]] += [Decimal(str(value)) for value in told.get("Values", [])]
    return series


def metric_queries(id_: str) -> list[dict[str, Any]]:
    """Return what CloudWatch is asked of a machine."""
    where = [{"Name": "InstanceId", "Value": id_}]
    return [
        {
            "Id": name,
            "MetricStat": {
                "Metric": {"Namespace": "AWS/EC2", "MetricName": metric, "Dimensions": where},
                "Period": _PERIOD_S,
                "Stat": statistic,
            },
        }
        for name, (metric, statistic) in _SERIES.items()
    ]


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _figure(value: Decimal) -> Figure:
    return Figure(int(value), UsageSource.BACKEND)
