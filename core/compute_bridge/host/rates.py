"""The rate table: what the policy asks, and what of it may be published: nothing below cost, nothing unknown."""

import logging
from collections import defaultdict
from collections.abc import Sequence

import anyio.to_thread
from attrs import evolve, frozen

from compute_bridge.host.costs import Quarantined
from compute_bridge.host.floor import CostFloorError as CostFloorError
from compute_bridge.host.floor import Shortfall, shortfall
from compute_bridge.host.floor import check_grant_floor as check_grant_floor
from compute_bridge.host.journal_events import RateRefused, RateStands
from compute_bridge.host.ledger import Ledger
from compute_bridge.host.plugin_call import PluginResultError, policy_call
from compute_bridge.model.boot import BelowCost
from compute_bridge.model.ids import Fingerprint
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import CapacityBand
from compute_bridge.model.units import BasisPoints
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import RatePolicy, RateQuestion
from compute_bridge.wire.signing import fingerprint

logger = logging.getLogger(__name__)


@frozen
class RateRefusal:
    """A row that the policy asked for and that is not published, or is only because the operator allows it.

    Kept as the counterfactual: ``row`` is what would have been asked, ``backend`` and ``offer`` what stood
    against it, ``short_micros`` by how much an hour it falls short of that offer's cost. ``allowed`` marks a row
    below cost that stands all the same.
    """

    row: RateRow
    reason: Reason
    detail: str
    backend: str = ""
    offer: str = ""
    short_micros: int = 0
    allowed: bool = False


@frozen
class EnforcedRates:
    """A rate table that may be published, its fingerprint, and what was refused on the way to it."""

    table: RateTable
    fingerprint: Fingerprint
    refusals: tuple[RateRefusal, ...]


def enforce(
    asked: RateTable,
    question: RateQuestion,
    *,
    provider_fee: BasisPoints,
    below_cost: BelowCost,
    held: Sequence[Quarantined] = (),
) -> EnforcedRates:
    """Return what of ``asked`` may be published.

    A row stands when its band is known, it asks something, and for all requirements of the band that any offer
    of its region and posture serves there is an offer serving them that the rate covers, the market's fee
    taken off. ``held`` are the offers in quarantine: they cover nothing, but may be why nothing does.
    """
    bands = {band.name: band for band in question.bands}
    places = defaultdict(list)
    for offer in question.offers:
        places[offer.region, offer.posture].append(offer)
    kept, refusals = [], []
    for row in asked.rows:
        offers = places[row.region, row.posture]
        refusal = _refusal(row, bands.get(row.band), offers, question.currency, provider_fee, held)
        if refusal is not None and refusal.reason is Reason.COST_FLOOR and below_cost is BelowCost.ALLOW:
            refusal = evolve(refusal, allowed=True)
        if refusal is not None:
            refusals.append(refusal)
        if refusal is None or refusal.allowed:
            kept.append(row)
    table = RateTable(question.currency, tuple(kept))
    return EnforcedRates(table, Fingerprint(fingerprint(table)), tuple(refusals))


def ask(policy: RatePolicy, question: RateQuestion) -> RateTable:
    """Return the policy's answer.

    :raises PluginResultError: if it raises, or answers with anything but a rate table in the question's currency.
    """
    name = f"rate policy {type(policy).__name__}"
    with policy_call(name):
        answer: object = policy.rates(question)
    if not isinstance(answer, RateTable) or not all(_is_row(row) for row in answer.rows):
        raise PluginResultError(f"{name}: the answer is no RateTable of RateRows; report it to the plugin's author")
    if answer.currency != question.currency:
        raise PluginResultError(f"{name} answers in {answer.currency}, the market settles in {question.currency}")
    return answer


class RateBook:
    """The rates in force, and how they came about; nothing is asked before the first update.

    ``ledger`` takes down each row that is refused, or is not any more: what the policy would have asked.
    """

    def __init__(
        self,
        policy: RatePolicy,
        *,
        currency: str,
        provider_fee: BasisPoints,
        below_cost: BelowCost,
        ledger: Ledger | None = None,
    ) -> None:
        self.ledger = ledger if ledger is not None else Ledger()
        self._policy = policy
        self._provider_fee = provider_fee
        self._below_cost = below_cost
        self._asked = RateTable(currency, ())
        self._rates = EnforcedRates(self._asked, Fingerprint(fingerprint(self._asked)), ())

    @property
    def rates(self) -> EnforcedRates:
        """The table in force, its fingerprint, and the refusals of the last update."""
        return self._rates

    @property
    def asked(self) -> RateTable:
        """What the policy asked for last, whatever became of it."""
        return self._asked

    async def update(self, question: RateQuestion, *, held: Sequence[Quarantined] = ()) -> bool:
        """Ask the policy and enforce its answer; return whether the table in force changed.

        ``held`` are the offers in quarantine, which the question leaves out.

        :raises PluginResultError: if the policy's answer cannot be used. What it asked for last is then held
            against today's costs, so that even an old table is never below them.
        """
        before = self._rates.fingerprint
        # A catalogue of offers takes longer than the event loop may stand still.
        await anyio.to_thread.run_sync(self._update, question, held)
        return self._rates.fingerprint != before

    def _update(self, question: RateQuestion, held: Sequence[Quarantined]) -> None:
        try:
            self._asked = ask(self._policy, question)
        finally:
            before = self._rates.refusals
            self._rates = enforce(
                self._asked, question, provider_fee=self._provider_fee, below_cost=self._below_cost, held=held
            )
            _tell(before, self._rates.refusals)
            self._take_down(before)

    def _take_down(self, before: Sequence[RateRefusal]) -> None:
        now = {refusal.row.key: refusal for refusal in self._rates.refusals}
        published = {row.key for row in self._rates.table.rows}
        for key, refusal in now.items():
            self.ledger.note(key, _event(refusal, self._asked.currency))
        for key in [refusal.row.key for refusal in before if refusal.row.key not in now]:
            self.ledger.note(key, RateStands(*key, published=key in published))


