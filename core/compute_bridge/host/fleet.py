"""The fleet: the open backends, what they can serve, what they offer now, and who is benched."""

import logging
from collections.abc import Callable, Iterator, Sequence

import anyio
import anyio.to_thread
from attrs import evolve, frozen

from compute_bridge.host.bench import Bench, BenchBook, place_of
from compute_bridge.host.costs import CostBook, CostLimits, Quarantined
from compute_bridge.host.dead_mans_switch import declared_switches
from compute_bridge.host.ledger import Ledger
from compute_bridge.host.offer_check import capability_union, check_capabilities, check_offers
from compute_bridge.host.offer_index import OfferIndex, RouteQuestion, why_not
from compute_bridge.host.plugin_call import PluginResultError, backend_call, reason_of
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import NegativeNanosError
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Capability
from compute_bridge.ports.backend import Backend, Offer
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BackendError, Scope, UnavailableError
from compute_bridge.ports.strategy import Candidate, Preference

logger = logging.getLogger(__name__)

Sift = Callable[[BackendName, Sequence[Offer]], tuple[Offer, ...]]

_INLINE = 1000
_BENCHING = (Reason.CREDENTIALS, Reason.PLUGIN_RESULT, Reason.BACKEND_FAULT)
# What is mended when a backend tells its offers again; a faulty provision is not.
_MENDED = (Reason.CREDENTIALS, Reason.UNAVAILABLE)


@frozen
class Refreshed:
    """What asking a backend for its offers came to.

    ``reason`` is ``None`` when it answered. Otherwise its last offers are kept: ``offers`` of them, ``age_ms``
    old, or -1 where it never answered.
    """

    backend: BackendName
    offers: int
    age_ms: int
    reason: Reason | None = None
    detail: str = ""


