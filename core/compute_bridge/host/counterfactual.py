"""What was not sold and why: the ledger of refused rows, quarantined costs and refused grants, from the journal."""

from collections import deque
from typing import Any

from attrs import asdict, frozen

from compute_bridge.host.journal_events import (
    CostsQuarantined,
    CostsReleased,
    RateRefused,
    RateStands,
    events_of,
    read_event,
)
from compute_bridge.host.lease_state import Ended
from compute_bridge.host.rates import RateBook, RateRefusal
from compute_bridge.model.rates import RateRow, RateTable
from compute_bridge.model.reason import Reason
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import Journal, JournalEvent

MOST_LINES = 10_000

KINDS = ("rate-refused", "rate-stands", "cost-quarantined", "cost-released")
FOR_COST = frozenset(
    {
        Reason.COST_FLOOR,
        Reason.ABOVE_CLEARED_RATE,
        Reason.COST_STALE,
        Reason.COST_FUTURE,
        Reason.COST_ZERO,
        Reason.COST_NEGATIVE,
        Reason.COST_JUMP,
    }
)
"""The reasons for which a grant is not served because of what it costs."""


@frozen
class LedgerLine:
    """One thing that was not sold, or is again: when (UTC ms), which event, the reason code, where, and in words.

    ``short_micros`` is by how much an hour a rate fell short of its cost. ``times`` counts the changes that the
    line stands for; ``grant`` is set where a grant was refused.
    """

    at_ms: int
    event: str
    reason: str
    where: str
    text: str
    short_micros: int = 0
    times: int = 1
    grant: str = ""


async def read_ledger(journal: Journal, *, since_ms: int = 0, limit: int = 200) -> tuple[LedgerLine, ...]:
    """Return the latest ``limit`` lines, oldest first, none recorded before ``since_ms`` by the bridge's own clock.

    An event that cannot be read is a line that says so.
    """
    after = await _before(journal, since_ms) if since_ms else 0
    found: list[tuple[int, LedgerLine]] = []
    for kind in KINDS:
        latest: deque[tuple[int, LedgerLine]] = deque(maxlen=limit)
        async for event in events_of(journal, kind=kind, after=after):
            latest.append((event.sequence, _line(event)))
        found += latest
    refused: deque[tuple[int, LedgerLine]] = deque(maxlen=limit)
    async for event in events_of(journal, kind="ended", after=after):
        if (line := _refused_grant(event)) is not None:
            refused.append((event.sequence, line))
    return tuple(line for _, line in sorted([*found, *refused], key=lambda one: one[0])[-limit:])


def rates_told(rates: RateBook) -> dict[str, Any]:
    """Return the table in force, what the policy asked for, and what of it was refused, for people and as JSON."""
    now = rates.rates
    return {
        "in_force": {**_table(now.table), "fingerprint": now.fingerprint.hex()},
        "asked": _table(rates.asked),
        "refused": [_refusal(one) for one in now.refusals],
    }


def _table(table: RateTable) -> dict[str, Any]:
    return {"currency": table.currency, "rows": [_row(row) for row in table.rows]}


def _row(row: RateRow) -> dict[str, Any]:
    return {"region": row.region, "posture": row.posture.value, "band": row.band, "units": asdict(row.units)}


def _refusal(refusal: RateRefusal) -> dict[str, Any]:
    return {
        **_row(refusal.row),
        "reason": refusal.reason.value,
        "detail": refusal.detail,
        "backend": refusal.backend,
        "offer": refusal.offer,
        "short_micros": refusal.short_micros,
        "allowed": refusal.allowed,
    }


# --- lines ----------------------------------------------------------------------------------------


def _line(event: JournalEvent) -> LedgerLine:
    try:
        body = read_event(event)
    except JournalError as error:
        return LedgerLine(event.at_ms, event.kind, "", "", str(error))
    match body:
        case RateRefused():
            what = "published below cost, as allowed" if body.allowed else "not published"
            text, reason = f"{what}: {body.detail}", body.reason.value
            return LedgerLine(event.at_ms, event.kind, reason, body.where, text, body.short_micros, body.times)
        case RateStands():
            what = "published again" if body.published else "no longer asked for"
            return LedgerLine(event.at_ms, event.kind, "", body.where, what, times=body.times)
        case CostsQuarantined():
            first = body.offers[0] if body.offers else None
            text = f"{body.count} offers" + (f", such as {first.offer or 'all'}: {first.detail}" if first else "")
            return LedgerLine(event.at_ms, event.kind, body.reason.value, body.backend, text, times=body.times)
        case CostsReleased():
            text, reason = "no offer is kept out for this any more", body.reason.value
            return LedgerLine(event.at_ms, event.kind, reason, body.backend, text, times=body.times)
        case _:
            return LedgerLine(event.at_ms, event.kind, "", "", "of a kind that is not known here")


def _refused_grant(event: JournalEvent) -> LedgerLine | None:
    # Decoding every lease's end would take longer than looking for the few words that can matter.
    if not any(reason.value.encode() in event.body for reason in FOR_COST):
        return None
    try:
        body = read_event(event)
    except JournalError:
        return None
    if not isinstance(body, Ended) or body.reason not in FOR_COST:
        return None
    grant = event.lease.hex()
    text = f"{body.outcome}: {body.detail}"
    return LedgerLine(event.at_ms, "grant-refused", body.reason.value, f"grant {grant[:12]}", text, grant=grant)


# --- reading --------------------------------------------------------------------------------------


async def _before(journal: Journal, since_ms: int) -> int:
    """Return the last sequence before ``since_ms``, found by halves: events stand in the order of their times."""
    low, (high, _) = 0, await journal.head()
    while low < high:
        middle = (low + high) // 2
        page = await journal.events(after=middle, limit=1)
        if page and page[0].at_ms < since_ms:
            low = middle + 1
        else:
            high = middle
    return low
