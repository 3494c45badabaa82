"""The invariants of spec and money, one pure function each: from the truth to what is wrong with it, in words."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from attrs import frozen

from crashkit.truth import Award, Log, Machine, Truth

HOUR_MS = 3_600_000
SERVED = "served"
SETTLED = "settled"
DEADLINE = "deadline"
FOREVER = 2**63


@frozen
class Violation:
    """One broken invariant; ``what`` names the grant or the machine."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


Checker = Callable[[Truth], Iterator[str]]


def check(truth: Truth) -> tuple[Violation, ...]:
    """Return every violation that the truth shows; none is what must be."""
    return tuple(Violation(name, what) for name, checker in INVARIANTS.items() for what in checker(truth))


# --- machines -------------------------------------------------------------------------------------


def no_orphan(truth: Truth) -> Iterator[str]:
    """Every machine has ended."""
    for one in truth.machines:
        if one.ended_ms is None:
            yield f"machine {one.id} of grant record {short(one.grant_hash)} still runs"


def one_machine_a_token(truth: Truth) -> Iterator[str]:
    """A token makes one machine, ever."""
    for token, count in Counter(one.token for one in truth.machines).items():
        if count > 1:
            ids = ", ".join(one.id for one in truth.machines if one.token == token)
            yield f"token {short(token)} made {count} machines: {ids}"


def no_double(truth: Truth) -> Iterator[str]:
    """Never do two machines live at one time for one grant."""
    for award in truth.awards:
        lives = truth.machines_of(award)
        for earlier, later in pairwise(lives):
            if later.started_ms < _end(earlier):
                yield f"grant {short(award.grant)}: machines {earlier.id} and {later.id} lived at one time"


def life_within_grace(truth: Truth) -> Iterator[str]:
    """What all machines of a grant lived beyond what is billed for it stays within the grace that the truth allows."""
    billed = {log.grant: log.billable_ms for log in truth.logs}
    for award in truth.awards:
        lived = sum(one.ended_ms - one.started_ms for one in truth.machines_of(award) if one.ended_ms is not None)
        idle = lived - billed.get(award.grant, 0)
        if idle > truth.grace_ms:
            yield f"grant {short(award.grant)}: its machines lived {idle} ms for which nothing is billed"


# --- leases and logs ------------------------------------------------------------------------------


def nothing_without_grant(truth: Truth) -> Iterator[str]:
    """Whatever was made, logged, claimed or journalled is of a grant that the market awarded."""
    awarded = {award.grant for award in truth.awards}
    hashes = {award.grant_hash for award in truth.awards}
    yield from (
        f"machine {one.id}: no grant has the record {short(one.grant_hash)}"
        for one in truth.machines
        if one.grant_hash not in hashes
    )
    said = [("log", one.grant) for one in truth.logs] + [("claim", one.grant) for one in truth.claims]
    said += [("lease", grant) for grant in truth.leases] + [("receipt", one.grant) for one in truth.replies]
    for what, grant in said:
        if grant not in awarded:
            yield f"{what} for {short(grant)}, which the market never granted"


def every_lease_settled(truth: Truth) -> Iterator[str]:
    """Every grant became a lease, and every lease is settled."""
    for award in truth.awards:
        if award.grant not in truth.leases:
            yield f"grant {short(award.grant)} stands in no journal"
    for grant, state in truth.leases.items():
        if state != SETTLED:
            yield f"lease {short(grant)} stands at {state}"


def one_log(truth: Truth) -> Iterator[str]:
    """Every grant has one log."""
    counts = Counter(one.grant for one in truth.logs)
    for award in truth.awards:
        if counts[award.grant] != 1:
            yield f"grant {short(award.grant)} has {counts[award.grant]} logs"


def same_receipt(truth: Truth) -> Iterator[str]:
    """However often a receipt was sent, its bytes are the same."""
    sealed: dict[str, set[bytes]] = {}
    for one in truth.replies:
        sealed.setdefault(one.grant, set()).add(one.sealed)
    for grant, versions in sealed.items():
        if len(versions) > 1:
            yield f"grant {short(grant)}: {len(versions)} different receipts were sent"


def billed_within_life(truth: Truth) -> Iterator[str]:
    """What is billed was granted, and the machine really ran for it; nothing is billed that was not served."""
    awards = {award.grant: award for award in truth.awards}
    for log in truth.logs:
        award = awards.get(log.grant)
        if award is not None:
            yield from (f"grant {short(log.grant)}: {what}" for what in _overbilled(truth, award, log))


