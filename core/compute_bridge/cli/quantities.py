"""Quantities as people write them on a command line, read exactly: no float holds any of them."""

import re
from decimal import Decimal
from typing import Any, Final

import click

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNITS_MIB: Final = {"": 1, "MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}
_QUANTITY = re.compile(r"(?P<number>[0-9]{1,12}(\.[0-9]{1,6})?)(?P<unit>[A-Za-z]*)")


class Quantity(click.ParamType[int]):
    """A number with a unit, as a whole number of the smallest unit."""

    def __init__(self, name: str, units: dict[str, int], example: str) -> None:
        self.name = name
        self._units = units
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the whole number, or fail with an example of what can be written."""
        if isinstance(value, int):
            return value
        match = _QUANTITY.fullmatch(str(value))
        scale = self._units.get(match["unit"]) if match else None
        exact = Decimal(match["number"]) * scale if match and scale else Decimal("0.5")
        if exact != exact.to_integral_value():
            units = ", ".join(unit for unit in self._units if unit)
            self.fail(f"{value!r} is not such as {self._example}" + (f"; units: {units}" if units else ""), param, ctx)
        return int(exact)


DURATION: Final = Quantity("duration", _UNITS_MS, "90s, 10m or 1.5h")
MEMORY: Final = Quantity("memory", _UNITS_MIB, "512MiB or 2GiB")
CPU: Final = Quantity("vcpu", {"": 1000}, "2 or 0.5")
