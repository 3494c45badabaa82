"""Every invariant's checker passes a good truth and turns red, alone, on the one fault planted for it."""

import pytest
from attrs import evolve

from crashkit.invariants import INVARIANTS, check
from crashkit.truth import NO_LOG, Award, Claimed, Log, Machine, Reply, Statement, Truth

HOUR = 3_600_000
PROVIDER = "ab" * 32
SERVED, REFUSED = "01" * 32, "02" * 32
LOGGED, REFUSAL = "11" * 32, "12" * 32
FIRST, SECOND = "21" * 32, "22" * 32

GOOD = Truth(
    machines=(
        Machine("m-1", "aa" * 32, FIRST, started_ms=1100, ended_ms=1500),
        Machine("m-2", "bb" * 32, FIRST, started_ms=2000, ended_ms=2000 + HOUR),
    ),
    awards=(Award(SERVED, FIRST, PROVIDER, 7_001, HOUR), Award(REFUSED, SECOND, PROVIDER, 9_000, HOUR)),
    logs=(Log(SERVED, LOGGED, "served", 2000, HOUR, "deadline"), Log(REFUSED, REFUSAL, "refused", 0, 0)),
    statements=(Statement(SERVED, 0, LOGGED, HOUR, 7_001, 35), Statement(REFUSED, 0, REFUSAL, 0, 0)),
    claims=(Claimed(SERVED, 7_001),),
    replies=(Reply(SERVED, b"sealed"), Reply(SERVED, b"sealed")),
    balances={
        "owed-by/alice": 7_071,
        f"owed-to/{PROVIDER}": -6_966,
        "fees": -105,
        "held/alice": 0,
        "holds": 0,
    },
    books={PROVIDER: 6_966},
    leases={SERVED: "settled", REFUSED: "settled"},
    grace_ms=1000,
)
FIRST_MACHINE, MACHINE = GOOD.machines
LOG, REFUSAL_LOG = GOOD.logs
STATEMENT, NOTHING = GOOD.statements

PLANTED = {
    "no orphan": evolve(GOOD, machines=(FIRST_MACHINE, evolve(MACHINE, ended_ms=None))),
    "one machine a token": evolve(GOOD, machines=(evolve(FIRST_MACHINE, token=MACHINE.token), MACHINE)),
    "no double": evolve(GOOD, machines=(evolve(FIRST_MACHINE, ended_ms=2001), MACHINE)),
    "life within grace": evolve(GOOD, machines=(evolve(FIRST_MACHINE, started_ms=499), MACHINE)),
    "nothing without a grant": evolve(GOOD, machines=(*GOOD.machines, Machine("m-3", "cc" * 32, "33" * 32, 1, 2))),
    "every lease settled": evolve(GOOD, leases={SERVED: "logged", REFUSED: "settled"}),
    "one log": evolve(GOOD, logs=(LOG, REFUSAL_LOG, REFUSAL_LOG)),
    "same receipt": evolve(GOOD, replies=(*GOOD.replies, Reply(SERVED, b"sealed again"))),
    "billed within life": evolve(GOOD, machines=(FIRST_MACHINE, evolve(MACHINE, ended_ms=2000 + HOUR - 1))),
    "full term": evolve(GOOD, awards=(evolve(GOOD.awards[0], duration_ms=HOUR + 1), GOOD.awards[1])),
    "one statement": evolve(GOOD, statements=(STATEMENT, NOTHING, NOTHING)),
    "one claim": evolve(GOOD, claims=(Claimed(SERVED, 7_000),)),
    "exact charge": evolve(GOOD, awards=(evolve(GOOD.awards[0], rate=7_000), GOOD.awards[1])),
    "balanced ledger": evolve(GOOD, balances={**GOOD.balances, "fees": -104}),
    "agreeing book": evolve(GOOD, books={PROVIDER: 6_965}),
}
"""By invariant, the good truth with one thing changed."""

