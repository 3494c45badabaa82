"""The book's rows of awards: what every provider has open, and how each grant stands."""

import sqlite3

from attrs import fields, frozen

from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import BandName, GrantId, ProviderId, PublicKey
from compute_bridge.model.units import BasisPoints, Milliseconds, Tick
from compute_bridge.wire import codec
from compute_bridge.wire.records import kind_of

NO_LOG = bytes(32)
"""Stands for the hash of the log of a grant that ended without one."""

# In the order of the fields of Awarded.
_COLUMNS = (
    "raw, account, requester_fee, provider_fee, card_epoch, duration_ms, longest_ms, silent_after, control, log_hash"
)


@frozen
class Awarded:
    """A grant and how it stands.

    ``duration_ms`` is the duration in force, extensions included, and ``longest_ms`` how far the card lets
    it be extended. Once tick ``silent_after`` has passed without a log it counts as abandoned. ``control``
    is the last lease control's sequence. ``log_hash`` is None while the grant is open.
    """

    grant: ComputeGrant
    account: PublicKey
    requester_fee: BasisPoints
    provider_fee: BasisPoints
    card_epoch: int
    duration_ms: Milliseconds
    longest_ms: Milliseconds
    silent_after: Tick
    control: int = 0
    log_hash: bytes | None = None

    @property
    def is_open(self) -> bool:
        """Whether its provider still owes the log."""
        return self.log_hash is None


@frozen
class Load:
    """How many grants of one provider are open, in all and by band."""

    open: int
    bands: dict[BandName, int]


def book_award(db: sqlite3.Connection, award: Awarded) -> bool:
    """Remember a grant as open; return False if it is known."""
    grant = award.grant
    booked = db.execute(
        "INSERT OR IGNORE INTO award (id, request, provider, band, raw, account, requester_fee, provider_fee,"
        " card_epoch, duration_ms, longest_ms, silent_after, control) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (
            grant.id,
            grant.request_id,
            grant.provider_id,
            grant.band,
            codec.encode(grant),
            award.account,
            award.requester_fee,
            award.provider_fee,
            award.card_epoch,
            award.duration_ms,
            award.longest_ms,
            award.silent_after,
        ),
    )
    return booked.rowcount == 1


def find_award(db: sqlite3.Connection, grant: GrantId) -> Awarded | None:
    """Return a grant and how it stands."""
    row = db.execute(f"SELECT {_COLUMNS} FROM award WHERE id = ?", (grant,)).fetchone()  # noqa: S608 - our own words
    if row is None:
        return None
    names = (field.name for field in fields(Awarded))
    raw, *rest = row
    value = codec.decode(raw, ComputeGrant, max_bytes=kind_of(ComputeGrant).max_bytes)
    return Awarded(**dict(zip(names, (value, *rest), strict=True)))


def loads(db: sqlite3.Connection) -> dict[ProviderId, Load]:
    """Return what each provider has open."""
    found: dict[ProviderId, Load] = {}
    rows = db.execute("SELECT provider, band, count(*) FROM award WHERE log_hash IS NULL GROUP BY provider, band")
    for provider, band, count in rows:
        before = found.get(provider, Load(0, {}))
        found[ProviderId(provider)] = Load(before.open + count, before.bands | {BandName(band): count})
    return found


def silent_awards(db: sqlite3.Connection, now: Tick) -> list[GrantId]:
    """Return the open grants whose log should have come before ``now``."""
    rows = db.execute("SELECT id FROM award WHERE log_hash IS NULL AND silent_after < ? ORDER BY id", (now,))
    return [GrantId(row[0]) for row in rows]


def end_award(db: sqlite3.Connection, grant: GrantId, log_hash: bytes) -> bool:
    """Close an open grant; return False if it is closed."""
    ended = db.execute("UPDATE award SET log_hash = ? WHERE id = ? AND log_hash IS NULL", (log_hash, grant))
    return ended.rowcount == 1


def change_award(
    db: sqlite3.Connection, grant: GrantId, *, control: int, duration_ms: Milliseconds, silent_after: Tick
) -> None:
    """Remember the last lease control of a grant and what it changed."""
    db.execute(
        "UPDATE award SET control = ?, duration_ms = ?, silent_after = ? WHERE id = ?",
        (control, duration_ms, silent_after, grant),
    )