class Fleet:
    """The open backends, in boot order. All costs are in ``currency``; ``costs`` keeps out what must not be sold on.

    Shared by all leases of a bridge; used from one event loop. A backend has ``answer_s`` real seconds to tell its
    offers. ``switches`` is what ends each backend's instances when no bridge does.

    :raises PluginResultError: if a backend declares a dead man's switch that is none.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        clock: Clock,
        *,
        currency: str,
        answer_s: float = 60.0,
        costs: CostBook | None = None,
    ) -> None:
        self._clock = clock
        self._currency = currency
        self._answer_s = answer_s
        self._backends = {backend.name: backend for backend in backends}
        if len(self._backends) != len(backends):
            names = ", ".join(backend.name for backend in backends)
            raise ValueError(f"backends {names}: each needs a name of its own; rename one in the boot file")
        self.switches = declared_switches(backends)
        self._benches = BenchBook(clock)
        self._costs = costs if costs is not None else CostBook(clock, CostLimits(), Ledger())
        self._misspoke: set[BackendName] = set()
        self._answered_ms: dict[BackendName, int] = {}
        self._index = OfferIndex(tuple(self._backends))
        self._replacing = anyio.Lock()

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The open backends, in boot order."""
        return tuple(self._backends.values())

    @property
    def unheard(self) -> tuple[BackendName, ...]:
        """The backends that have told no offers since the boot; nobody knows yet what they can serve."""
        return tuple(name for name in self._backends if name not in self._answered_ms)

    @property
    def index(self) -> OfferIndex:
        """The offers as they are now; the next refresh makes another index."""
        return self._index

    @property
    def benches(self) -> BenchBook:
        """The benches, for who keeps them across a restart."""
        return self._benches

    @property
    def costs(self) -> CostBook:
        """The costs that offers are sold on, and the quarantine."""
        return self._costs

    def backend(self, name: BackendName) -> Backend:
        """Return the backend of this name.

        :raises LookupError: if no open backend has it.
        """
        try:
            return self._backends[name]
        except KeyError:
            raise LookupError(f"backend {name!r} is not open; open are {', '.join(self._backends)}") from None

    def capabilities(self) -> tuple[Capability, ...]:
        """Return what the fleet can serve at all: the union, in one order.

        A backend that is benched until somebody mends it, or that declares nonsense, is left out.
        """
        return capability_union(one for backend in self._backends.values() for one in self._declared(backend))

    def offers(self) -> tuple[Offer, ...]:
        """Return every offer that is known, benched or not, in boot order; those in quarantine are left out."""
        return self._index.offers()

    async def refresh(self, name: BackendName | None = None) -> tuple[Refreshed, ...]:
        """Ask one backend, or all at once, for its offers; never raises for what a backend does."""
        asked = tuple(self._backends) if name is None else (self.backend(name).name,)
        results: dict[BackendName, Refreshed] = {}

        async def ask(backend: BackendName) -> None:
            results[backend] = await self._refresh(backend)

        async with anyio.create_task_group() as tasks:
            for backend in asked:
                tasks.start_soon(ask, backend)
        return tuple(results[backend] for backend in asked)

    def candidates(self, question: RouteQuestion, preference: Preference) -> Iterator[Candidate]:
        """Yield the offers that can serve, are not benched and have no stale cost, best first."""
        out = {name for name in self._backends if self._benches.of_region(name, question.region)}
        for candidate in self._index.candidates(question, preference, without=out):
            if self._benches.of(candidate.offer) is None and self._costs.stale(candidate.offer) is None:
                lately = self._benches.lately(candidate.offer)
                yield evolve(candidate, benched=lately) if lately else candidate

    def quarantined(self, question: RouteQuestion) -> tuple[Quarantined, ...]:
        """Return the offers that could serve were it not for their costs."""
        held = self._costs.quarantined
        return tuple(one for one in held if one.offer is not None and why_not(one.offer, question) is None)

    def bench_of(self, offer: Offer) -> Bench | None:
        """Return the bench that holds ``offer`` now, if any."""
        return self._benches.of(offer)

    def bench(self, offer: Offer, scope: Scope, *, reason: Reason, detail: str) -> Bench:
        """Bench what ``scope`` means for ``offer``."""
        return self._benches.bench(offer.backend, scope, place_of(offer, scope), reason=reason, detail=detail)

    def absolve(self, offer: Offer) -> None:
        """Lift every bench that holds ``offer``: its backend has just served it."""
        self._benches.absolve(offer)

    def bench_state(self) -> tuple[Bench, ...]:
        """Return every bench that holds now, for status and explain."""
        return self._benches.state()

    def _declared(self, backend: Backend) -> tuple[Capability, ...]:
        bench = self._benches.of_account(backend.name)
        if bench is not None and bench.reason in _BENCHING:
            return ()
        try:
            with backend_call(backend.name, "capabilities"):
                return check_capabilities(backend.name, backend.capabilities())
        except (BackendError, PluginResultError) as error:
            self._bench_account(backend.name, error)
            return ()

    async def _refresh(self, name: BackendName) -> Refreshed:
        try:
            offers = check_offers(name, await self._asked(name), currency=self._currency)
        except (BackendError, PluginResultError) as error:
            await self._withdraw(name, error)
            return self._refused(name, error)
        await self._replace(name, offers, self._costs.sift)
        self._answered_ms[name] = self._clock.monotonic_ms()
        self._benches.absolve_account(name, *(_BENCHING if name in self._misspoke else ()), *_MENDED)
        self._misspoke.discard(name)
        return Refreshed(name, len(self._index.offers(name)), 0)

    async def _asked(self, name: BackendName) -> object:
        try:
            with anyio.fail_after(self._answer_s), backend_call(name, "offers"):
                return await self._backends[name].offers()
        except TimeoutError as error:
            raise UnavailableError(
                f"backend {name}: no offers within {self._answer_s} s; its last ones stay"
            ) from error

    async def _withdraw(self, name: BackendName, error: BackendError | PluginResultError) -> None:
        """Take back the last offers of a backend that tells no new ones, where their costs do not stand any more."""
        last = self._index.offers(name)
        if isinstance(error.__cause__, NegativeNanosError):
            self._costs.hold_all(name, Reason.COST_NEGATIVE, str(error.__cause__))
            await self._replace(name, last, _none)
        elif any(self._costs.stale(offer) for offer in last):
            await self._replace(name, last, self._costs.expire)

    async def _replace(self, name: BackendName, offers: tuple[Offer, ...], sift: Sift) -> None:
        async with self._replacing:
            if len(offers) <= _INLINE:
                self._index = self._index.replaced(name, sift(name, offers))
            else:
                # A catalogue takes longer to index than the event loop may stand still.
                kept = await anyio.to_thread.run_sync(sift, name, offers)
                self._index = await anyio.to_thread.run_sync(self._index.replaced, name, kept)

    def _refused(self, name: BackendName, error: BackendError | PluginResultError) -> Refreshed:
        reason = reason_of(error)
        if reason in _BENCHING:
            self._bench_account(name, error)
        else:
            logger.warning("backend %s: no new offers, the last ones stay: %s", name, error)
        answered = self._answered_ms.get(name)
        age_ms = -1 if answered is None else self._clock.monotonic_ms() - answered
        return Refreshed(name, len(self._index.offers(name)), age_ms, reason, str(error))

    def _bench_account(self, name: BackendName, error: BackendError | PluginResultError) -> None:
        self._misspoke.add(name)
        self._benches.bench(name, Scope.ACCOUNT, "", reason=reason_of(error), detail=str(error))


def _none(_name: BackendName, _offers: Sequence[Offer]) -> tuple[Offer, ...]:
    return ()
