"""Which offer serves a grant: candidates in the policy's order, one attempt after another, each explained."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from attrs import Factory, define, field, frozen

from compute_bridge.host.attempt import Attempt, AttemptLimits
from compute_bridge.host.bench import Bench
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.floor import CostFloorError, check_grant_floor, covers
from compute_bridge.host.offer_index import OfferVerdict, RouteQuestion
from compute_bridge.host.placement import Placement as Placement
from compute_bridge.host.placement import PlacementError as PlacementError
from compute_bridge.host.placement import RouteStep as RouteStep
from compute_bridge.host.plugin_call import PluginResultError, policy_call, reason_of
from compute_bridge.host.verdicts import passed_over, quarantined
from compute_bridge.model.boot import BelowCost
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import BasisPoints
from compute_bridge.ports.backend import Offer, Order
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import (
    BackendError,
    NoCapacityError,
    QuotaError,
    Scope,
    StopFailoverError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.ports.strategy import Candidate, Preference, RoutingPolicy

logger = logging.getLogger(__name__)

MAX_CANDIDATES = 64
"""How many candidates a routing policy sees at once."""

OrderFor = Callable[[Offer, int], Order]
Intend = Callable[[Order, int], Awaitable[None]]
Failed = Callable[[Order, Reason, str], Awaitable[None]]


@frozen
class Router:
    """Places grants on the fleet; one for a bridge, shared by all leases.

    ``provider_fee`` is the market's, taken off the cleared rate before it is held against an offer's cost;
    ``below_cost`` says whether an offer that costs more may be used all the same. ``max_attempts`` bounds the
    orders made for one grant by one call.
    """

    fleet: Fleet
    policy: RoutingPolicy
    clock: Clock
    provider_fee: BasisPoints
    below_cost: BelowCost = BelowCost.REFUSE
    max_attempts: int = 25
    limits: AttemptLimits = field(factory=AttemptLimits)

    async def place(
        self,
        grant: ComputeGrant,
        image: ImageRef,
        *,
        order_for: OrderFor,
        intend: Intend,
        failed: Failed,
        resume: tuple[Order, int] | None = None,
        first_attempt: int = 0,
    ) -> Placement:
        """Place ``grant`` and return the machine.

        Before each new attempt ``intend(order, number)`` is awaited, after each definite failure
        ``failed(order, reason, detail)``. ``resume`` is an attempt whose outcome nobody knows: it is made again
        first, with the same token and without ``intend``. New attempts count on from it, or from
        ``first_attempt``.

        :raises PlacementError: if no offer took it; nothing is left behind.
        :raises UnavailableError: if the outcome of an attempt is unknown: call again with it as ``resume``.
        :raises StopFailoverError: if an attempt may have left something behind; it stays on the books.
        """
        question = RouteQuestion(grant.requirements, image, grant.region, grant.posture)
        route = _Route(self, grant, question, order_for, intend, failed, number=first_attempt)
        try:
            return await route.run(resume)
        except (UnavailableError, StopFailoverError) as error:
            for step in route.steps:
                error.add_note(step.line)
            raise

    def explain(self, grant: ComputeGrant, image: ImageRef) -> tuple[OfferVerdict, ...]:
        """Return what would become of every offer now, were ``grant`` placed; benches and the rate apart."""
        question = RouteQuestion(grant.requirements, image, grant.region, grant.posture)
        return self.fleet.index.explain(question, self.preference)

    @property
    def preference(self) -> Preference:
        """The order that the policy wants.

        :raises PluginResultError: if it names none.
        """
        with policy_call(self._policy_name):
            preference = self.policy.preference
        if not isinstance(preference, Preference):
            raise PluginResultError(f"{self._policy_name}: preference is no Preference; report it")
        return preference

    def rank(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the policy's permutation of ``candidates``.

        :raises PluginResultError: if it returns anything else.
        """
        if not candidates:
            return ()
        with policy_call(self._policy_name):
            ranked = tuple(self.policy.rank(tuple(candidates)))
        left = {(one.offer.backend, one.offer.id): one for one in candidates}
        results: tuple[object, ...] = ranked
        for one in results:
            if not isinstance(one, Candidate) or left.pop((one.offer.backend, one.offer.id), None) != one:
                raise PluginResultError(f"{self._policy_name}: rank added or doubled a candidate; report it")
        if left:
            raise PluginResultError(f"{self._policy_name}: rank dropped {len(left)} candidates; report it")
        return ranked

    @property
    def _policy_name(self) -> str:
        return f"routing policy {type(self.policy).__name__}"


