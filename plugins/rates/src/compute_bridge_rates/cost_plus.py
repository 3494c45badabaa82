"""``cost-plus``: ask what the costliest offer of a band costs, and a margin."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from attrs import asdict, field, frozen

from compute_bridge.api import Offer, RatePolicy, RateQuestion
from compute_bridge.model.boot import about
from compute_bridge.model.checks import whole
from compute_bridge.model.ids import BandName
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.resources import CapacityBand, Posture, Region

_WHOLE = 10_000
_MOST = 10**15

_Key = tuple[Region, Posture, BandName]


@frozen(kw_only=True)
class CostPlusConfig:
    """``[rate]`` with ``policy = "cost-plus"``."""

    margin_bps: int = field(
        validator=whole(0, 100 * _WHOLE),
        metadata=about("margin on cost in hundredths of a percent; it must cover the market's fee as well"),
    )


class CostPlus(RatePolicy):
    """For each unit the highest cost of any offer that reaches the band, raised by the margin.

    So whichever offer a grant is placed on, the rate covers it. An address is counted to the machine.
    An offer reaches a band when it is at least as large as the band's floor, for at least its shortest duration;
    no offer, no row.
    """

    def __init__(self, config: CostPlusConfig) -> None:
        self._margin_bps = config.margin_bps

    def rates(self, question: RateQuestion) -> RateTable:
        """Return a row for every region, posture and band that an offer in the question's currency reaches."""
        costs: defaultdict[_Key, list[UnitNanos]] = defaultdict(list)
        for offer in question.offers:
            if offer.cost.currency != question.currency:
                continue
            for band in question.bands:
                if _reaches(offer, band):
                    costs[offer.region, offer.posture, band.name].append(offer.cost.total)
        rows = (RateRow(*key, self._raised(units)) for key, units in costs.items())
        return RateTable(question.currency, tuple(sorted(rows, key=lambda row: row.key)))

    def _raised(self, costs: Iterable[UnitNanos]) -> UnitNanos:
        each: list[dict[str, Any]] = [asdict(cost) for cost in costs]
        asked: dict[str, Any] = {unit: self._with_margin(max(cost[unit] for cost in each)) for unit in each[0]}
        return UnitNanos(**asked)

    def _with_margin(self, nanos: int) -> int:
        # Up, so that the margin is never a nano short; and never beyond what a rate can say.
        return min(-(-nanos * (_WHOLE + self._margin_bps) // _WHOLE), _MOST)


def _reaches(offer: Offer, band: CapacityBand) -> bool:
    return band.floor.fits_in(offer.resources) and band.min_duration_ms <= offer.max_duration_ms
