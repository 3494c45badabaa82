"""The strategies: what a plugin decides. What they must not decide stays in the host.

A strategy is pure or keeps its own books; it never signs, never provisions, never moves the floor. The
host checks every result and holds against a wrong one.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from typing import Any

from attrs import field, frozen

from compute_bridge.model.card import ProviderCard
from compute_bridge.model.checks import label, octets, whole
from compute_bridge.model.clearing import Award, ClearingInputs, ClearingRecord, Verdict
from compute_bridge.model.ids import Fingerprint, ProviderId, RequestId
from compute_bridge.model.rates import RateTable
from compute_bridge.model.reason import Reason
from compute_bridge.model.reputation import Observation
from compute_bridge.model.request import ComputeRequest
from compute_bridge.model.resources import CapacityBand
from compute_bridge.model.settlement import Claim, SettlementStatement
from compute_bridge.model.units import BasisPoints, MicrosPerHour
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.clock import Clock

# --- rates --------------------------------------------------------------------------------------


@frozen
class MarketView:
    """What the bridge reads of the market: the other admitted cards and the last clearing records."""

    cards: tuple[ProviderCard, ...] = ()
    clearings: tuple[ClearingRecord, ...] = ()


@frozen
class RateQuestion:
    """What a rate policy is asked: rates for these bands over these offers, in this currency."""

    currency: str
    offers: tuple[Offer, ...]
    bands: tuple[CapacityBand, ...]
    market: MarketView = MarketView()


class RatePolicy(ABC):
    """What to ask. Pure: the same question has the same answer; the host then enforces the cost floor."""

    @abstractmethod
    def rates(self, question: RateQuestion) -> RateTable:
        """Return a row for every (region, posture, band) to sell; what has no row is not sold.

        Total over any question, never negative, and monotone: a costlier offer never lowers a rate.
        """


@frozen
class RatePolicyKind:
    """A rate policy by the boot file's word, the class of its table, and its maker."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[Any], RatePolicy]


# --- routing ------------------------------------------------------------------------------------


@frozen
class Candidate:
    """An offer that can serve the grant, with what it would cost an hour, rounded up.

    ``order`` is the backend's place in the boot file, from 0. ``benched`` counts how often in a row the offer, its
    zone, its region or its account was benched lately: 0 for one that nothing was said against.
    """

    offer: Offer
    hourly_cost: MicrosPerHour
    order: int = field(validator=whole())
    benched: int = field(default=0, validator=whole())


class Preference(StrEnum):
    """The orders that the host's offer index can give without looking at every offer."""

    BOOT_ORDER = "boot-order"
    CHEAPEST = "cheapest"


class RoutingPolicy(ABC):
    """Where to place. ``preference`` picks the index's order; ``rank`` may rearrange a short list."""

    @property
    @abstractmethod
    def preference(self) -> Preference:
        """The order in which the host draws candidates from its index."""

    @abstractmethod
    def rank(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return a permutation of ``candidates``, best first; pure.

        Called with at most 64 candidates, already in the order of ``preference``. The host refuses a
        result that adds or drops a candidate.
        """


@frozen
class RoutingPolicyKind:
    """A routing policy by the boot file's word, the class of its table, and its maker."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[Any], RoutingPolicy]


# --- reputation ---------------------------------------------------------------------------------


class ReputationPolicy(ABC):
    """Who is good. Order within one tick does not matter; old observations fade as documented."""

    @abstractmethod
    def score(self, provider: ProviderId, observations: Sequence[Observation], now: int) -> int:
        """Return 0 to 1000 for ``provider`` at tick ``now``; pure."""


@frozen
class ReputationPolicyKind:
    """A reputation policy by its word, the class of its table, and its maker."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[Any], ReputationPolicy]


# --- settlement ---------------------------------------------------------------------------------


class SettlementState(StrEnum):
    """Where a claim stands."""

    CLAIMED = "claimed"
    AGREED = "agreed"
    DIFFERS = "differs"


@frozen
class SettlementResult:
    """What became of a claim or of its comparison with the market's statement."""

    state: SettlementState
    reason: Reason


@frozen
class SettlementContext:
    """What the host hands to a settlement: a folder of its own, the clock, and how to publish a claim.

    ``publish`` signs the claim with the boot key and puts it on the network; publishing twice is
    publishing once.
    """

    state_dir: Path
    clock: Clock
    publish: Callable[[Claim], Awaitable[None]]
    read_secret: Callable[[str], bytes] = field(repr=False)


class Settlement(ABC):
    """How money moves. Idempotent by the claim's key; keeps its own durable books."""

    @abstractmethod
    async def settle(self, claim: Claim) -> SettlementResult:
        """Claim what is owed; a second call with the same claim changes nothing and says the same.

        :raises SettlementError: if the same key comes with another amount, or the books are damaged.
        :raises BooksUnwritableError: if the books take nothing now; the claim is made again.
        """

    @abstractmethod
    async def reconcile(self, statement: SettlementStatement) -> SettlementResult:
        """Compare the market's statement with our claim, and book it; idempotent.

        :raises SettlementError: if there is no such claim.
        :raises BooksUnwritableError: if the books take nothing now; the statement is brought again.
        """

    @abstractmethod
    async def balance(self) -> int:
        """Return the micros that the market has agreed to owe us so far."""


@frozen
class SettlementKind:
    """A settlement by the boot file's word, the class of its table, and how one is opened."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[SettlementContext, Any], AbstractAsyncContextManager[Settlement]]


# --- clearing -----------------------------------------------------------------------------------


@frozen
class OpenRequest:
    """A request in a round, with its id."""

    id: RequestId = field(validator=octets(32))
    request: ComputeRequest
    excluded: frozenset[ProviderId] = frozenset()


@frozen
class Bidder:
    """An admitted card in a round, and what its provider has open, by band."""

    card: ProviderCard
    card_hash: Fingerprint
    open: int
    loads: dict[str, int]


@frozen
class Round:
    """All that a clearing rule sees; the same round always clears the same way."""

    inputs: ClearingInputs
    requests: tuple[OpenRequest, ...]
    bidders: tuple[Bidder, ...]
    currency: str
    requester_fee: BasisPoints
    provider_fee: BasisPoints
    module: bytes


@frozen
class Cleared:
    """A round's outcome: the awards, and one verdict for every request and bidder, in that order."""

    awards: tuple[Award, ...]
    verdicts: tuple[Verdict, ...]


class ClearingRule(ABC):
    """How to clear: pure, and blind to the order in which requests and cards are given."""

    @property
    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """What pins this rule and its settings in a clearing record."""

    @abstractmethod
    def clear(self, round_: Round) -> Cleared:
        """Match the round's requests with its bidders.

        Never above a request's max rate, never beyond a bidder's free slots, at most one award a
        request. Scarcity and ties are resolved by H(beacon, request, provider).
        """


@frozen
class ClearingRuleKind:
    """A clearing rule by the market file's word, the class of its table, and its maker."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[Any], ClearingRule]
