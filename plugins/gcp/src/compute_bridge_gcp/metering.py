"""What Cloud Monitoring tells of the machines: CPU and network, by the minute and some minutes late.

Three questions a minute at most tell it of every machine of the project, however many leases there are: each is for
what was counted since the one before.
Source: the vendor's list of metrics of Compute Engine; each is sampled every minute and seen 240 s later at most.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from functools import partial

from attrs import evolve

from compute_bridge.cloud.calls import Calls
from compute_bridge.cloud.every import every
from compute_bridge.cloud.listing import Listing
from compute_bridge.cloud.machine import Machine
from compute_bridge.model.usage import UNMEASURED, Figure, UsageMetrics, UsageSource
from compute_bridge.ports.backend import BackendContext
from compute_bridge_gcp.facts import Seen
from compute_bridge_gcp.listing import instance_id
from compute_bridge_gcp.sdk import Sdk

CPU = "compute.googleapis.com/instance/cpu/usage_time"
RECEIVED = "compute.googleapis.com/instance/network/received_bytes_count"
SENT = "compute.googleapis.com/instance/network/sent_bytes_count"

MINUTE_MS = 60_000
SETTLED_MS = 300_000
"""What is younger may still come in, and no figure may fall: a minute more than the vendor takes."""

_MOST_KEPT = 10_000


class Metering:
    """The sums of one project, in memory; another process reads the same ones from the start of its oldest machine."""

    def __init__(self, context: BackendContext, calls: Calls, sdk: Sdk) -> None:
        self._context = context
        self._calls = calls
        self._sdk = sdk
        self._machines: dict[str, Seen] = {}
        self._sums: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(partial(defaultdict, Decimal))
        self._until_ms = 0
        self._reading: Listing[int] = Listing(
            self._read, context.clock, every_ms=MINUTE_MS, place=f"metrics of backend {context.name}"
        )

    def note(self, seen: Iterable[Seen]) -> None:
        """Take in a listing of ours: the vendor's numbers, by which the metrics go."""
        self._machines = {instance_id(one.zone, one.name): one for one in seen}

    async def metered(self, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
        """Return ``allocated`` with CPU and network as they were used; 0 until a minute of a machine is told.

        :raises BackendError: while the vendor does not tell.
        """
        await self._reading.recent()
        seen = self._machines.get(machine.id)
        if seen is None:
            return evolve(allocated, core_ms=UNMEASURED, net_in_bytes=UNMEASURED, net_out_bytes=UNMEASURED)
        sums = self._sums[seen.number]
        return evolve(
            allocated,
            core_ms=_figure(sums[CPU] * 1000),
            net_in_bytes=_figure(sums[RECEIVED]),
            net_out_bytes=_figure(sums[SENT]),
        )

    async def _read(self) -> int:
        """Add what was counted since the last reading: of all metrics, or of none."""
        until_ms = (self._context.clock.utc_ms() - SETTLED_MS) // MINUTE_MS * MINUTE_MS
        since_ms = self._until_ms or self._earliest_ms(until_ms)
        if until_ms - since_ms >= MINUTE_MS:
            ask = {
                metric: partial(
                    self._calls.read, "read metrics", partial(self._sdk.time_series, metric, since_ms, until_ms)
                )
                for metric in (CPU, RECEIVED, SENT)
            }
            self._add(await every(ask))
            self._until_ms = until_ms
        return until_ms

    def _earliest_ms(self, until_ms: int) -> int:
        started = [one.started_ms or one.created_ms for one in self._machines.values()]
        return min(started, default=until_ms) // MINUTE_MS * MINUTE_MS

    def _add(self, told: dict[str, list[tuple[str, Decimal]]]) -> None:
        ours = {one.number for one in self._machines.values()}
        if len(self._sums) > _MOST_KEPT:
            for number in self._sums.keys() - ours:
                del self._sums[number]
        for metric, amounts in told.items():
            for number, amount in amounts:
                if number in ours:
                    self._sums[number][metric] += amount


def _figure(value: Decimal) -> Figure:
    return Figure(int(value), UsageSource.BACKEND)