MORE = {
    "a machine that outlives its end": (
        "life within grace",
        evolve(GOOD, machines=(FIRST_MACHINE, evolve(MACHINE, ended_ms=2000 + HOUR + 601))),
    ),
    "a grant that became no lease": ("every lease settled", evolve(GOOD, leases={SERVED: "settled"})),
    "a grant without a log": (
        "one log",
        evolve(GOOD, logs=(LOG,), statements=(STATEMENT, evolve(NOTHING, log_hash=NO_LOG))),
    ),
    "a grant without a statement": ("one statement", evolve(GOOD, statements=(STATEMENT,))),
    "a claim made twice": ("one claim", evolve(GOOD, claims=(Claimed(SERVED, 7_001), Claimed(SERVED, 0)))),
    "a claim never made": ("one claim", evolve(GOOD, claims=())),
    "a claim for no grant": ("nothing without a grant", evolve(GOOD, claims=(*GOOD.claims, Claimed("77" * 32, 1)))),
    "a receipt for no grant": ("nothing without a grant", evolve(GOOD, replies=(Reply("77" * 32, b"sealed"),))),
    "a lease of no grant": ("nothing without a grant", evolve(GOOD, leases={**GOOD.leases, "77" * 32: "settled"})),
    "a served lease without a machine": (
        "billed within life",
        evolve(GOOD, logs=(LOG, evolve(REFUSAL_LOG, outcome="served"))),
    ),
    "more billed than granted": (
        "billed within life",
        evolve(
            GOOD,
            awards=(evolve(GOOD.awards[0], duration_ms=HOUR - 1), GOOD.awards[1]),
            logs=(evolve(LOG, reason="released"), REFUSAL_LOG),
        ),
    ),
    "an extension that was cut short": (
        "full term",
        evolve(
            GOOD, awards=(evolve(GOOD.awards[0], duration_ms=HOUR + 1001, shorter_ms=(HOUR - 1001,)), GOOD.awards[1])
        ),
    ),
    "a statement for other time than its log's": (
        "exact charge",
        evolve(GOOD, logs=(evolve(LOG, billable_ms=HOUR - 1, reason="released"), REFUSAL_LOG)),
    ),
    "an account that still holds": (
        "balanced ledger",
        evolve(GOOD, balances={**GOOD.balances, "held/alice": 5, "holds": -5}),
    ),
    "a provider that is owed otherwise": (
        "balanced ledger",
        evolve(GOOD, balances={**GOOD.balances, f"owed-to/{PROVIDER}": -6_965, "fees": -106}),
    ),
}
"""Further faults of the same invariants: the invariant that must turn red, and the planted truth."""


def broken(truth: Truth) -> set[str]:
    return {violation.invariant for violation in check(truth)}


def test_a_good_truth_breaks_nothing() -> None:
    assert () == check(GOOD)


def test_every_invariant_has_a_planted_violation() -> None:
    assert set(PLANTED) == set(INVARIANTS)


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_a_planted_violation_turns_its_own_checker_red_and_no_other(invariant: str) -> None:
    assert {invariant} == broken(PLANTED[invariant])


@pytest.mark.parametrize("fault", MORE)
def test_a_further_fault_turns_red_what_it_should(fault: str) -> None:
    invariant, truth = MORE[fault]

    assert {invariant} == broken(truth)


def test_a_violation_names_the_grant_and_the_machine() -> None:
    (violation,) = check(PLANTED["no double"])

    assert "no double: grant 010101010101: machines m-1 and m-2 lived at one time" == str(violation)


def test_a_late_log_of_a_grant_that_the_market_gave_up_is_no_violation() -> None:
    given_up = Statement(SERVED, 0, NO_LOG, 0, 0)
    again = Statement(SERVED, 1, LOGGED, 0, 0)
    nothing_owed = dict.fromkeys(GOOD.balances, 0)

    assert () == check(evolve(GOOD, statements=(given_up, again, NOTHING), balances=nothing_owed, books={PROVIDER: 0}))


def test_a_lease_that_ended_before_its_extension_was_known_is_no_violation() -> None:
    longer = evolve(GOOD.awards[0], duration_ms=2 * HOUR, shorter_ms=(HOUR,))

    assert () == check(evolve(GOOD, awards=(longer, GOOD.awards[1])))


def test_a_tolerance_that_is_stated_is_all_that_is_forgiven() -> None:
    short = evolve(GOOD, machines=(FIRST_MACHINE, evolve(MACHINE, ended_ms=2000 + HOUR - 50)))

    assert () == check(evolve(short, tolerance_ms=50))
    assert {"billed within life"} == broken(evolve(short, tolerance_ms=49))
