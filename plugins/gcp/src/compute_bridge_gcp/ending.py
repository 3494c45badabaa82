"""How an instance ended, by the operations of its zone, which outlive it."""

from collections.abc import Iterable

from compute_bridge.ports.backend import ExitCause, InstanceExit
from compute_bridge_gcp.facts import Operation

_SYSTEM_CAUSES = {
    "compute.instances.preempted": ExitCause.PREEMPTED,
    "compute.instances.guestTerminate": ExitCause.EXITED,
    "compute.instances.hostError": ExitCause.LOST,
    "compute.instances.terminateOnHostMaintenance": ExitCause.LOST,
}
_ENDINGS = ("delete", "stop")


def where_target(zone: str, name: str) -> str:
    """Return the filter for the operations on one instance."""
    return f'targetLink eq ".*/zones/{zone}/instances/{name}"'


def is_target(operation: Operation, zone: str, name: str) -> bool:
    """Return whether an operation is on one instance."""
    return operation.target.endswith(f"zones/{zone}/instances/{name}")


def exit_in(operations: Iterable[Operation], service_account: str) -> InstanceExit | None:
    """Return the first end among the operations on one instance, at the moment that it began.

    From then on nobody can use it, however long the vendor takes to be done; so it is told alike while that goes on.
    An end that no call asked for, and that has no name of its own, is the limit of the run: nothing else deletes a
    machine by itself.
    """
    ends = sorted((one for one in operations if _ends(one)), key=lambda one: one.begun_ms)
    if not ends:
        return None
    first = ends[0]
    return InstanceExit(_cause(first, service_account), first.begun_ms, f"by {first.kind}")


def _ends(operation: Operation) -> bool:
    return not operation.codes and (operation.kind in _ENDINGS or operation.kind in _SYSTEM_CAUSES)


def _cause(operation: Operation, service_account: str) -> ExitCause:
    if operation.kind in _SYSTEM_CAUSES:
        return _SYSTEM_CAUSES[operation.kind]
    if operation.user == service_account or "@" in operation.user:
        return ExitCause.TERMINATED
    return ExitCause.DEADLINE