@define
class _Route:
    """The placing of one grant: what was tried, and what came of it."""

    router: Router
    grant: ComputeGrant
    question: RouteQuestion
    order_for: OrderFor
    intend: Intend
    failed: Failed
    number: int
    attempts: int = 0
    steps: list[RouteStep] = Factory(list)
    _tried: set[tuple[BackendName, OfferId]] = field(factory=set, init=False)
    _last_failure: Reason | None = field(default=None, init=False)
    _passed_over: dict[BackendName, RouteStep] = field(factory=dict, init=False)

    async def run(self, resume: tuple[Order, int] | None) -> Placement:
        if resume is not None:
            order, number = resume
            if placement := await self._attempt(order, is_resumed=True):
                return placement
            self.number = number + 1
            # A token whose machine was cleaned up is used up, not its offer: a new attempt may have it.
            self._tried.discard((order.offer.backend, order.offer.id))
        while batch := self._draw():
            for candidate in batch:
                if self._last_failure is not None and self.attempts >= self.router.max_attempts:
                    raise self._error(f"{self.attempts} attempts failed, no more are made", self._last_failure)
                if placement := await self._take(candidate):
                    return placement
        raise self._nowhere()

    # --- candidates -----------------------------------------------------------------------------

    def _draw(self) -> tuple[Candidate, ...]:
        try:
            preference = self.router.preference
            return self.router.rank(self._candidates(preference))
        except PluginResultError as error:
            raise self._error(str(error), Reason.PLUGIN_RESULT) from error

    def _candidates(self, preference: Preference) -> list[Candidate]:
        drawn: list[Candidate] = []
        for candidate in self.router.fleet.candidates(self.question, preference):
            if (candidate.offer.backend, candidate.offer.id) in self._tried:
                continue
            if not self._is_affordable(candidate.offer):
                if preference is Preference.CHEAPEST:
                    break
                continue
            drawn.append(candidate)
            if len(drawn) == MAX_CANDIDATES:
                break
        return drawn

    def _is_affordable(self, offer: Offer) -> bool:
        if self.router.below_cost is BelowCost.ALLOW:
            return True
        try:
            check_grant_floor(self.grant, offer, provider_fee=self.router.provider_fee)
        except CostFloorError as error:
            step = RouteStep(offer.backend, offer.id, Reason.ABOVE_CLEARED_RATE, str(error))
            # A backend's cheapest tells it all; the others cost more.
            self._passed_over.setdefault(offer.backend, step)
            return False
        return True

    # --- attempts -------------------------------------------------------------------------------

    async def _take(self, candidate: Candidate) -> Placement | None:
        offer = candidate.offer
        self._tried.add((offer.backend, offer.id))
        if bench := self.router.fleet.bench_of(offer):
            self._step(offer, Reason.BENCHED, f"{bench.scope} since this route began: {bench.detail}")
            return None
        if held := self.router.fleet.costs.stale(offer):
            self._step(offer, held.reason, f"since this route began: {held.detail}")
            return None
        order = self.order_for(offer, self.number)
        if order.offer != offer:
            raise ValueError(f"the order for offer {offer.id} is for offer {order.offer.id}")
        await self.intend(order, self.number)
        self.number += 1
        return await self._attempt(order)

    async def _attempt(self, order: Order, *, is_resumed: bool = False) -> Placement | None:
        router, offer = self.router, order.offer
        self._tried.add((offer.backend, offer.id))
        try:
            backend = router.fleet.backend(offer.backend)
            instance = await Attempt(backend, order, router.clock, router.limits, is_resumed).make()
        except (BackendError, PluginResultError) as error:
            await self._give_up(order, error)
            return None
        router.fleet.absolve(offer)
        self._step(offer, Reason.ROUTED, self._price(offer))
        dear = tuple(step for step in self._passed_over.values() if step not in self.steps)
        return Placement(instance, order, tuple(self.steps), (*dear, *self._others()))

    async def _give_up(self, order: Order, error: BackendError | PluginResultError) -> None:
        reason = reason_of(error)
        self._step(order.offer, reason, str(error))
        scope = _scope_of(error)
        if scope is not None:
            self.router.fleet.bench(order.offer, scope, reason=reason, detail=str(error))
        if isinstance(error, UnavailableError | StopFailoverError):
            raise error
        self.attempts += 1
        self._last_failure = reason
        await self.failed(order, reason, str(error))

    def _price(self, offer: Offer) -> str:
        cost = offer.cost.hourly(self.question.needs)
        price = f"costs {cost} micros/h, cleared at {self.grant.rate}"
        if covers(self.grant.rate, cost, self.router.provider_fee):
            return price
        return f"{price}: below cost, as the boot file allows"

    # --- the end --------------------------------------------------------------------------------

    def _nowhere(self) -> PlacementError:
        benches = self._benches()
        self.steps += self._passed_over.values()
        self.steps += [RouteStep(one.backend, one.place, Reason.BENCHED, one.detail) for one in benches]
        if self._last_failure is not None:
            return self._error(f"all {self.attempts} attempts failed, and no offer is left", self._last_failure)
        if self._passed_over:
            return self._error("every offer that could serve costs more than was cleared", Reason.ABOVE_CLEARED_RATE)
        if benches:
            return self._error("every offer that could serve is benched", Reason.BENCHED)
        if held := next(quarantined(self.router.fleet, self.question), None):
            return self._error("every offer that could serve is in quarantine for its cost", held.reason)
        return self._error("no backend has an offer that can serve", Reason.NO_OFFER)

    def _benches(self) -> list[Bench]:
        fleet = self.router.fleet
        could = islice(fleet.index.candidates(self.question, Preference.BOOT_ORDER), 1000)
        benches = (fleet.bench_of(one.offer) for one in could)
        # Without repeats, in order.
        return list(dict.fromkeys(bench for bench in benches if bench is not None))

    def _error(self, message: str, reason: Reason) -> PlacementError:
        others = self._others()
        return PlacementError(message, reason=reason, steps=self.steps, attempts=self.attempts, passed_over=others)

    def _others(self) -> tuple[RouteStep, ...]:
        try:
            preference = self.router.preference
        except PluginResultError:
            # It is told already; the verdicts do not hang on its order.
            preference = Preference.BOOT_ORDER
        told = self._tried | {(step.backend, OfferId(step.offer_id)) for step in self.steps}
        return passed_over(self.router.fleet, self.question, preference, told=told, is_affordable=self._is_affordable)

    def _step(self, offer: Offer, reason: Reason, detail: str) -> None:
        step = RouteStep(offer.backend, offer.id, reason, detail)
        logger.info("route: %s", step.line)
        self.steps.append(step)


def _scope_of(error: BackendError | PluginResultError) -> Scope | None:
    """Return how far ``error`` reaches; ``None`` where only this grant is refused."""
    if isinstance(error, UnservableError):
        return None
    if isinstance(error, NoCapacityError | QuotaError):
        scope: object = error.scope
        return scope if isinstance(scope, Scope) else Scope.OFFER
    return Scope.ACCOUNT
