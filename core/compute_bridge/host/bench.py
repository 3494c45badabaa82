"""Which offers, zones, regions and backends are benched, why, and until when."""

import logging
from collections.abc import Iterator

from attrs import frozen

from compute_bridge.model.ids import BackendName
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Region
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import Scope

logger = logging.getLogger(__name__)

LIMIT_MS = 3_600_000
"""The longest bench."""

# How long the first bench lasts. What passes by itself is short, what somebody must mend is long.
_FIRST_MS = {
    Reason.NO_CAPACITY: 15_000,
    Reason.THROTTLED: 15_000,
    Reason.UNAVAILABLE: 15_000,
    Reason.BACKEND_FAULT: 60_000,
    Reason.STOP_FAILOVER: 60_000,
    Reason.QUOTA: 300_000,
    Reason.CREDENTIALS: 300_000,
    Reason.PLUGIN_RESULT: 300_000,
}
_FOR_THE_OPERATOR = (Reason.CREDENTIALS, Reason.PLUGIN_RESULT, Reason.BACKEND_FAULT, Reason.STOP_FAILOVER)


@frozen
class Bench:
    """One scope of a backend that gets no orders until ``until_ms`` of the clock's monotonic time.

    ``place`` is the offer's id, ``region/zone``, the region, or empty for the whole account. ``times`` counts
    the benches in a row: each lasts twice as long as the one before, up to ``LIMIT_MS``.
    """

    backend: BackendName
    scope: Scope
    place: str
    reason: Reason
    detail: str
    until_ms: int
    times: int


class BenchBook:
    """The benches of a fleet, by the clock alone: the same failures at the same times bench the same."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._benches: dict[tuple[BackendName, Scope, str], Bench] = {}

    def bench(self, backend: BackendName, scope: Scope, place: str, *, reason: Reason, detail: str) -> Bench:
        """Bench one scope, and return how.

        A failure while the scope is benched already changes nothing, since leases fail together. One soon
        after doubles the time; one that comes later than the last bench was long starts anew.
        """
        key = (backend, scope, place)
        now, last = self._clock.monotonic_ms(), self._benches.get(key)
        if last is not None and now < last.until_ms:
            return last
        soon = last is not None and now < last.until_ms + _length_ms(last.reason, last.times)
        times = last.times + 1 if last is not None and soon else 1
        length = _length_ms(reason, times)
        self._benches[key] = bench = Bench(backend, scope, place, reason, detail, now + length, times)
        level = logging.ERROR if reason in _FOR_THE_OPERATOR else logging.INFO
        logger.log(level, "backend %s: %s benched for %d s: %s", backend, scope, length // 1000, detail)
        return bench

    def of(self, offer: Offer) -> Bench | None:
        """Return the widest bench that holds ``offer`` now, if any."""
        held = (self._active(offer.backend, scope, place) for scope, place in _scopes(offer))
        return next(filter(None, held), None)

    def of_region(self, backend: BackendName, region: Region) -> Bench | None:
        """Return the bench that holds everything of ``backend`` in ``region``, if any."""
        return self._active(backend, Scope.ACCOUNT, "") or self._active(backend, Scope.REGION, region)

    def of_account(self, backend: BackendName) -> Bench | None:
        """Return the bench that holds the whole backend, if any."""
        return self._active(backend, Scope.ACCOUNT, "")

    def absolve(self, offer: Offer) -> None:
        """Forget every bench that holds ``offer``: it has just been served."""
        for scope, place in _scopes(offer):
            self._benches.pop((offer.backend, scope, place), None)

    def absolve_account(self, backend: BackendName, *reasons: Reason) -> None:
        """Forget the bench of a whole backend if it was for one of these reasons."""
        bench = self._benches.get((backend, Scope.ACCOUNT, ""))
        if bench is not None and bench.reason in reasons:
            del self._benches[backend, Scope.ACCOUNT, ""]

    def state(self) -> tuple[Bench, ...]:
        """Return the benches that hold now, in the order of backend, scope and place."""
        now = self._clock.monotonic_ms()
        held = (bench for bench in self._benches.values() if now < bench.until_ms)
        return tuple(sorted(held, key=lambda one: (one.backend, one.scope, one.place)))

    def _active(self, backend: BackendName, scope: Scope, place: str) -> Bench | None:
        bench = self._benches.get((backend, scope, place))
        return bench if bench is not None and self._clock.monotonic_ms() < bench.until_ms else None


def place_of(offer: Offer, scope: Scope) -> str:
    """Return the place that ``scope`` means for ``offer``."""
    return dict(_scopes(offer))[scope]


def _scopes(offer: Offer) -> Iterator[tuple[Scope, str]]:
    yield Scope.ACCOUNT, ""
    yield Scope.REGION, offer.region
    yield Scope.ZONE, f"{offer.region}/{offer.zone}"
    yield Scope.OFFER, offer.id


def _length_ms(reason: Reason, times: int) -> int:
    # The shift is bounded, so that a scope that fails for years makes no number of thousands of digits.
    return min(_FIRST_MS[reason] << min(times - 1, 16), LIMIT_MS)
