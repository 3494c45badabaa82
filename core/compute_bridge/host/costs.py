"""Which offers may be sold on their cost: one that is stale, of the future, nothing, negative or jumping waits."""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeAlias

from attrs import astuple, define, field, fields_dict, frozen

from compute_bridge.host.journal_events import (
    MAX_NAMED,
    CostsAccepted,
    CostsQuarantined,
    CostsReleased,
    HeldOffer,
    KnownCost,
    read_event,
)
from compute_bridge.host.ledger import Ledger
from compute_bridge.model.boot import RateSettings, ZeroCost
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import BasisPoints, Nanos, NanosPerHour
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.journal import Journal

logger = logging.getLogger(__name__)

AHEAD_MS = 3_600_000
"""How far a cost's ``observed_at`` may lie in the future: clocks differ, but not by more than this."""
_WHOLE = 10_000
# So many that an event can be read again, however long their ids are.
_CHUNK = 80
_NAMES = (*fields_dict(UnitNanos), "address")

_Parts: TypeAlias = tuple[int, ...]
_Verdict: TypeAlias = tuple[Reason, str]


@frozen
class CostLimits:
    """What a cost must keep to; ``jump`` is the most that any part may rise or fall by from one look to the next."""

    max_age_ms: int = 86_400_000
    jump: BasisPoints = BasisPoints(10_000)
    settle_ms: int = 900_000
    zero: ZeroCost = ZeroCost.REFUSE

    @classmethod
    def of(cls, settings: RateSettings) -> "CostLimits":
        """Return the limits that the boot file sets."""
        return cls(
            1000 * settings.cost_max_age_s,
            BasisPoints(settings.cost_jump_bps),
            1000 * settings.cost_settle_s,
            settings.zero_cost,
        )


@frozen
class Quarantined:
    """An offer that is kept out, why, and as it was offered; no offer where a whole backend is meant."""

    backend: BackendName
    offer_id: OfferId
    reason: Reason
    detail: str
    offer: Offer | None = None


@define
class _Book:
    """The costs of one backend; ``stale_from`` is the monotonic time from which each sold offer's cost is too old."""

    accepted: dict[OfferId, _Parts] = field(factory=dict)
    journalled: dict[OfferId, _Parts] = field(factory=dict)
    unsettled: dict[OfferId, tuple[_Parts, int]] = field(factory=dict)
    stale_from: dict[OfferId, int] = field(factory=dict)
    held: dict[OfferId, Quarantined] = field(factory=dict)


