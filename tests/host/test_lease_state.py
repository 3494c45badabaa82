"""The life of a lease as a table: what may follow what."""

import itertools

import pytest

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.lease_state import (
    BODIES,
    MAX_BODY,
    OPEN_STATES,
    TRANSITIONS,
    LeaseFacts,
    LeaseState,
    Metered,
    Released,
    Settled,
    draft,
    next_state,
    read_body,
    read_facts,
    routed,
)
from compute_bridge.model.ids import GrantId
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import EventDraft, JournalEvent
from compute_bridge.testing.clock import VirtualClock

GRANT = GrantId(bytes(32))


def event(body: object, *, sequence: int = 1, state: LeaseState | None = None) -> JournalEvent:
    made = draft(GRANT, body, state=state)
    return JournalEvent(sequence, bytes(32), 0, made.kind, made.lease, made.body, made.state)


def test_every_state_has_its_successors_in_the_table() -> None:
    expected = set(LeaseState) | {None}

    assert expected == set(TRANSITIONS)


@pytest.mark.parametrize(("state", "wanted"), list(itertools.product([None, *LeaseState], LeaseState)))
def test_only_the_table_decides_what_may_follow(state: LeaseState | None, wanted: LeaseState) -> None:
    if wanted in TRANSITIONS[state]:
        assert wanted == next_state(state, wanted, GRANT)
    else:
        with pytest.raises(JournalError, match="may not follow"):
            next_state(state, wanted, GRANT)


def test_every_open_state_leads_to_settled() -> None:
    reached = {LeaseState.SETTLED}
    for _ in LeaseState:
        reached |= {state for state in OPEN_STATES if TRANSITIONS[state] & reached}

    assert set(LeaseState) == reached


def test_a_body_reads_back_as_written() -> None:
    expected = Settled(Reason.CHARGED)

    assert expected == read_body(event(expected))


def test_an_unknown_kind_of_event_raises() -> None:
    strange = JournalEvent(7, bytes(32), 0, "strange", GRANT, b"", None)

    with pytest.raises(JournalError, match="event 7 is of kind 'strange'"):
        read_body(strange)


def test_facts_refuse_an_illegal_transition() -> None:
    with pytest.raises(JournalError, match="settled may not follow nothing"):
        LeaseFacts.fold(GRANT, (event(Settled(Reason.CHARGED), state=LeaseState.SETTLED),))


def test_every_kind_of_event_has_a_name_of_its_own() -> None:
    assert len(BODIES) == len(set(BODIES))


def test_the_longest_route_can_be_read_again() -> None:
    told = routed(tuple(f"benched {'b' * 63}/{'o' * 63} {'x' * 300}" for _ in range(5000)))

    assert told == read_body(event(told))
    assert len(event(told).body) < MAX_BODY
    assert "4904 steps are left out" in " ".join(told.steps)


@pytest.mark.anyio
async def test_a_lease_of_many_events_is_read_to_its_last(tmp_path) -> None:
    async with open_sqlite_journal(tmp_path / "journal", VirtualClock(), create=True) as journal:
        for _ in range(3):
            await journal.record(*[draft(GRANT, Metered(UsageMetrics()))] * 900)
        await journal.record(draft(GRANT, Settled(Reason.CHARGED)))
        facts = await read_facts(journal, GRANT)

    assert Settled(Reason.CHARGED) == facts.get(Settled)


@pytest.mark.anyio
async def test_of_many_checkpoints_only_the_last_is_read(tmp_path) -> None:
    async with open_sqlite_journal(tmp_path / "journal", VirtualClock(), create=True) as journal:
        await journal.record(EventDraft("metered", GRANT, b"no checkpoint"))
        await journal.record(draft(GRANT, Metered(UsageMetrics(), Milliseconds(7))))
        await journal.record(draft(GRANT, Released(1)))
        facts = await read_facts(journal, GRANT)

    assert (7, 1) == (facts.require(Metered).elapsed_ms, facts.require(Released).sequence)