def full_term(truth: Truth) -> Iterator[str]:
    """A lease that ended at its deadline ran for all that was granted, whatever any clock showed meanwhile.

    An extension that nobody could tell the backend in time may be cut short by the grace, the grant itself never.
    """
    awards = {award.grant: award for award in truth.awards}
    for log in truth.logs:
        award = awards.get(log.grant)
        if award is None or log.reason != DEADLINE:
            continue
        terms = (*award.shorter_ms, award.duration_ms)
        allowed = truth.grace_ms if log.billable_ms >= min(terms) else truth.tolerance_ms
        if min(abs(term - log.billable_ms) for term in terms) > allowed:
            yield f"grant {short(log.grant)}: its deadline came after {log.billable_ms} ms, the terms were {terms} ms"


def _overbilled(truth: Truth, award: Award, log: Log) -> Iterator[str]:
    if log.billable_ms > award.duration_ms:
        yield f"billed {log.billable_ms} ms of {award.duration_ms} ms granted"
    lives = [_end(one) - one.started_ms for one in truth.machines_of(award)]
    if log.billable_ms > max(lives, default=0) + truth.tolerance_ms:
        yield f"billed {log.billable_ms} ms, but its machines lived {lives} ms"
    if log.outcome != SERVED and log.billable_ms:
        yield f"billed {log.billable_ms} ms though it was {log.outcome}"
    if log.outcome == SERVED and not lives:
        yield "is said to be served, and had no machine"


# --- money ----------------------------------------------------------------------------------------


def one_statement(truth: Truth) -> Iterator[str]:
    """Every grant has one statement that counts."""
    for award in truth.awards:
        count = len(truth.counting(award.grant))
        if count != 1:
            yield f"grant {short(award.grant)} has {count} statements of sequence 0"


def one_claim(truth: Truth) -> Iterator[str]:
    """A grant is claimed once at most, and for what the market states; an abandoned one cannot be agreed on."""
    for award in truth.awards:
        amounts = [one.amount for one in truth.claims if one.grant == award.grant]
        if len(amounts) > 1:
            yield f"grant {short(award.grant)} has {len(amounts)} claims"
        stated = [one for one in truth.counting(award.grant) if not one.is_abandoned]
        if stated and sum(amounts) != stated[0].charge:
            yield f"grant {short(award.grant)}: claimed {amounts}, and the market states {stated[0].charge}"


def exact_charge(truth: Truth) -> Iterator[str]:
    """A charge is the rate times what the log bills, rounded up once."""
    awards = {award.grant: award for award in truth.awards}
    billed = {log.hash: log.billable_ms for log in truth.logs}
    for one in truth.statements:
        award = awards.get(one.grant)
        if award is None or one.sequence:
            continue
        if one.billable_ms != billed.get(one.log_hash, 0):
            yield f"grant {short(one.grant)}: stated for {one.billable_ms} ms, its log bills otherwise"
        if one.charge != -(-award.rate * one.billable_ms // HOUR_MS):
            yield f"grant {short(one.grant)}: charge {one.charge} is not {award.rate}/h for {one.billable_ms} ms"


def balanced_ledger(truth: Truth) -> Iterator[str]:
    """The market's books sum to zero, hold nothing, and owe each provider what the statements say."""
    total = sum(truth.balances.values())
    if total:
        yield f"the ledger's accounts sum to {total}, not 0"
    for account, amount in truth.balances.items():
        if amount and (account == "holds" or account.startswith("held/")):
            yield f"account {account} still holds {amount}"
    for provider in truth.books:
        owed = -truth.balances.get(f"owed-to/{provider}", 0)
        if owed != _earned(truth, provider):
            yield f"provider {short(provider)} is owed {owed}, the statements say {_earned(truth, provider)}"


def agreeing_book(truth: Truth) -> Iterator[str]:
    """What a bridge has in its own book is what the market's statements owe it."""
    for provider, booked in truth.books.items():
        earned = _earned(truth, provider)
        if booked != earned:
            yield f"provider {short(provider)} has {booked} in its book, the statements say {earned}"


def _earned(truth: Truth, provider: str) -> int:
    own = {award.grant for award in truth.awards if award.provider == provider}
    return sum(one.charge - one.provider_fee for one in truth.statements if one.grant in own and not one.sequence)


def short(hex_id: str) -> str:
    """Return how messages call what this id names."""
    return hex_id[:12]


def _end(machine: Machine) -> int:
    return FOREVER if machine.ended_ms is None else machine.ended_ms


INVARIANTS: dict[str, Checker] = {
    "no orphan": no_orphan,
    "one machine a token": one_machine_a_token,
    "no double": no_double,
    "life within grace": life_within_grace,
    "nothing without a grant": nothing_without_grant,
    "every lease settled": every_lease_settled,
    "one log": one_log,
    "same receipt": same_receipt,
    "billed within life": billed_within_life,
    "full term": full_term,
    "one statement": one_statement,
    "one claim": one_claim,
    "exact charge": exact_charge,
    "balanced ledger": balanced_ledger,
    "agreeing book": agreeing_book,
}
"""Every checker by the name of its invariant."""
