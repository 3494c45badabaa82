"""From AWS's price list and spot history to nanos: exact, rounded up, and nothing where a price is not certain."""

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final

from compute_bridge.model.units import NanosPerHour

CURRENCY: Final = "USD"

# A month of a volume is billed as 30 days. Source: Amazon EBS pricing, the worked example of gp3.
_HOURS_A_MONTH = 720
_NANOS = Decimal(10**9)

MACHINE_TERMS: Final = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
"""What a plain machine is called in the price list. Source: karpenter-provider-aws, pkg/providers/pricing."""


def nanos(amount: Decimal) -> int:
    """Return an amount of the currency in nanos, rounded up."""
    return int((amount * _NANOS).to_integral_value(ROUND_CEILING))


def decimal(text: object) -> Decimal | None:
    """Return a price that can be one: a finite number above nothing."""
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return None
    return value if value.is_finite() and value > 0 else None


def on_demand(items: Iterable[str]) -> dict[str, NanosPerHour]:
    """Return the price of each machine type an hour; of several for one type the highest, so as never to sell below."""
    found: dict[str, int] = {}
    for product, amount in _amounts(items, unit="Hrs"):
        shape = str(product.get("instanceType", ""))
        found[shape] = max(found.get(shape, 0), nanos(amount))
    return {shape: NanosPerHour(price) for shape, price in found.items() if shape}


def volume(items: Iterable[str]) -> NanosPerHour | None:
    """Return the price of a GiB of a volume an hour, the highest of several, if there is one."""
    found = [nanos(amount / _HOURS_A_MONTH) for _, amount in _amounts(items, unit="GB-Mo")]
    return NanosPerHour(max(found)) if found else None


def _amounts(items: Iterable[str], *, unit: str) -> Iterator[tuple[Mapping[str, Any], Decimal]]:
    for item in items:
        told = json.loads(item)
        for term in told.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term.get("priceDimensions", {}).values():
                amount = decimal(dimension.get("pricePerUnit", {}).get(CURRENCY))
                if dimension.get("unit") == unit and amount is not None:
                    yield told.get("product", {}).get("attributes", {}), amount


def spot(history: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], NanosPerHour]:
    """Return the newest spot price of each zone and machine type."""
    found: dict[tuple[str, str], NanosPerHour] = {}
    for told in sorted(history, key=lambda one: one["Timestamp"]):
        amount = decimal(told.get("SpotPrice"))
        if amount is not None:
            found[told["AvailabilityZone"], told["InstanceType"]] = NanosPerHour(nanos(amount))
    return found
