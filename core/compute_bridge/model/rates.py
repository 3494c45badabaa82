"""What is asked for a unit of each resource, and what a unit costs us: the same shape twice."""

from attrs import field, frozen

from compute_bridge.model.checks import few, label, text, whole
from compute_bridge.model.ids import BandName
from compute_bridge.model.resources import Posture, Region, Requirements
from compute_bridge.model.units import HOUR_MS, MicrosPerHour, Nanos, NanosPerHour, UtcMs, rate_up

_MAX_NANOS = 10**15
_nanos = whole(0, _MAX_NANOS)


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
    """What an offer costs us now: unit costs, when that was observed and who said so."""

    currency: str = field(validator=text(3, 8))
    units: UnitNanos
    observed_at: UtcMs = field(validator=whole())
    source: str = field(validator=text(1, 64))

    def hourly(self, needs: Requirements) -> MicrosPerHour:
        """Return what serving ``needs`` costs us an hour, rounded up."""
        return self.units.hourly(needs)


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
