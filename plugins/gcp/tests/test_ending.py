"""The causes of an end, from the operations that tell them."""

import pytest

from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, InstanceExit
from compute_bridge_gcp.ending import exit_in
from compute_bridge_gcp.facts import Operation

US = "bridge@project.iam.gserviceaccount.com"


def operation(kind: str, user: str = "system", *, begun: int = 1000, ended: int = 2000, code: str = "") -> Operation:
    codes = (code,) if code else ()
    return Operation("z", "o", kind, "z/instances/cb-1", user, bool(ended), codes, UtcMs(begun), UtcMs(ended))


@pytest.mark.parametrize(
    ("kind", "user", "cause"),
    [
        ("delete", US, ExitCause.TERMINATED),
        ("delete", "somebody@example.com", ExitCause.TERMINATED),
        ("delete", "system", ExitCause.DEADLINE),
        ("delete", "", ExitCause.DEADLINE),
        ("stop", US, ExitCause.TERMINATED),
        ("compute.instances.preempted", "system", ExitCause.PREEMPTED),
        ("compute.instances.guestTerminate", "system", ExitCause.EXITED),
        ("compute.instances.hostError", "system", ExitCause.LOST),
    ],
)
def test_the_operation_tells_the_cause(kind, user, cause):
    assert InstanceExit(cause, UtcMs(1000), f"by {kind}") == exit_in([operation(kind, user)], US)


def test_the_first_end_counts_and_what_came_after_does_not():
    ends = [operation("delete", US, begun=3000), operation("compute.instances.preempted")]

    assert (found := exit_in(ends, US)) is not None
    assert ExitCause.PREEMPTED is found.cause


@pytest.mark.parametrize("ended", [0, 2000])
def test_an_end_is_told_with_its_beginning_under_way_and_done(ended):
    """What a requester pays for must not hang on how long the vendor takes to delete, nor on when that is asked."""
    assert (found := exit_in([operation("delete", US, ended=ended)], US)) is not None
    assert found.ended_at == 1000


def test_a_failed_delete_ended_nothing():
    assert exit_in([operation("insert", US), operation("delete", US, code="RESOURCE_NOT_READY")], US) is None
