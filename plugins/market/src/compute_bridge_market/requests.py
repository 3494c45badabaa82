"""The book's rows of requests: who asked what, what still waits, and who must not be asked again."""

import sqlite3
from functools import lru_cache

from attrs import frozen

from compute_bridge.api import OpenRequest
from compute_bridge.model.ids import GrantId, ProviderId, PublicKey, RequestId
from compute_bridge.model.request import ComputeRequest
from compute_bridge.model.units import Tick
from compute_bridge.wire import codec
from compute_bridge.wire.records import kind_of

MAX_EXCLUDED = 64
"""After this many providers a request is not cleared again: a round's inputs name no more."""


@frozen
class Asked:
    """An admitted request, the account that pays for it, and its latest grant if it ever had one."""

    id: RequestId
    request: ComputeRequest
    account: PublicKey
    latest_grant: GrantId | None


def book_request(
    db: sqlite3.Connection, request_id: RequestId, request: ComputeRequest, account: PublicKey, admitted_at: Tick
) -> None:
    """Remember an admitted request as open."""
    db.execute(
        "INSERT OR IGNORE INTO request (id, account, raw, admitted_at, expires_at, is_open) VALUES (?, ?, ?, ?, ?, 1)",
        (request_id, account, codec.encode(request), admitted_at, request.expires_at),
    )


def find_request(db: sqlite3.Connection, request_id: RequestId) -> Asked | None:
    """Return an admitted request, open or not."""
    row = db.execute("SELECT raw, account, latest_grant FROM request WHERE id = ?", (request_id,)).fetchone()
    return Asked(request_id, _decode(row[0]), PublicKey(row[1]), row[2] and GrantId(row[2])) if row else None


def open_requests(db: sqlite3.Connection, *, closed_at: Tick) -> list[tuple[OpenRequest, PublicKey]]:
    """Return the requests that were admitted by tick ``closed_at`` and wait, with their accounts."""
    rows = db.execute(
        "SELECT id, raw, account FROM request WHERE is_open = 1 AND admitted_at <= ? ORDER BY admitted_at, id",
        (closed_at,),
    ).fetchall()
    excluded = _exclusions(db)
    return [
        (OpenRequest(RequestId(id_), _decode(raw), frozenset(excluded.get(id_, ()))), PublicKey(account))
        for id_, raw, account in rows
    ]


def _exclusions(db: sqlite3.Connection) -> dict[bytes, set[ProviderId]]:
    found: dict[bytes, set[ProviderId]] = {}
    for request_id, provider in db.execute(
        "SELECT request, provider FROM exclusion JOIN request ON request.id = exclusion.request WHERE is_open = 1"
    ):
        found.setdefault(request_id, set()).add(ProviderId(provider))
    return found


def count_open(db: sqlite3.Connection, account: PublicKey) -> int:
    """Return how many requests of an account wait."""
    (count,) = db.execute("SELECT count(*) FROM request WHERE is_open = 1 AND account = ?", (account,)).fetchone()
    return int(count)


def close_request(db: sqlite3.Connection, request_id: RequestId, grant: GrantId) -> None:
    """Take an awarded request out of the rounds."""
    db.execute("UPDATE request SET is_open = 0, latest_grant = ? WHERE id = ?", (grant, request_id))


def reopen_request(db: sqlite3.Connection, request_id: RequestId, grant: GrantId, provider: ProviderId) -> bool:
    """Put a request whose ``grant`` came to nothing back into the rounds, without that provider.

    A later grant, or too many refusals, keep it out. Return whether it is back.
    """
    db.execute("INSERT OR IGNORE INTO exclusion VALUES (?, ?)", (request_id, provider))
    (count,) = db.execute("SELECT count(*) FROM exclusion WHERE request = ?", (request_id,)).fetchone()
    reopened = db.execute(
        "UPDATE request SET is_open = 1 WHERE id = ? AND latest_grant = ? AND ? <= ?",
        (request_id, grant, count, MAX_EXCLUDED),
    )
    return reopened.rowcount == 1


def expire_requests(db: sqlite3.Connection, now: Tick) -> int:
    """Take out of the rounds what asked to be cleared by an earlier tick; return how many."""
    return db.execute("UPDATE request SET is_open = 0 WHERE is_open = 1 AND expires_at < ?", (now,)).rowcount


@lru_cache(maxsize=1024)
def _decode(raw: bytes) -> ComputeRequest:
    return codec.decode(raw, ComputeRequest, max_bytes=kind_of(ComputeRequest).max_bytes)
