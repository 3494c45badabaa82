"""The page of reason codes and the code say the same."""

import re
from pathlib import Path

from compute_bridge.host.lease_life import LIFE
from compute_bridge.host.lease_state import BODIES, TRANSITIONS, LeaseState
from compute_bridge.model.reason import Reason

# Events that may come in any state and change none.
ANY_STATE = {"resumed", "reap-intended", "reaped"}
DOCS = Path(__file__).parents[2] / "docs"


def test_every_reason_code_is_documented_once() -> None:
    documented = re.findall(r"^\| `([a-z-]+)` \|", (DOCS / "reasons.md").read_text(), re.MULTILINE)

    assert sorted(reason.value for reason in Reason) == sorted(documented)


def test_the_table_of_lease_states_is_the_code_s() -> None:
    page = (DOCS / "operator" / "lease.md").read_text()
    for state, step in LIFE.items():
        after = ", ".join(f"`{one}`" for one in LeaseState if one in TRANSITIONS[state]) or "-"

        assert f"| `{state}` | {after} | {step.before} | {step.effect} | {step.once_by} | {step.after} |\n" in page
        assert f"| `{state}` | {step.at_start} |\n" in page


def test_every_state_and_event_of_a_lease_has_its_place_in_the_table() -> None:
    told = " ".join(f"{step.before} {step.after}" for step in LIFE.values())

    assert list(LeaseState) == list(LIFE)
    assert set(BODIES) - ANY_STATE == set(re.findall(r"`([a-z-]+)`", told)) & set(BODIES)
