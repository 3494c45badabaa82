"""What Azure Monitor tells of a machine, as usage.

Source: the platform metrics of ``Microsoft.Compute/virtualMachines``; an average of ``Percentage CPU`` is of all vCPUs.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from attrs import evolve

from compute_bridge.model.units import UtcMs
from compute_bridge.model.usage import Figure, UsageMetrics, UsageSource
from compute_bridge_azure.account import read_time

NAMES = ("Percentage CPU", "Network In Total", "Network Out Total")
WINDOW = "PT5M"

_WINDOW_MS = 300_000
# What is younger may still change, and no figure may fall.
_SETTLED_MS = 180_000


def metered(allocated: UsageMetrics, metrics: Iterable[Mapping[str, Any]], vcpus: int, now_ms: UtcMs) -> UsageMetrics:
    """Return ``allocated`` with CPU and network as metered in whole windows that are settled."""
    told = {(one.get("name") or {}).get("value"): list(_points(one, now_ms)) for one in metrics}
    cpu, received, sent = (told.get(name, []) for name in NAMES)
    core_ms = sum(_number(point.get("average")) * vcpus * _WINDOW_MS / 100 for point in cpu)
    return evolve(
        allocated,
        core_ms=_figure(core_ms),
        net_in_bytes=_figure(sum(_number(point.get("total")) for point in received)),
        net_out_bytes=_figure(sum(_number(point.get("total")) for point in sent)),
    )


def _points(metric: Mapping[str, Any], now_ms: UtcMs) -> Iterator[Mapping[str, Any]]:
    for series in metric.get("timeseries") or ():
        for point in series.get("data") or ():
            began_ms = read_time(str(point.get("timeStamp")).replace("Z", "+00:00"))
            if began_ms and began_ms + _WINDOW_MS + _SETTLED_MS <= now_ms:
                yield point


def _number(value: object) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return number if number.is_finite() and number > 0 else Decimal(0)


def _figure(value: Decimal | int) -> Figure:
    return Figure(int(value), UsageSource.BACKEND)