def _tell(before: Sequence[RateRefusal], refusals: Sequence[RateRefusal]) -> None:
    for refusal in refusals:
        if refusal not in before:
            what = "published below cost, as allowed" if refusal.allowed else "not published"
            logger.warning("rate %s %s: %s: %s", "/".join(refusal.row.key), what, refusal.reason, refusal.detail)


def _event(refusal: RateRefusal, currency: str) -> RateRefused:
    return RateRefused(
        *refusal.row.key,
        asked=refusal.row.units,
        currency=currency,
        reason=refusal.reason,
        detail=refusal.detail,
        backend=refusal.backend,
        offer=refusal.offer,
        short_micros=refusal.short_micros,
        allowed=refusal.allowed,
    )


def _is_row(row: object) -> bool:
    return isinstance(row, RateRow) and isinstance(row.units, UnitNanos)


def _refusal(
    row: RateRow,
    band: CapacityBand | None,
    offers: Sequence[Offer],
    currency: str,
    provider_fee: BasisPoints,
    held: Sequence[Quarantined],
) -> RateRefusal | None:
    if band is None:
        return RateRefusal(row, Reason.OUT_OF_BAND, f"no band is called {row.band!r}; declare it, or drop the row")
    if row.units == UnitNanos():
        return RateRefusal(row, Reason.NO_RATE, "the row asks nothing; ask something, or drop the row")
    offers = [offer for offer in offers if _reaches(offer, band)]
    if not offers:
        return _no_offer(row, band, held)
    return _below_cost(row, band, offers, currency, provider_fee)


def _no_offer(row: RateRow, band: CapacityBand, held: Sequence[Quarantined]) -> RateRefusal:
    for one in held:
        offer = one.offer
        if offer and (offer.region, offer.posture) == (row.region, row.posture) and _reaches(offer, band):
            detail = f"backend {one.backend}: offer {one.offer_id} is in quarantine, and no other reaches the band: "
            return RateRefusal(row, one.reason, detail + one.detail, one.backend, one.offer_id)
    detail = f"no backend offers anything in {row.region} with posture {row.posture} that reaches band {row.band}"
    return RateRefusal(row, Reason.NO_OFFER, f"{detail}, so its cost is not known")


def _below_cost(
    row: RateRow, band: CapacityBand, offers: Sequence[Offer], currency: str, provider_fee: BasisPoints
) -> RateRefusal | None:
    covered: list[Offer] = []
    short: list[tuple[Offer, Shortfall | None]] = []
    for offer in offers:
        if offer.cost.currency != currency:
            short.append((offer, None))
        elif lack := shortfall(row.units, band, offer, provider_fee):
            short.append((offer, lack))
        else:
            covered.append(offer)
    # The largest first, since one that serves all that the band can want stands in for every other.
    covered.sort(key=lambda offer: (offer.resources.cpu_millis, offer.resources.mem_mib), reverse=True)
    for offer, lack in short:
        if not any(_stands_in(other, offer, band) for other in covered):
            short_micros = lack.micros if lack else 0
            return RateRefusal(row, Reason.COST_FLOOR, _told(offer, lack), offer.backend, offer.id, short_micros)
    return None


def _told(offer: Offer, lack: Shortfall | None) -> str:
    where = f"backend {offer.backend}: offer {offer.id}"
    if lack is None:
        return f"{where} costs {offer.cost.currency}, which cannot be compared"
    if lack.egress:
        return f"{where}: a GiB of egress costs more than is asked for it"
    size = lack.at
    shape = f"{size.cpu_millis} millicores, {size.mem_mib} MiB, {size.disk_gib} GiB disk, {size.gpus} GPUs"
    return (
        f"{where} costs {lack.micros} micros/h more than is left of the rate at {shape}, and no cheaper offer serves "
        "it; ask that much more, or lower the band's ceiling"
    )


def _reaches(offer: Offer, band: CapacityBand) -> bool:
    """Return whether the offer serves any requirements of the band."""
    return band.floor.fits_in(offer.resources) and band.min_duration_ms <= offer.max_duration_ms


def _stands_in(one: Offer, other: Offer, band: CapacityBand) -> bool:
    """Return whether ``one`` serves all requirements of the band that ``other`` serves."""
    mine, theirs, top = one.resources, other.resources, band.ceiling
    return (
        mine.cpu_millis >= min(theirs.cpu_millis, top.cpu_millis)
        and mine.mem_mib >= min(theirs.mem_mib, top.mem_mib)
        and mine.disk_gib >= min(theirs.disk_gib, top.disk_gib)
        and mine.gpus >= min(theirs.gpus, top.gpus)
        and one.max_duration_ms >= min(other.max_duration_ms, band.max_duration_ms)
        and set(one.networks) >= set(other.networks)
        and one.runs_oci >= other.runs_oci
        and set(one.images) >= set(other.images)
    )
