"""What stands beside EC2: the price list, the quotas and the metrics."""

import json
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Refusal
from compute_bridge_aws.testing.iam import Access
from compute_bridge_aws.testing.refusal import AwsRefusal
from compute_bridge_aws.testing.stock import TYPES, VOLUME_PRICE

Answer = dict[str, Any]
_PERIOD_S = 300
MAX_QUERIES = 500
"""Source: CloudWatch API reference, GetMetricData."""


class Beside:
    """The other services. ``page`` is the most that a page of theirs holds.

    ``metric_status`` is what CloudWatch says of each series, and ``metrics_late_ms`` how late it tells of a
    moment; the periods that begin at ``metrics_withheld`` it does not tell, those of a metric in
    ``metrics_behind_ms`` come so much later still, and ``metrics_asked_from`` are the seconds from which on it was
    asked.
    """

    def __init__(self, physics: Physics, require: Callable[[list[Access]], None]) -> None:
        self._physics = physics
        self._require = require
        self.page = 100
        self.volume_price = VOLUME_PRICE
        self.metric_status = "Complete"
        self.metrics_late_ms = 0
        self.metrics_withheld: Container[int] = ()
        self.metrics_behind_ms: Mapping[str, int] = {}
        self.metrics_asked_from: list[float] = []

    # --- pricing --------------------------------------------------------------------------------

    def products(self, request: Mapping[str, Any]) -> Answer:
        """Answer GetProducts."""
        self._require([Access("pricing:GetProducts", "*")])
        if request["ServiceCode"] != "AmazonEC2":
            return {"PriceList": [], "FormatVersion": "aws_v1"}
        terms = {one["Field"]: one["Value"] for one in request.get("Filters", []) if one["Type"] == "TERM_MATCH"}
        items = [*_machines(tuple(self._physics.zones)), *self._volumes()]
        found = [json.dumps(item) for item in items if _matches(item["product"], terms)]
        return self._paged(request, "PriceList", found) | {"FormatVersion": "aws_v1"}

    def _volumes(self) -> list[Answer]:
        return [
            _item("Storage", {"regionCode": region, "volumeApiName": name}, price, "GB-Mo")
            for region in self._physics.zones
            for name, price in (("gp3", self.volume_price), ("io2", "0.1250000000"))
            if price
        ]

    def _paged(self, request: Mapping[str, Any], key: str, found: list[Any]) -> Answer:
        begin = int(request.get("NextToken", "0"))
        end = begin + min(self.page, request.get("MaxResults", 100))
        return {key: found[begin:end], **({"NextToken": str(end)} if end < len(found) else {})}

    # --- quotas ---------------------------------------------------------------------------------

    def quotas(self, request: Mapping[str, Any], region: str) -> Answer:
        """Answer ListServiceQuotas."""
        self._require([Access("servicequotas:ListServiceQuotas", "*")])
        if request["ServiceCode"] != "ec2":
            raise AwsRefusal("NoSuchResourceException", "no such service")
        limit = float(self._physics.quota(region).limit)
        codes = ("L-1216C47A", "L-34B43A08", "L-DB2E81BA", "L-3819A6DF")
        found = [{"ServiceCode": "ec2", "QuotaCode": code, "QuotaName": code, "Value": limit} for code in codes]
        return self._paged(request, "Quotas", found)

    # --- metrics --------------------------------------------------------------------------------

    def metrics(self, request: Mapping[str, Any]) -> Answer:
        """Answer GetMetricData: a machine is half busy, and takes 1000 bytes in and sends 2000 each period."""
        self._require([Access("cloudwatch:GetMetricData", "*")])
        queries = request["MetricDataQueries"]
        start, end = (_seconds(request[name]) for name in ("StartTime", "EndTime"))
        if len(queries) > MAX_QUERIES or len({one["Id"] for one in queries}) < len(queries) or start >= end:
            raise AwsRefusal("ValidationError", "at most 500 queries, of an id each, for a time that has passed")
        self.metrics_asked_from.append(start)
        return {"MetricDataResults": [self._series(one, start, end) for one in queries]}

    def _series(self, query: Mapping[str, Any], start: float, end: float) -> Answer:
        metric = query["MetricStat"]["Metric"]
        value = {"CPUUtilization": 50.0, "NetworkIn": 1000.0, "NetworkOut": 2000.0}[metric["MetricName"]]
        late_ms = self.metrics_late_ms + self.metrics_behind_ms.get(metric["MetricName"], 0)
        begin, over = self._life(metric["Dimensions"][0]["Value"], late_ms)
        first = int(max(start, begin // _PERIOD_S * _PERIOD_S))
        # The newest first, as CloudWatch tells them.
        periods = range(first, int(min(end, over)), _PERIOD_S)[::-1]
        told = [at for at in periods if at not in self.metrics_withheld]
        return {
            "Id": query["Id"],
            "Label": query["Id"],
            "StatusCode": self.metric_status,
            "Timestamps": [datetime.fromtimestamp(at, UTC) for at in told],
            "Values": [value] * len(told),
        }

    def _life(self, id_: str, late_ms: int) -> tuple[float, float]:
        try:
            machine = self._physics.get(id_)
        except Refusal:
            return 0.0, 0.0
        told_s = (self._physics.now_ms() - late_ms) / 1000 // _PERIOD_S * _PERIOD_S
        return machine.created_ms / 1000, min(machine.end.at_ms / 1000, told_s) if machine.end else told_s


def _seconds(moment: Any) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else float(moment)


def _matches(product: Mapping[str, Any], terms: Mapping[str, str]) -> bool:
    told = {"productFamily": product["productFamily"], **product["attributes"]}
    return all(told.get(field) == value for field, value in terms.items())


@cache
def _machines(regions: tuple[str, ...]) -> list[Answer]:
    return [
        _item(
            "Compute Instance (bare metal)" if one.is_metal else "Compute Instance",
            {
                "instanceType": one.name,
                "regionCode": region,
                "operatingSystem": system,
                "tenancy": tenancy,
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "marketoption": "OnDemand",
            },
            one.price if (system, tenancy) == ("Linux", "Shared") else "9.9900000000",
            "Hrs",
        )
        for region in regions
        for one in TYPES
        if one.price
        for system, tenancy in (("Linux", "Shared"), ("Windows", "Shared"), ("Linux", "Dedicated"))
    ]


def _item(family: str, attributes: Mapping[str, str], price: str, unit: str) -> Answer:
    dimension = {"unit": unit, "pricePerUnit": {"USD": price}, "beginRange": "0", "endRange": "Inf"}
    terms = {"OnDemand": {"S.T": {"priceDimensions": {"S.T.D": dimension}, "termAttributes": {}}}}
    return {"product": {"productFamily": family, "attributes": attributes, "sku": "S"}, "terms": terms}
