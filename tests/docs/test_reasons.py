"""The page of reason codes and the code say the same."""

import re
from pathlib import Path

from compute_bridge.host.lease_state import TRANSITIONS
from compute_bridge.model.reason import Reason

DOCS = Path(__file__).parents[2] / "docs"


def test_every_reason_code_is_documented_once() -> None:
    documented = re.findall(r"^\| `([a-z-]+)` \|", (DOCS / "reasons.md").read_text(), re.MULTILINE)

    assert sorted(reason.value for reason in Reason) == sorted(documented)


def test_the_table_of_lease_states_is_the_code_s() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| (.*?) \|", (DOCS / "operator" / "lease.md").read_text(), re.MULTILINE)
    documented = {state: set(re.findall(r"`([a-z]+)`", after)) for state, after in rows}
    expected = {str(state): {after.value for after in followers} for state, followers in TRANSITIONS.items() if state}

    assert expected == documented
