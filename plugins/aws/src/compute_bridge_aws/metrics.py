"""What CloudWatch tells of the machines: CPU and network, in periods of five minutes and some minutes late.

One question a region and period tells it of every machine, 166 at a time; each is for what is new since the one before,
and for the last hour once more.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from attrs import define, evolve, field

from compute_bridge.cloud.listing import Listing
from compute_bridge.cloud.machine import Machine, Machines
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.usage import UNMEASURED, Figure, UsageMetrics, UsageSource
from compute_bridge.ports.errors import UnavailableError
from compute_bridge_aws.account import Account
from compute_bridge_aws.machine_of import split

_PERIOD_S = 300
# What is this much older than the newest that every series told comes in no more, and is not asked for again.
_SETTLED_S = 3600
# A series that tells nothing holds up the others for no longer: all that is not settled is asked for each time.
_WAITED_S = 24 * 3600
# Source: CloudWatch API reference, GetMetricData: periods of 300 seconds are available for 63 days.
_KEPT_S = 63 * 24 * 3600
# After a failure, and for a machine that is new: how soon there is another question.
_AGAIN_MS = 60_000
# In ids of queries CloudWatch wants a lower-case letter first.
_SERIES = {"cpu": ("CPUUtilization", "Average"), "in": ("NetworkIn", "Sum"), "out": ("NetworkOut", "Sum")}
# Source: CloudWatch API reference, GetMetricData, MetricDataQueries: as many as 500.
_AT_ONCE = 500 // len(_SERIES)
_UNTOLD = ("InternalError", "Forbidden")

Points = Mapping[str, Mapping[int, Decimal]]
"""Of each series what was told, by the second that its period begins at."""


@define
class _Count:
    """What was told of one machine: the sums of all that is before ``since``, and the figures with what is after."""

    since: int
    until: int = 0
    settled: defaultdict[str, Decimal] = field(factory=partial(defaultdict, Decimal))
    figures: defaultdict[str, Decimal] = field(factory=partial(defaultdict, Decimal))

    def take(self, told: Points, *, until: int, last: int) -> None:
        """Take in what was told up to ``until``; a period that is not over by ``last`` counts for nothing yet."""
        newest = [max(told.get(name, ()), default=0) for name in _SERIES]
        # One border for all, so it is the slowest that moves it.
        settled_by = max(self.since, min(newest) - _SETTLED_S, max(newest) - _WAITED_S)
        for name in _SERIES:
            whole = [(at, value) for at, value in told.get(name, {}).items() if self.since <= at <= last - _PERIOD_S]
            self.settled[name] += sum((value for at, value in whole if at < settled_by), Decimal(0))
            late = sum((value for at, value in whole if at >= settled_by), Decimal(0))
            # What was told once is not taken back.
            self.figures[name] = max(self.figures[name], self.settled[name] + late)
        self.since, self.until = settled_by, until


class Metering:
    """The figures of one account's machines, in memory; another process is told the same from their starts on."""

    def __init__(self, account: Account, *, window_ms: int) -> None:
        self._account = account
        self._window_ms = window_ms
        self._found: dict[str, Machines] = {}
        self._missed_ms: dict[InstanceId, int] = {}
        self._vcpus: dict[InstanceId, int] = {}
        self._counts: dict[InstanceId, _Count] = {}
        self._asked: set[InstanceId] = set()
        self._readings: dict[str, Listing[int]] = {
            table.name: Listing(
                partial(self._read, table.name),
                account.clock,
                every_ms=_AGAIN_MS,
                place=f"metrics of backend {account.name} in {table.name}",
            )
            for table in account.config.regions
        }

    def note(self, region: str, found: Machines, vcpus: Mapping[InstanceId, int]) -> None:
        """Take in a listing of ours: which machines there are, and of how many vCPUs CloudWatch tells percents."""
        now_ms = self._account.clock.monotonic_ms()
        kept: dict[InstanceId, Machine] = {}
        for id_, machine in self._found.get(region, {}).items():
            if id_ in found:
                self._missed_ms.pop(id_, None)
            elif now_ms - self._missed_ms.setdefault(id_, now_ms) <= self._window_ms:
                # The listing may be behind; counted anew, figures could be lower than were told, or unknown.
                kept[id_] = machine
            else:
                self._forget(id_)
        self._found[region] = {**kept, **found}
        self._vcpus |= {id_: number for id_, number in vcpus.items() if number}

    def _forget(self, id_: InstanceId) -> None:
        self._missed_ms.pop(id_, None)
        self._vcpus.pop(id_, None)
        self._counts.pop(id_, None)
        self._asked.discard(id_)

    async def metered(self, machine: Machine, allocated: UsageMetrics) -> UsageMetrics:
        """Return ``allocated`` with CPU and network as they were used; 0 until CloudWatch has its first period.

        They are ``unavailable`` where CloudWatch has forgotten a machine's first periods and this process never knew
        them: what is left would be less than was told before.

        :raises BackendError: if CloudWatch does not tell: a figure must not fall back to what was allocated.
        """
        if machine.id not in self._counts and not _is_kept(machine, self._account.clock.utc_ms() // 1000):
            return evolve(allocated, core_ms=UNMEASURED, net_in_bytes=UNMEASURED, net_out_bytes=UNMEASURED)
        reading = self._readings[split(machine.id)[0]]
        if machine.is_live and machine.id in self._counts:
            await reading.recent()
        else:
            # A machine that is new, or its last figures: what was told before does not hold them.
            self._asked.add(machine.id)
            await reading.fresh()
        count = self._counts.get(machine.id)
        if count is None:
            raise UnavailableError(f"backend {self._account.name}: {machine.id} is not listed just now; ask again")
        vcpus = self._vcpus.get(machine.id, 0)
        # Percent of all vCPUs, averaged over a period.
        core_ms = count.figures["cpu"] * vcpus * _PERIOD_S * 10
        return evolve(
            allocated,
            core_ms=_figure(core_ms) if vcpus else UNMEASURED,
            net_in_bytes=_figure(count.figures["in"]),
            net_out_bytes=_figure(count.figures["out"]),
        )

    async def _read(self, region: str) -> int:
        """Ask for what is due in a region, and return up to when it was told."""
        now = self._account.clock.utc_ms() // 1000 // _PERIOD_S * _PERIOD_S
        due = [machine for machine in self._found.get(region, {}).values() if self._is_due(machine, now)]
        counts = {machine.id: self._counts.get(machine.id) or _Count(_begin(machine)) for machine in due}
        # Those that are behind together: one of them makes all be told from where it stands.
        due.sort(key=lambda machine: counts[machine.id].since)
        for at in range(0, len(due), _AT_ONCE):
            some = due[at : at + _AT_ONCE]
            told = await self._told(region, [machine.id for machine in some], counts[some[0].id].since, now)
            for machine in some:
                counts[machine.id].take(told.get(machine.id, {}), until=now, last=_end(machine, now))
            # But for those that no listing shows any more: they would be kept for ever.
            self._counts |= {one.id: counts[one.id] for one in some if one.id in self._found[region]}
            self._asked -= {one.id for one in some}
        return now

    def _is_due(self, machine: Machine, now: int) -> bool:
        count = self._counts.get(machine.id)
        if count is None and not _is_kept(machine, now):
            return False
        return machine.id in self._asked or (machine.is_live and (count is None or count.until != now))

    async def _told(self, region: str, ids: Sequence[InstanceId], start: int, end: int) -> Mapping[InstanceId, Points]:
        if end <= start:
            return {}
        queries = metric_queries([split(id_)[1] for id_ in ids])
        call = partial(self._account.sdk.metrics, region, queries, _moment(start), _moment(end))
        found: dict[InstanceId, dict[str, dict[int, Decimal]]] = {}
        for answer in await self._account.read(f"read metrics in {region}", call):
            if answer.get("StatusCode") in _UNTOLD:
                raise UnavailableError(
                    f"backend {self._account.name}: could not read metrics in {region}: CloudWatch told "
                    f"{answer['StatusCode']} in place of figures; it is asked again"
                )
            name, _, at = answer["Id"].partition("_")
            found.setdefault(ids[int(at)], {}).setdefault(name, {}).update(_points(answer))
        return found


def metric_queries(ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return what CloudWatch is asked of machines; each query is called by its series and the machine's place here."""
    return [
        {
            "Id": f"{name}_{at}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/EC2",
                    "MetricName": metric,
                    "Dimensions": [{"Name": "InstanceId", "Value": id_}],
                },
                "Period": _PERIOD_S,
                "Stat": statistic,
            },
        }
        for at, id_ in enumerate(ids)
        for name, (metric, statistic) in _SERIES.items()
    ]


def _points(answer: Mapping[str, Any]) -> Iterator[tuple[int, Decimal]]:
    moments, values = answer.get("Timestamps", []), answer.get("Values", [])
    return ((int(moment.timestamp()), Decimal(str(value))) for moment, value in zip(moments, values, strict=True))


def _is_kept(machine: Machine, now: int) -> bool:
    return _begin(machine) >= now - _KEPT_S


def _begin(machine: Machine) -> int:
    return machine.started_at // 1000 // _PERIOD_S * _PERIOD_S


def _end(machine: Machine, now: int) -> int:
    # A period is counted whole or not at all, so that no figure falls when the rest of it comes in.
    ended = machine.exit.ended_at if machine.exit else 0
    return ended // 1000 // _PERIOD_S * _PERIOD_S if ended else now


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _figure(value: Decimal) -> Figure:
    return Figure(int(value), UsageSource.BACKEND)
