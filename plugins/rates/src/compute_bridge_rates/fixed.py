"""``fixed``: ask what the boot file says."""

from attrs import field, frozen

from compute_bridge.api import RatePolicy, RateQuestion
from compute_bridge.model.boot import about
from compute_bridge.model.checks import few, label, whole
from compute_bridge.model.ids import BandName
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.resources import Posture, Region
from compute_bridge.model.units import Nanos, NanosPerHour

_nanos = whole(0, 10**15)


@frozen(kw_only=True)
class FixedRow:
    """``[[rate.row]]``: what to ask in one region, for one posture, in one band; all in nanos of the currency."""

    region: Region = field(validator=label, metadata=about("the region to sell in"))
    posture: Posture = field(metadata=about("how its guests are protected"))
    band: BandName = field(validator=label, metadata=about("the capacity band to sell"))
    machine_nanos: NanosPerHour = field(
        default=NanosPerHour(0), validator=_nanos, metadata=about("for the machine itself, an hour")
    )
    vcpu_nanos: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos, metadata=about("for a vCPU and hour"))
    ram_gib_nanos: NanosPerHour = field(
        default=NanosPerHour(0), validator=_nanos, metadata=about("for a GiB of RAM and hour")
    )
    disk_gib_nanos: NanosPerHour = field(
        default=NanosPerHour(0), validator=_nanos, metadata=about("for a GiB of disk and hour")
    )
    gpu_nanos: NanosPerHour = field(default=NanosPerHour(0), validator=_nanos, metadata=about("for a GPU and hour"))
    egress_gib_nanos: Nanos = field(default=Nanos(0), validator=_nanos, metadata=about("for a GiB of egress"))

    @property
    def row(self) -> RateRow:
        """The row of a rate table that this asks for."""
        units = UnitNanos(
            machine=self.machine_nanos,
            vcpu=self.vcpu_nanos,
            ram_gib=self.ram_gib_nanos,
            disk_gib=self.disk_gib_nanos,
            gpu=self.gpu_nanos,
            egress_gib=self.egress_gib_nanos,
        )
        return RateRow(self.region, self.posture, self.band, units)


@frozen(kw_only=True)
class FixedConfig:
    """``[rate]`` with ``policy = "fixed"``."""

    rows: tuple[FixedRow, ...] = field(
        validator=few(1, 1024), metadata=about("what to ask in one region, posture and band", key="row")
    )

    @rows.validator
    def _once(self, _attribute: object, rows: tuple[FixedRow, ...]) -> None:
        keys = [row.row.key for row in rows]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"two rows for {'/'.join(key)}; drop one")


class Fixed(RatePolicy):
    """The rows of the boot file, whatever the offers cost; the host refuses those below cost."""

    def __init__(self, config: FixedConfig) -> None:
        self._rows = tuple(sorted((row.row for row in config.rows), key=lambda row: row.key))

    def rates(self, question: RateQuestion) -> RateTable:
        """Return the rows, in the question's currency; also those of bands that nobody asked for."""
        return RateTable(question.currency, self._rows)
