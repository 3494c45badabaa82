"""Where to place a grant: the first backend that fits, the cheapest offer of all, or the one likeliest to be there."""

from collections.abc import Sequence

from attrs import frozen

from compute_bridge.api import Candidate, Preference, RoutingPolicy


@frozen(kw_only=True)
class FirstFitConfig:
    """``[routing]`` with ``policy = "first-fit"``; it has no keys of its own."""


@frozen(kw_only=True)
class CheapestConfig:
    """``[routing]`` with ``policy = "cheapest"``; it has no keys of its own."""


@frozen(kw_only=True)
class AvailabilityFirstConfig:
    """``[routing]`` with ``policy = "availability-first"``; it has no keys of its own."""


class FirstFit(RoutingPolicy):
    """The backends in the order of the boot file, and within each the cheapest offer first.

    For an operator whose own racks stand before the clouds, whatever the clouds cost.
    """

    def __init__(self, config: FirstFitConfig) -> None:
        self._config = config

    @property
    def preference(self) -> Preference:
        """Ask the host for boot order."""
        return Preference.BOOT_ORDER

    def rank(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the candidates as they come."""
        return tuple(candidates)


class Cheapest(RoutingPolicy):
    """The cheapest offer for the whole requirements, whichever backend has it; boot order decides a tie."""

    def __init__(self, config: CheapestConfig) -> None:
        self._config = config

    @property
    def preference(self) -> Preference:
        """Ask the host for the order of cost."""
        return Preference.CHEAPEST

    def rank(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the candidates as they come."""
        return tuple(candidates)


class AvailabilityFirst(RoutingPolicy):
    """What was not benched lately before what was, and on demand before spot; the cheapest of those alike.

    For an operator to whom a machine at the first attempt is worth more than the cheapest one.
    """

    def __init__(self, config: AvailabilityFirstConfig) -> None:
        self._config = config

    @property
    def preference(self) -> Preference:
        """Ask the host for the order of cost."""
        return Preference.CHEAPEST

    def rank(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the candidates, those least often benched in a row first; the order of cost stands otherwise."""
        return tuple(sorted(candidates, key=lambda one: (one.benched, one.offer.spot)))
