"""What is asked for a unit of each resource, and what a unit costs us: the same shape twice."""

from functools import cached_property
from typing import Any

from attrs import evolve, field, frozen

from compute_bridge.model.checks import few, label, text, whole
from compute_bridge.model.ids import BandName
from compute_bridge.model.resources import Posture, Region, Requirements
from compute_bridge.model.units import HOUR_MS, MicrosPerHour, Nanos, NanosPerHour, UtcMs, rate_up

_MAX_NANOS = 10**15
_whole_nanos = whole(0, _MAX_NANOS)


class NegativeNanosError(ValueError):
    """A cost or a rate is below nothing; use none of what came with it, and tell the operator who said so."""


def _nanos(owner: object, attribute: Any, value: Any) -> None:
    if type(value) is int and value < 0:
        raise NegativeNanosError(f"{attribute.name} {value} is negative; nothing costs less than nothing")
    _whole_nanos(owner, attribute, value)


@frozen
class UnitNanos:
    """Nanos of one currency: for the machine itself, a vCPU, a GiB RAM, a GiB disk and a GPU, each for
    an hour; and for one GiB of egress.
    """

    machine: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos)
    vcpu: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos)
    ram_gib: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos)
    disk_gib: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos)
    gpu: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos)
    egress_gib: Nanos = field(default=Nanos(0), validator=_nanos)

    def hourly(self, needs: Requirements) -> MicrosPerHour:
        """Return micros per hour for the whole requirements, rounded up once, at the end.

        The egress allowance is spread evenly over the duration.
        """
        wants = needs.resources
        hourly_nanos_by_1024000 = (
            1_024_000 * (self.machine + wants.disk_gib * self.disk_gib + wants.gpus * self.gpu)
            + 1024 * wants.cpu_millis * self.vcpu
            + 1000 * wants.mem_mib * self.ram_gib
        )
        egress_nanos = needs.egress_gib * self.egress_gib
        return rate_up(
            hourly_nanos_by_1024000 * needs.duration_ms + 1_024_000 * egress_nanos * HOUR_MS,
            1000 * 1_024_000 * needs.duration_ms,
        )


@frozen
class CostBasis:
    """What an offer costs us now: unit costs, when that was observed and who said so.

    ``address`` is what an instance's public address costs, an hour; an instance has one, whatever its size.
    Costs are compared by ``total``, never by ``units``, which leaves the address out.
    """

    currency: str = field(validator=text(3, 8))
    units: UnitNanos
    observed_at: UtcMs = field(validator=whole())
    source: str = field(validator=text(1, 64))
    address: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos)

    @address.validator
    def _adds_up(self, _attribute: object, value: NanosPerHour) -> None:
        if value and self.units.machine + value > _MAX_NANOS:
            raise ValueError(f"machine and address together cost more than {_MAX_NANOS} nanos")

    @cached_property
    def total(self) -> UnitNanos:
        """All that one instance costs: the address is counted to the machine, once an instance."""
        if not self.address:
            return self.units
        return evolve(self.units, machine=NanosPerHour(self.units.machine + self.address))

    @property
    def parts(self) -> tuple[int, ...]:
        """Every part in nanos: those of ``units`` in the order of its fields, and then the address."""
        one = self.units
        return (one.machine, one.vcpu, one.ram_gib, one.disk_gib, one.gpu, one.egress_gib, self.address)

    def hourly(self, needs: Requirements) -> MicrosPerHour:
        """Return what serving ``needs`` costs us an hour, all parts of it, rounded up once."""
        return self.total.hourly(needs)


@frozen
class RateRow:
    """The unit rates asked in one region, for one posture, in one capacity band."""

    region: Region = field(validator=label)
    posture: Posture
    band: BandName = field(validator=label)
    units: UnitNanos

    @property
    def key(self) -> tuple[str, str, str]:
        """What a rate table orders its rows by; one row a key."""
        return (self.region, self.posture.value, self.band)


@frozen
class RateTable:
    """Rates by region, posture and band, ascending by that key; its fingerprint is on the card."""

    currency: str = field(validator=text(3, 8))
    rows: tuple[RateRow, ...] = field(validator=few(0, 1024))

    @rows.validator
    def _ordered(self, _attribute: object, rows: tuple[RateRow, ...]) -> None:
        keys = [row.key for row in rows]
        if keys != sorted(set(keys)):
            raise ValueError("rows must be in ascending order of (region, posture, band), one a key")

    def find(self, region: Region, posture: Posture, band: BandName) -> RateRow | None:
        """Return the row for this key, or None where nothing is asked and so nothing is sold."""
        key = (region, posture.value, band)
        return next((row for row in self.rows if row.key == key), None)
