"""The ledger: double entry, whole micros, each entry booked once by (grant, kind, sequence).

Accounts, positive being what the account of that name has received:

- ``held/<account>`` and ``holds``: what is reserved for open grants, and its counterpart;
- ``owed-by/<account>``: what a requester owes; ``owed-to/<provider>``: what a provider is owed, negative;
- ``fees``: what the market has taken, negative.
"""

import sqlite3
from collections.abc import Sequence

from attrs import frozen

from compute_bridge.model.ids import GrantId, ProviderId, PublicKey
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.ports.errors import SettlementError

RESERVE = "reserve"
RELEASE = "release"
CHARGE = "charge"

HOLDS = "holds"
FEES = "fees"


def held(account: PublicKey) -> str:
    """Return the ledger account of what is reserved for a requester's open grants."""
    return f"held/{account.hex()}"


def owed_by(account: PublicKey) -> str:
    """Return the ledger account of what a requester owes."""
    return f"owed-by/{account.hex()}"


def owed_to(provider: ProviderId) -> str:
    """Return the ledger account of what a provider is owed."""
    return f"owed-to/{provider.hex()}"


@frozen
class Posting:
    """One side of an entry."""

    account: str
    amount: int


def post(db: sqlite3.Connection, grant: GrantId, kind: str, sequence: int, postings: Sequence[Posting]) -> bool:
    """Book an entry and return True, or False if it is booked already.

    :raises SettlementError: if it does not sum to zero, or is booked with other amounts.
    """
    amounts = {posting.account: posting.amount for posting in postings}
    if sum(amounts.values()) != 0 or len(amounts) != len(postings):
        raise SettlementError(f"ledger: {kind} of grant {grant.hex()[:12]} does not sum to zero; nothing was booked")
    row = db.execute(
        "SELECT id FROM entry WHERE grant_id = ? AND kind = ? AND sequence = ?", (grant, kind, sequence)
    ).fetchone()
    if row is not None:
        _require_same(db, row[0], amounts, f"{kind} {sequence} of grant {grant.hex()[:12]}")
        return False
    entry = db.execute(
        "INSERT INTO entry (grant_id, kind, sequence) VALUES (?, ?, ?)", (grant, kind, sequence)
    ).lastrowid
    for account, amount in amounts.items():
        db.execute("INSERT INTO posting VALUES (?, ?, ?)", (entry, account, amount))
        db.execute(
            "INSERT INTO balance VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET amount = amount + excluded.amount",
            (account, amount),
        )
    return True


def _require_same(db: sqlite3.Connection, entry: int, amounts: dict[str, int], what: str) -> None:
    booked = dict(db.execute("SELECT account, amount FROM posting WHERE entry = ?", (entry,)))
    if booked != amounts:
        raise SettlementError(f"ledger: {what} is booked with other amounts; it stands as it was booked first")


# --- the three kinds of entry ---------------------------------------------------------------------


def reserve(db: sqlite3.Connection, grant: GrantId, sequence: int, account: PublicKey, amount: int) -> bool:
    """Set ``amount`` of the account's credit aside for a grant; ``sequence`` tells an extension from the award."""
    return post(db, grant, RESERVE, sequence, (Posting(held(account), amount), Posting(HOLDS, -amount)))


def reserved(db: sqlite3.Connection, grant: GrantId, account: PublicKey) -> int:
    """Return what is set aside for one grant now."""
    (total,) = db.execute(
        "SELECT coalesce(sum(amount), 0) FROM posting JOIN entry ON entry.id = posting.entry"
        " WHERE grant_id = ? AND account = ?",
        (grant, held(account)),
    ).fetchone()
    return int(total)


def settle(db: sqlite3.Connection, statement: SettlementStatement, account: PublicKey) -> None:
    """Book what a statement says, and give back all that was set aside for its grant."""
    key = statement.key
    left = reserved(db, key.grant_id, account)
    if left:
        post(db, key.grant_id, RELEASE, key.sequence, (Posting(held(account), -left), Posting(HOLDS, left)))
    fees = statement.requester_fee + statement.provider_fee
    if statement.charge or fees:
        postings = (
            Posting(owed_by(account), statement.charge + statement.requester_fee),
            Posting(owed_to(statement.provider_id), statement.provider_fee - statement.charge),
            Posting(FEES, -fees),
        )
        post(db, key.grant_id, CHARGE, key.sequence, postings)


# --- what stands in the books ---------------------------------------------------------------------


def balance(db: sqlite3.Connection, account: str) -> int:
    """Return the sum of an account's postings."""
    row = db.execute("SELECT amount FROM balance WHERE account = ?", (account,)).fetchone()
    return int(row[0]) if row else 0


def free_credit(db: sqlite3.Connection, account: PublicKey, limit: int) -> int:
    """Return how much of the credit ``limit`` is neither owed nor reserved; negative after a lowered limit."""
    return limit - balance(db, owed_by(account)) - balance(db, held(account))


@frozen
class TrialBalance:
    """Every account's balance, ascending by name. ``total`` is 0 or the books are damaged."""

    balances: tuple[tuple[str, int], ...]
    entries: int

    @property
    def total(self) -> int:
        """The sum of all balances."""
        return sum(amount for _, amount in self.balances)


def trial_balance(db: sqlite3.Connection) -> TrialBalance:
    """Return the balances, added up anew from every posting.

    :raises SettlementError: if an entry does not sum to zero, or a kept balance is not the sum of its postings.
    """
    uneven = db.execute("SELECT entry FROM posting GROUP BY entry HAVING sum(amount) <> 0 LIMIT 1").fetchone()
    if uneven is not None:
        raise SettlementError(f"ledger: entry {uneven[0]} does not sum to zero; the file is damaged, restore a copy")
    sums = db.execute("SELECT account, sum(amount) FROM posting GROUP BY account ORDER BY account").fetchall()
    kept = db.execute("SELECT account, amount FROM balance ORDER BY account").fetchall()
    if sums != kept:
        raise SettlementError("ledger: a balance is not the sum of its postings; the file is damaged, restore a copy")
    (entries,) = db.execute("SELECT count(*) FROM entry").fetchone()
    return TrialBalance(tuple((str(account), int(amount)) for account, amount in sums), int(entries))
