"""From a listing of instances to the machines that are ours."""

from collections.abc import Iterable

from attrs import evolve

from compute_bridge.cloud.machine import Machine, MachineState
from compute_bridge.cloud.tags import OwnedTags, tags_of
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, InstanceExit, Order
from compute_bridge.ports.errors import BackendError
from compute_bridge_gcp.config import GcpConfig
from compute_bridge_gcp.facts import Seen

# REPAIRING comes back or ends; a status that nobody here has heard of is no end either.
_RUNNING = frozenset({"RUNNING"})
_ENDING = frozenset({"STOPPING", "PENDING_STOP", "STOPPED", "SUSPENDING", "SUSPENDED", "DEPROVISIONING", "TERMINATED"})
_STOPPED = frozenset({"STOPPED", "TERMINATED"})


def machines_in(seen: Iterable[Seen], *, is_public: bool) -> dict[InstanceId, Machine]:
    """Return the machines whose tags are whole; any other only carries a label that looks like ours."""
    machines = {}
    for one in seen:
        try:
            tags = OwnedTags.read({**one.metadata, **one.labels}, name=one.name)
        except RecordError:
            continue
        machine = _machine(one, tags, is_public=is_public)
        machines[machine.id] = machine
    return machines


def _machine(one: Seen, tags: OwnedTags, *, is_public: bool) -> Machine:
    return Machine(
        id=instance_id(one.zone, one.name),
        state=_state(one.status),
        tags=tags,
        host=one.public if is_public else one.private,
        started_at=one.started_ms or one.created_ms,
        exit=_exit(one, tags),
    )


def instance_id(zone: str, name: str) -> InstanceId:
    """Return the id by which the host knows an instance: names are told apart within a zone only."""
    return InstanceId(f"{zone}/{name}")


def _state(status: str) -> MachineState:
    if status in _RUNNING:
        return MachineState.RUNNING
    return MachineState.ENDING if status in _ENDING else MachineState.PENDING


def _exit(one: Seen, tags: OwnedTags) -> InstanceExit | None:
    """Return when a machine that is stopped, and not deleted, ended; why, only its operations tell."""
    if one.status not in _STOPPED or not one.stopped_ms:
        return None
    return InstanceExit(_late(ExitCause.EXITED, tags, one.stopped_ms), one.stopped_ms, "it stopped")


def _late(cause: ExitCause, tags: OwnedTags, ended_ms: int) -> ExitCause:
    """Return the cause of a stop: a guest that powers off after the machine's end does so by its timer."""
    return ExitCause.DEADLINE if cause is ExitCause.EXITED and ended_ms >= tags.ends_at else cause


def explained(machine: Machine, recorded: InstanceExit | None) -> Machine:
    """Return a stopped machine with the cause that its operations tell."""
    if machine.exit is None or recorded is None:
        return machine
    cause = _late(recorded.cause, machine.tags, machine.exit.ended_at)
    return evolve(machine, exit=evolve(machine.exit, cause=cause, detail=recorded.detail))


def failed_machine(config: GcpConfig, order: Order, failure: BackendError) -> Machine:
    """Return what stands for a machine that was accepted and never came."""
    tags = OwnedTags.read(tags_of(order, config), name=order.ownership.name)
    return Machine(
        id=instance_id(order.offer.zone, order.ownership.name),
        state=MachineState.ENDING,
        tags=tags,
        started_at=UtcMs(0),
        exit=InstanceExit(ExitCause.LOST, UtcMs(0), "it was never made"),
        failure=failure,
    )
