"""The fleet's offers in order of cost, found without looking at each one.

Offers of one backend and place that differ only in size and in the price of the machine form a *lane*: for any
requirements they cost the same apart from that price, so one sorted list is right for every query. A grid over
CPU and RAM tells where in the list the first offer that is large enough can stand; from there one walks on, for
the winner and for every further candidate after a failed provision.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain
from typing import TypeAlias

from attrs import define, evolve, frozen

from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Posture, Region, Requirements
from compute_bridge.model.units import MicrosPerHour
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import Candidate, Preference

MAX_STEPS = 64
"""The most steps of one axis of a grid; with more sizes than that a step stands for several."""

_Place: TypeAlias = tuple[Region, Posture]
_LaneKey: TypeAlias = tuple[object, ...]
_Rank: TypeAlias = tuple[MicrosPerHour, int, int, OfferId]
_Ranked: TypeAlias = tuple[_Rank, Offer]


@frozen
class RouteQuestion:
    """Where to place a grant: its requirements and image, and the region and posture that were cleared."""

    needs: Requirements
    image: ImageRef
    region: Region
    posture: Posture


@frozen
class OfferVerdict:
    """Why one offer was or was not chosen; ``hourly_cost`` is for the whole requirements."""

    backend: BackendName
    offer_id: OfferId
    hourly_cost: MicrosPerHour
    reason: Reason
    detail: str = ""


@define
class Tally:
    """Work done, for metrics and for tests that count it: offers looked at, grids built."""

    looked: int = 0
    grids: int = 0


def why_not(offer: Offer, question: RouteQuestion) -> Reason | None:
    """Return why ``offer`` cannot serve at all, or ``None`` where it can."""
    needs = question.needs
    if offer.region != question.region or not needs.accepts_region(offer.region):
        return Reason.REGION
    if offer.posture is not question.posture or not needs.accepts_posture(offer.posture):
        return Reason.TDX_POSTURE
    if needs.network not in offer.networks:
        return Reason.NETWORK_POLICY
    if not needs.resources.fits_in(offer.resources) or needs.duration_ms > offer.max_duration_ms:
        return Reason.SHAPE
    return None if offer.runs(question.image) else Reason.IMAGE_UNKNOWN


class _Axis:
    """The sizes of a lane in one resource, or some of them where there are many."""

    def __init__(self, sizes: Iterable[int]) -> None:
        values = sorted(set(sizes))
        self._exact = len(values) <= MAX_STEPS
        if not self._exact:
            # The largest stays, so that what is too large for all is known at once.
            values = [*values[:: -(-len(values) // (MAX_STEPS - 1))], values[-1]]
        self._values = sorted(set(values))

    def __len__(self) -> int:
        return len(self._values)

    def step_of(self, size: int) -> int:
        """Return the step that an offer of this size belongs to."""
        return bisect_right(self._values, size) - 1

    def step_for(self, need: int) -> int:
        """Return the last step from which on everything large enough is found; past the end if none is."""
        at = bisect_left(self._values, need)
        if self._exact or at in (0, len(self)) or self._values[at] == need:
            return at
        return at - 1


class _Grid:
    """For each pair of steps, the first position in a lane's list from which such an offer may stand."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self._cpu = _Axis(cpu for cpu, _ in sizes)
        self._mem = _Axis(mem for _, mem in sizes)
        self._end = len(sizes)
        self._width = len(self._mem) + 1
        self._cells = self._suffix_minima(sizes)

    def start(self, cpu_millis: int, mem_mib: int) -> int:
        """Return a position before which nothing is large enough: the end where nothing is at all."""
        return self._cells[self._cpu.step_for(cpu_millis) * self._width + self._mem.step_for(mem_mib)]

    def _suffix_minima(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        cells = [self._end] * ((len(self._cpu) + 1) * self._width)
        for position, (cpu, mem) in enumerate(sizes):
            cell = self._cpu.step_of(cpu) * self._width + self._mem.step_of(mem)
            cells[cell] = min(cells[cell], position)
        for row in range(len(self._cpu) - 1, -1, -1):
            for column in range(len(self._mem) - 1, -1, -1):
                cell = row * self._width + column
                cells[cell] = min(cells[cell], cells[cell + 1], cells[cell + self._width])
        return cells


@frozen
class _Lane:
    order: int
    offers: tuple[Offer, ...]
    sizes: tuple[tuple[int, int], ...]
    grid: _Grid
    max_disk: int

    def may_serve(self, question: RouteQuestion) -> bool:
        """Return whether all but CPU and RAM, which the grid knows, may suffice."""
        one, needs = self.offers[0], question.needs
        return (
            needs.resources.gpus <= one.resources.gpus
            and needs.resources.disk_gib <= self.max_disk
            and needs.network in one.networks
            and needs.duration_ms <= one.max_duration_ms
            and one.runs(question.image)
        )

    def walk(self, needs: Requirements, tally: Tally) -> Iterator[_Ranked]:
        """Yield the offers that are large enough, cheapest first."""
        wants = needs.resources
        for position in range(self.grid.start(wants.cpu_millis, wants.mem_mib), len(self.offers)):
            offer = self.offers[position]
            tally.looked += 1
            if wants.fits_in(offer.resources):
                yield self.rank(offer, needs), offer

    def rank(self, offer: Offer, needs: Requirements) -> _Rank:
        return rank(offer, needs, self.order)


def rank(offer: Offer, needs: Requirements, order: int) -> _Rank:
    """Return what the order ``cheapest`` compares, ``order`` being the backend's place in the boot file.

    By what the offer costs an hour in whole micros, then by the machine's own price, then by boot order and id.
    """
    return (offer.cost.hourly(needs), offer.cost.total.machine, order, offer.id)


class OfferIndex:
    """All offers of a fleet at one moment; never changes, so whoever walks on meets no surprise.

    ``backends`` are the backends' names in boot order.
    """

    def __init__(self, backends: Sequence[BackendName], *, tally: Tally | None = None) -> None:
        self.tally = Tally() if tally is None else tally
        self._orders = {backend: order for order, backend in enumerate(backends)}
        self._lanes: Mapping[BackendName, Mapping[_LaneKey, _Lane]] = {}
        self._places: Mapping[_Place, Sequence[_Lane]] = {}

    def replaced(self, backend: BackendName, offers: Iterable[Offer]) -> "OfferIndex":
        """Return an index in which ``backend`` has exactly these offers.

        Everything that did not change is shared: only lanes whose sizes or machine prices changed are built.
        """
        index = OfferIndex(tuple(self._orders), tally=self.tally)
        index._lanes = {**self._lanes, backend: self._built(backend, offers)}
        index._places = _places(index._lanes)
        return index

    def offers(self, backend: BackendName | None = None) -> tuple[Offer, ...]:
        """Return every offer, or those of one backend."""
        names = self._orders if backend is None else (backend,)
        lanes = chain.from_iterable(self._lanes.get(name, {}).values() for name in names)
        return tuple(chain.from_iterable(lane.offers for lane in lanes))

    def cheapest(self, question: RouteQuestion) -> Candidate | None:
        """Return the offer that costs least of those that can serve, or ``None``."""
        firsts = (next(lane.walk(question.needs, self.tally), None) for lane in self._serving(question, ()))
        return _candidate(min(filter(None, firsts), default=None, key=_by_rank))

    def candidates(
        self, question: RouteQuestion, preference: Preference, *, without: Collection[BackendName] = ()
    ) -> Iterator[Candidate]:
        """Yield the offers that can serve, best first, leaving out whole backends.

        ``boot-order`` goes through the backends as the boot file lists them, through each from its cheapest.
        """
        lanes = self._serving(question, without)
        if preference is Preference.CHEAPEST:
            groups = [lanes]
        else:
            orders = sorted({lane.order for lane in lanes})
            groups = [[lane for lane in lanes if lane.order == order] for order in orders]
        for group in groups:
            for ranked in merge(*(lane.walk(question.needs, self.tally) for lane in group), key=_by_rank):
                yield _made(ranked)

    def explain(self, question: RouteQuestion, preference: Preference) -> tuple[OfferVerdict, ...]:
        """Return a verdict on every offer: the winner, those it went before in order, then the others by reason."""
        able = [
            OfferVerdict(one.offer.backend, one.offer.id, one.hourly_cost, Reason.OUTBID, f"rank {place}")
            for place, one in enumerate(self.candidates(question, preference), start=1)
        ]
        if able:
            able[0] = evolve(able[0], reason=Reason.ROUTED)
        unable = [
            OfferVerdict(offer.backend, offer.id, offer.cost.hourly(question.needs), reason)
            for offer in self.offers()
            if (reason := why_not(offer, question)) is not None
        ]
        return (*able, *sorted(unable, key=lambda one: (one.reason, self._orders[one.backend], one.offer_id)))

    def unable(self, question: RouteQuestion) -> Counter[tuple[BackendName, Reason]]:
        """Return how many offers of each backend cannot serve, by reason; a lane elsewhere is asked once."""
        counts: Counter[tuple[BackendName, Reason]] = Counter()
        here = (question.region, question.posture)
        for lane in chain.from_iterable(by_key.values() for by_key in self._lanes.values()):
            one = lane.offers[0]
            asked = lane.offers if (one.region, one.posture) == here else (one,)
            for offer in asked:
                if (reason := why_not(offer, question)) is not None:
                    counts[offer.backend, reason] += 1 if asked is lane.offers else len(lane.offers)
        return counts

    def _serving(self, question: RouteQuestion, without: Collection[BackendName]) -> list[_Lane]:
        needs = question.needs
        if not needs.accepts_region(question.region) or not needs.accepts_posture(question.posture):
            return []
        lanes = self._places.get((question.region, question.posture), ())
        return [lane for lane in lanes if lane.offers[0].backend not in without and lane.may_serve(question)]

    def _built(self, backend: BackendName, offers: Iterable[Offer]) -> dict[_LaneKey, _Lane]:
        groups: defaultdict[_LaneKey, list[Offer]] = defaultdict(list)
        for offer in offers:
            groups[_lane_key(offer)].append(offer)
        before = self._lanes.get(backend, {})
        return {key: self._lane(self._orders[backend], group, before.get(key)) for key, group in groups.items()}

    def _lane(self, order: int, offers: list[Offer], before: _Lane | None) -> _Lane:
        offers.sort(key=lambda offer: (offer.cost.total.machine, offer.id))
        sizes = tuple((offer.resources.cpu_millis, offer.resources.mem_mib) for offer in offers)
        if before is not None and before.sizes == sizes:
            grid = before.grid
        else:
            grid = _Grid(sizes)
            self.tally.grids += 1
        return _Lane(order, tuple(offers), sizes, grid, max(offer.resources.disk_gib for offer in offers))


def _lane_key(offer: Offer) -> _LaneKey:
    units = offer.cost.total
    prices = (offer.cost.currency, units.vcpu, units.ram_gib, units.disk_gib, units.gpu, units.egress_gib)
    limits = (offer.resources.gpus, offer.networks, offer.max_duration_ms, offer.runs_oci, offer.images)
    return (offer.region, offer.posture, limits, prices)


def _places(lanes: Mapping[BackendName, Mapping[_LaneKey, _Lane]]) -> dict[_Place, list[_Lane]]:
    places: defaultdict[_Place, list[_Lane]] = defaultdict(list)
    for lane in chain.from_iterable(by_key.values() for by_key in lanes.values()):
        places[lane.offers[0].region, lane.offers[0].posture].append(lane)
    return dict(places)


def _by_rank(ranked: _Ranked) -> _Rank:
    return ranked[0]


def _candidate(ranked: _Ranked | None) -> Candidate | None:
    return None if ranked is None else _made(ranked)


def _made(ranked: _Ranked) -> Candidate:
    (hourly, _, order, _), offer = ranked
    return Candidate(offer, hourly, order)
