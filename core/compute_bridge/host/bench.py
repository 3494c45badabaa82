"""Which offers, zones, regions and backends are benched, why, and until when."""

import logging
from collections.abc import Collection, Iterator

from attrs import frozen

from compute_bridge.host.bench_log import BenchLog, Place
from compute_bridge.host.journal_events import Benched
from compute_bridge.model.ids import BackendName
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Region
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import Scope
from compute_bridge.ports.journal import Journal

logger = logging.getLogger(__name__)

LIMIT_MS = 3_600_000
"""The longest bench."""
MOST_REMEMBERED = 4096
"""How many scopes are remembered before those that failed long ago are forgotten."""
_DETAIL = 500

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
# What a restart does not mend. By a restart the operator mends the rest, or its first look at the offers lifts it.
_OUTLIVING = (Reason.NO_CAPACITY, Reason.QUOTA, Reason.THROTTLED, Reason.STOP_FAILOVER)


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

    @property
    def remembered_ms(self) -> int:
        """Until when a further failure counts as one in a row."""
        return self.until_ms + _length_ms(self.reason, self.times)


class BenchBook:
    """The benches of a fleet, by the clock alone: the same failures at the same times bench the same.

    What :meth:`write` keeps in a journal, :meth:`restore` takes up in another process.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._benches: dict[Place, Bench] = {}
        self._log = BenchLog(clock)

    def bench(self, backend: BackendName, scope: Scope, place: str, *, reason: Reason, detail: str) -> Bench:
        """Bench one scope, and return how.

        A failure while the scope is benched already changes nothing, since leases fail together. One soon
        after doubles the time; one that comes later than the last bench was long starts anew.
        """
        key = (backend, scope, place)
        now, last = self._clock.monotonic_ms(), self._benches.get(key)
        if last is not None and now < last.until_ms:
            return last
        times = last.times + 1 if last is not None and now < last.remembered_ms else 1
        length = _length_ms(reason, times)
        self._remember(key, bench := Bench(backend, scope, place, reason, detail, now + length, times))
        if reason in _OUTLIVING:
            left, at = Milliseconds(length), UtcMs(self._clock.utc_ms())
            self._log.note(Benched(backend, scope, place, reason, detail[:_DETAIL], at, left, times))
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
            self._lift((offer.backend, scope, place))

    def absolve_account(self, backend: BackendName, *reasons: Reason) -> None:
        """Forget the bench of a whole backend if it was for one of these reasons."""
        bench = self._benches.get((backend, Scope.ACCOUNT, ""))
        if bench is not None and bench.reason in reasons:
            self._lift((backend, Scope.ACCOUNT, ""))

    @property
    def remembered(self) -> int:
        """How many scopes are benched, or have been."""
        return len(self._benches)

    def lately(self, offer: Offer) -> int:
        """Return how often in a row a scope that holds ``offer`` was benched lately; 0 where none was."""
        now = self._clock.monotonic_ms()
        found = (self._benches.get((offer.backend, scope, place)) for scope, place in _scopes(offer))
        return max((one.times for one in found if one is not None and now < one.remembered_ms), default=0)

    def state(self) -> tuple[Bench, ...]:
        """Return the benches that hold now, in the order of backend, scope and place."""
        now = self._clock.monotonic_ms()
        held = (bench for bench in self._benches.values() if now < bench.until_ms)
        return tuple(sorted(held, key=lambda one: (one.backend, one.scope, one.place)))

    # --- across a restart -----------------------------------------------------------------------

    async def changed(self) -> None:
        """Return once there is something to write."""
        await self._log.noted.wait()

    async def write(self, journal: Journal) -> None:
        """Journal what a restart must not forget; what the journal does not take now waits for the next call."""
        await self._log.write(journal)

    async def restore(self, journal: Journal, backends: Collection[BackendName]) -> None:
        """Take up the benches of ``backends`` that still hold.

        None becomes longer than it was when it was written. Where the wall clock says that one is older than the
        longest bench, or of so far in the future, it tells nothing, and that bench is forgotten.

        :raises JournalError: if an event cannot be read.
        """
        now = self._clock.monotonic_ms()
        for body in await self._log.read(journal, within_ms=LIMIT_MS):
            passed = self._clock.utc_ms() - body.at
            if body.backend not in backends or body.reason not in _OUTLIVING or abs(passed) > LIMIT_MS:
                continue
            # A wall clock that was set back a little makes no bench longer.
            until = now + min(body.left_ms, LIMIT_MS) - max(0, passed)
            bench = Bench(body.backend, body.scope, body.place, body.reason, body.detail, until, body.times)
            if now < bench.remembered_ms:
                self._remember(body.where, bench)
        for bench in self.state():
            left_s = (bench.until_ms - now) // 1000
            logger.info("backend %s: %s stays benched for %d s: %s", bench.backend, bench.scope, left_s, bench.detail)

    def _remember(self, place: Place, bench: Bench) -> None:
        now = self._clock.monotonic_ms()
        if len(self._benches) >= MOST_REMEMBERED:
            self._benches = {key: one for key, one in self._benches.items() if now < one.remembered_ms}
        self._benches[place] = bench

    def _lift(self, place: Place) -> None:
        if self._benches.pop(place, None) is not None:
            self._log.lift(place)

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
