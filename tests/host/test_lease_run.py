"""The account of a machine that ended by itself: when it ended, by whoever knows it still."""

from types import SimpleNamespace
from typing import Any

import pytest

from compute_bridge.host.lease_run import RunningLease
from compute_bridge.host.lease_state import LeaseFacts, Running
from compute_bridge.model.ids import BackendName, GrantId, InstanceId, OfferId, Token
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.ports.backend import ExitCause, HostKeySource, Instance, InstanceExit, Ownership
from compute_bridge.ports.errors import UnavailableError
from compute_bridge.testing.hurried_clock import HurriedClock

pytestmark = pytest.mark.anyio

STARTED, CRASHED, DELETED = 1_000_000, 1_060_000, 1_600_000


class Standing:
    """A backend whose crashed machine stands until it is deleted, and is then remembered by its deletion alone."""

    def __init__(self):
        self.is_deleted = False
        self.crashed_at = CRASHED

    async def usage(self, instance):
        raise UnavailableError("nothing tells how long it ran")

    async def terminate(self, instance):
        self.is_deleted = True

    async def watch_until_exit(self, instance):
        if self.is_deleted:
            return InstanceExit(ExitCause.TERMINATED, UtcMs(DELETED), "deleted")
        return InstanceExit(ExitCause.LOST, UtcMs(self.crashed_at), "it stopped")


@pytest.fixture
def backend():
    return Standing()


@pytest.fixture
def lease(backend):
    instance = Instance(
        id=InstanceId("m-1"),
        token=Token(bytes(32)),
        ownership=Ownership("cb-1", bytes(32), bytes(32)),
        offer=OfferId("small"),
        host="192.0.2.1",
        port=22,
        user="guest",
        host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
        host_key_source=HostKeySource.INJECTED,
        started_at=UtcMs(STARTED),
        ends_at=UtcMs(STARTED + 3_600_000),
    )
    tools: Any = SimpleNamespace(clock=HurriedClock(), fleet=SimpleNamespace(backend=lambda _: backend))

    async def record(metered):
        raise AssertionError("nothing is metered")

    running = Running(instance, BackendName("standing"))
    return RunningLease(tools, "lease", running, Milliseconds(3_600_000), record)


async def test_a_machine_that_stood_dead_until_it_was_deleted_ended_when_it_died(lease, backend):
    """Crashed machines of GCP and Azure stand so; their lease was billed until the bridge came to delete them."""
    ended = await lease.end(Reason.LOST, LeaseFacts(GrantId(bytes(32))))

    assert backend.is_deleted
    assert (ended.billable_ms, ended.evidence) == (CRASHED - STARTED, Reason.END_RECORDED)


async def test_a_machine_whose_own_end_has_no_time_did_not_run_until_it_was_deleted(lease, backend):
    """Azure lists a crashed machine without saying since when."""
    backend.crashed_at = 0
    ended = await lease.end(Reason.LOST, LeaseFacts(GrantId(bytes(32))))

    assert (ended.billable_ms, ended.evidence) == (0, Reason.END_LAST_SEEN)


async def test_a_machine_that_was_released_ended_when_it_was_deleted(lease):
    ended = await lease.end(Reason.RELEASED, LeaseFacts(GrantId(bytes(32))))

    assert ended.billable_ms == DELETED - STARTED
