"""Cloud Monitoring of a fake project: what its machines have used, by the minute, and seen when the vendor shows it.

Each machine is half busy, and in a minute receives a thousand bytes and sends two thousand; a tenth of that goes
through a load balancer, which is a series of its own.
Source of what is refused: the vendor's reference of ``projects.timeSeries.list``, and of ``TimeInterval``.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from attrs import frozen

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Machine
from compute_bridge.testing.physics.wire import Request
from compute_bridge_gcp.metering import CPU, RECEIVED, SENT
from compute_bridge_gcp.testing.checks import BadRequestError
from compute_bridge_gcp.testing.operations import stamp
from compute_bridge_gcp.testing.stock import PROJECT

TAKES = frozenset(
    {
        "filter",
        "interval.startTime",
        "interval.endTime",
        "aggregation.alignmentPeriod",
        "aggregation.perSeriesAligner",
        "view",
        "pageSize",
        "pageToken",
    }
)
"""What the vendor takes and this fake knows; the vendor also reduces and orders."""

MINUTE_MS = 60_000
SEEN_AFTER_MS = 240_000
_MOST = 100_000
_CLAUSE = re.compile(r'(?P<what>(?:metric|resource)\.type)\s*=\s*"(?P<word>[^"]+)"')
_LOADS = {False: 9, True: 1}


@frozen
class _Asked:
    metric: str
    start_ms: int
    end_ms: int
    period_ms: int


class Monitoring:
    """The time series of every machine that ever ran in the project, ours and others'."""

    def __init__(self, physics: Physics) -> None:
        self._physics = physics

    def answer(self, request: Request, **_: str) -> dict[str, Any]:
        """Return one page of time series."""
        asked = _asked(request)
        size = _number(request, "pageSize", _MOST) or _MOST
        begin, end = _number(request, "pageToken", 0), _number(request, "pageToken", 0) + min(size, _MOST)
        found = [series for machine in self._physics.made() for series in self._series(machine, asked)]
        more = {"nextPageToken": str(end)} if end < len(found) else {}
        return {**({"timeSeries": found[begin:end]} if found[begin:end] else {}), **more}

    def _series(self, machine: Machine, asked: _Asked) -> Iterator[dict[str, Any]]:
        labels: list[dict[str, str]] = [{"instance_name": machine.name}]
        parts = [1.0]
        if asked.metric != CPU:
            labels = [{**labels[0], "loadbalanced": str(balanced).lower()} for balanced in _LOADS]
            parts = [tenths / 10 for tenths in _LOADS.values()]
        for label, part in zip(labels, parts, strict=True):
            if points := [*self._points(machine, asked, part)]:
                resource = {"project_id": PROJECT, "instance_id": machine.id, "zone": machine.zone}
                yield {
                    "metric": {"type": asked.metric, "labels": label},
                    "resource": {"type": "gce_instance", "labels": resource},
                    "metricKind": "DELTA",
                    "valueType": "DOUBLE" if asked.metric == CPU else "INT64",
                    "points": points,
                }

    def _points(self, machine: Machine, asked: _Asked, part: float) -> Iterator[dict[str, Any]]:
        """Return a point for each period that has a whole minute of the machine's, the latest first."""
        seen_ms = self._physics.now_ms() - SEEN_AFTER_MS
        last_ms = min(asked.end_ms, seen_ms, machine.ended_ms or seen_ms)
        first_ms = max(asked.start_ms, machine.running_ms)
        if not machine.running_ms:
            return
        for end_ms in range(asked.end_ms, asked.start_ms, -asked.period_ms):
            begin_ms = max(end_ms - asked.period_ms, asked.start_ms)
            minutes = min(end_ms, last_ms) // MINUTE_MS - max(begin_ms, first_ms) // MINUTE_MS
            if minutes > 0:
                value = _value(machine, asked.metric, part * minutes)
                yield {"interval": {"startTime": stamp(begin_ms), "endTime": stamp(end_ms)}, "value": value}


def _value(machine: Machine, metric: str, minutes: float) -> dict[str, Any]:
    if metric == CPU:
        return {"doubleValue": 30.0 * machine.vcpus * minutes}
    return {"int64Value": str(round({RECEIVED: 1000, SENT: 2000}[metric] * minutes))}


def _asked(request: Request) -> _Asked:
    start_ms, end_ms = _moment(request, "interval.startTime"), _moment(request, "interval.endTime")
    if start_ms >= end_ms:
        raise BadRequestError("interval: the start is not before the end")
    if request.param("view") not in ("", "FULL"):
        raise BadRequestError(f"view {request.param('view')!r} is none that this fake shows")
    return _Asked(_metric(request.param("filter")), start_ms, end_ms, _period_ms(request))


def _metric(where: str) -> str:
    found: dict[str, str] = {}
    for clause in where.split(" AND "):
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None or match["what"] in found:
            raise BadRequestError(f"filter: {clause!r} is no restriction")
        found[match["what"]] = match["word"]
    if "metric.type" not in found:
        raise BadRequestError("filter: the filter must specify a single metric type")
    if found["metric.type"] not in (CPU, RECEIVED, SENT):
        raise BadRequestError("Cannot find metric(s) that match type", reason="notFound", status=404)
    if found.get("resource.type", "gce_instance") != "gce_instance":
        raise BadRequestError(f"filter: {found['metric.type']} is of no {found['resource.type']}")
    return found["metric.type"]


def _period_ms(request: Request) -> int:
    aligner, period = request.param("aggregation.perSeriesAligner"), request.param("aggregation.alignmentPeriod")
    if aligner in ("", "ALIGN_NONE"):
        return MINUTE_MS
    if aligner != "ALIGN_SUM":
        raise BadRequestError(f"perSeriesAligner {aligner!r} is none that this fake knows")
    seconds = re.fullmatch(r"(\d+)s", period)
    if seconds is None or int(seconds[1]) < 60:
        raise BadRequestError(f"alignmentPeriod {period!r} is not 60 s at least")
    return int(seconds[1]) * 1000


def _moment(request: Request, name: str) -> int:
    try:
        moment = datetime.fromisoformat(request.param(name))
    except ValueError as error:
        raise BadRequestError(f"{name} {request.param(name)!r} is missing, or no time", reason="required") from error
    if moment.tzinfo is None:
        raise BadRequestError(f"{name} has no offset")
    return int(moment.timestamp() * 1000 + 0.5)


def _number(request: Request, name: str, default: int) -> int:
    word = request.param(name)
    if word and not word.isdecimal():
        raise BadRequestError(f"{name} {word!r} is no positive number")
    return int(word) if word else default