class CostBook:
    """The costs that offers were last sold on, and what is in quarantine. Running leases are never touched.

    Age is judged by the wall clock when a backend tells its offers, and counted on from there by the monotonic
    clock: a wall clock that jumps takes nothing back that was accepted, and a backend that falls silent does not
    sell on yesterday's cost for ever.
    """

    def __init__(self, clock: Clock, limits: CostLimits, ledger: Ledger) -> None:
        self._clock = clock
        self._limits = limits
        self._books: dict[BackendName, _Book] = {}
        self.ledger = ledger

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Every offer that is kept out, by backend and offer."""
        held = [one for book in list(self._books.values()) for one in book.held.values()]
        return tuple(sorted(held, key=lambda one: (one.backend, one.offer_id)))

    def sift(self, backend: BackendName, offers: Sequence[Offer]) -> tuple[Offer, ...]:
        """Return those of a backend's new offers that may be sold; the others are in quarantine from now on."""
        book, now, utc = self._book(backend), self._clock.monotonic_ms(), self._clock.utc_ms()
        kept, held, stale_from = [], {}, {}
        for offer in offers:
            verdict = self._judge(book, offer, now=now, utc=utc)
            if verdict is not None:
                held[offer.id] = Quarantined(backend, offer.id, *verdict, offer)
                continue
            kept.append(offer)
            book.accepted[offer.id] = offer.cost.parts
            stale_from[offer.id] = now + self._limits.max_age_ms - max(0, utc - offer.cost.observed_at)
        # In one step each: candidates are drawn meanwhile.
        book.stale_from = stale_from
        self._hold(backend, book, held)
        _forget(book, {offer.id for offer in offers})
        self._note_accepted(backend, book)
        return tuple(kept)

    def stale(self, offer: Offer) -> Quarantined | None:
        """Return why an offer may not be sold now though it was when its backend answered last, if so."""
        book = self._books.get(offer.backend)
        until = book.stale_from.get(offer.id) if book is not None else None
        if until is None or self._clock.monotonic_ms() < until:
            return None
        detail = f"its cost is older than {self._limits.max_age_ms // 1000} s, and its backend tells no newer one"
        return Quarantined(offer.backend, offer.id, Reason.COST_STALE, detail, offer)

    def expire(self, backend: BackendName, offers: Sequence[Offer]) -> tuple[Offer, ...]:
        """Return those of a silent backend's last offers whose costs are not too old yet; the others are held."""
        stale = {one.offer_id: one for one in map(self.stale, offers) if one is not None}
        if stale:
            book = self._book(backend)
            self._hold(backend, book, book.held | stale)
        return tuple(offer for offer in offers if offer.id not in stale)

    def hold_all(self, backend: BackendName, reason: Reason, detail: str) -> None:
        """Put a whole backend in quarantine, until it tells its offers again."""
        self._hold(backend, self._book(backend), {OfferId(""): Quarantined(backend, OfferId(""), reason, detail)})

    async def restore(self, journal: Journal) -> None:
        """Read back what was accepted before, so that a cost cannot jump across a restart.

        :raises JournalError: if an event cannot be read.
        """
        after = 0
        while events := await journal.events(lease=b"", kind="cost-accepted", after=after):
            after = events[-1].sequence
            for event in events:
                body = read_event(event)
                if isinstance(body, CostsAccepted):
                    known = {one.offer: (*astuple(one.units), one.address) for one in body.costs}
                    self._book(body.backend).accepted.update(known)
                    self._book(body.backend).journalled.update(known)

    # --- the rules --------------------------------------------------------------------------------

    def _judge(self, book: _Book, offer: Offer, *, now: int, utc: int) -> _Verdict | None:
        parts, limits = offer.cost.parts, self._limits
        age = utc - offer.cost.observed_at
        if min(parts) < 0:
            below = ", ".join(name for name, nanos in zip(_NAMES, parts, strict=True) if nanos < 0)
            return Reason.COST_NEGATIVE, f"{below} below nothing; correct the plugin or its table"
        if not any(parts) and limits.zero is ZeroCost.REFUSE:
            return Reason.COST_ZERO, 'nothing of it costs anything; state its cost, or set rate.zero_cost = "allow"'
        if age < -AHEAD_MS:
            return Reason.COST_FUTURE, f"observed {-age // 1000} s in the future; set both clocks right"
        if age >= limits.max_age_ms:
            most = limits.max_age_ms // 1000
            return Reason.COST_STALE, f"observed {age // 1000} s ago, more than rate.cost_max_age_s = {most}"
        return self._judge_change(book, offer.id, parts, now)

    def _judge_change(self, book: _Book, offer: OfferId, parts: _Parts, now: int) -> _Verdict | None:
        before = book.accepted.get(offer)
        leap = None if before in (None, parts) else self._leap(before, parts)
        if leap is None:
            book.unsettled.pop(offer, None)
            return None
        first, since = book.unsettled.get(offer, (parts, now))
        if self._leap(first, parts) is not None:
            first, since = parts, now
        if now - since >= self._limits.settle_ms and since < now:
            del book.unsettled[offer]
            return None
        book.unsettled[offer] = (first, since)
        least = self._limits.settle_ms // 1000
        return Reason.COST_JUMP, f"{leap}; sold again when it has stood for rate.cost_settle_s = {least}"

    def _leap(self, before: _Parts, now: _Parts) -> str | None:
        """Return which part rose or fell by more than may be, in words; ``None`` where none did."""
        most = _WHOLE + self._limits.jump
        for name, old, new in zip(_NAMES, before, now, strict=True):
            if max(old, new) * _WHOLE > min(old, new) * most:
                return f"{name} went from {old} to {new} nanos"
        return None

    # --- the books --------------------------------------------------------------------------------

    def _book(self, backend: BackendName) -> _Book:
        return self._books.setdefault(backend, _Book())

    def _hold(self, backend: BackendName, book: _Book, held: dict[OfferId, Quarantined]) -> None:
        before, book.held = book.held, held
        for reason in sorted({one.reason for one in (*before.values(), *held.values())}):
            was, now = _of(before.values(), reason), _of(held.values(), reason)
            if {one.offer_id for one in was} == {one.offer_id for one in now}:
                continue
            _tell(backend, reason, was, now)
            self.ledger.note(("held", backend, reason), _event(backend, reason, now))

    def _note_accepted(self, backend: BackendName, book: _Book) -> None:
        changed = [(one, parts) for one, parts in book.accepted.items() if book.journalled.get(one) != parts]
        for start in range(0, len(changed), _CHUNK):
            chunk = changed[start : start + _CHUNK]
            body = CostsAccepted(backend, tuple(_known(offer, parts) for offer, parts in chunk))
            self.ledger.note(("accepted", backend, start), body, then=partial(book.journalled.update, chunk))


def _known(offer: OfferId, parts: _Parts) -> KnownCost:
    machine, vcpu, ram, disk, gpu = map(NanosPerHour, parts[:5])
    return KnownCost(offer, UnitNanos(machine, vcpu, ram, disk, gpu, Nanos(parts[5])), parts[6])


def _forget(book: _Book, offered: set[OfferId]) -> None:
    """Forget offers that are gone, once they are many: a backend may name its offers as it likes."""
    if len(book.accepted) > 2 * len(offered) + 1000:
        for known in (book.accepted, book.journalled, book.unsettled):
            for gone in known.keys() - offered:
                del known[gone]


def _of(held: Iterable[Quarantined], reason: Reason) -> list[Quarantined]:
    return [one for one in held if one.reason is reason]


def _event(backend: BackendName, reason: Reason, held: Sequence[Quarantined]) -> CostsQuarantined | CostsReleased:
    if not held:
        return CostsReleased(backend, reason)
    named = (
        HeldOffer(one.offer_id, one.detail, one.offer.cost.observed_at, one.offer.cost.source)
        if one.offer is not None
        else HeldOffer(one.offer_id, one.detail)
        for one in held[:MAX_NAMED]
    )
    return CostsQuarantined(backend, reason, len(held), tuple(named))


def _tell(backend: BackendName, reason: Reason, was: Sequence[Quarantined], now: Sequence[Quarantined]) -> None:
    if not now:
        logger.info("backend %s: no offer is in quarantine for %s any more", backend, reason)
        return
    new = next((one for one in now if one.offer_id not in {known.offer_id for known in was}), now[0])
    what = f"offer {new.offer_id}" if new.offer_id else "all offers"
    logger.warning("backend %s: %d in quarantine: %s: %s: %s", backend, len(now), reason, what, new.detail)
