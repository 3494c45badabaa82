"""From what DescribeInstances tells of a machine to what the bridge knows of it."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from compute_bridge.cloud.machine import Machine, MachineState
from compute_bridge.cloud.tags import OwnedTags
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, InstanceExit
from compute_bridge.ports.errors import BackendError
from compute_bridge.wire.keys import instance_name
from compute_bridge_aws.errors import MEANINGS, launch_failure

# A stopped machine was stopped by somebody's hand: it costs its disk, and no lease of ours starts it again.
_STATES = {
    "pending": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "stopping": MachineState.ENDING,
    "stopped": MachineState.ENDING,
    "shutting-down": MachineState.ENDING,
    "terminated": MachineState.GONE,
}
_CAUSES = {
    "Client.UserInitiatedShutdown": ExitCause.TERMINATED,
    "Client.UserInitiatedHibernate": ExitCause.TERMINATED,
    "Server.SpotInstanceTermination": ExitCause.PREEMPTED,
    "Server.SpotInstanceShutdown": ExitCause.PREEMPTED,
}
_BY_THE_GUEST = "Client.InstanceInitiatedShutdown"
# The time in a transition reason is in whole seconds.
_ROUNDING_MS = 1000
_MOMENT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")


def join(region: str, id_: str) -> InstanceId:
    """Return the id of a machine over all regions."""
    return InstanceId(f"{region}/{id_}")


def split(instance: InstanceId) -> tuple[str, str]:
    """Return the region and EC2's id; both empty for what :func:`join` did not make."""
    region, slash, id_ = instance.partition("/")
    return (region, id_) if slash and re.fullmatch(r"i-[0-9a-f]{8,17}", id_) else ("", "")


def tags_in(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of anything that DescribeX tells."""
    return {tag["Key"]: tag["Value"] for tag in answer.get("Tags", [])}


def machine_of(
    answer: Mapping[str, Any], *, backend: BackendName, region: str, public: bool, now: int
) -> Machine | None:
    """Return the machine, or ``None`` for one whose tags are not ours."""
    owned = _owned(answer)
    if owned is None:
        return None
    # A state that is not known yet is taken for one of the living: nothing is concluded from it.
    state = _STATES.get(answer["State"]["Name"], MachineState.PENDING)
    return Machine(
        id=join(region, answer["InstanceId"]),
        state=state,
        tags=owned,
        host=answer.get("PublicIpAddress" if public else "PrivateIpAddress", ""),
        started_at=_utc_ms(answer["LaunchTime"]),
        exit=_exit(answer, owned.ends_at, now) if state in (MachineState.ENDING, MachineState.GONE) else None,
        failure=failure_in(answer, backend, region),
    )


def vcpus_in(answer: Mapping[str, Any]) -> int:
    """Return how many vCPUs a machine has, 0 where that is not told."""
    options = answer.get("CpuOptions", {})
    return int(options.get("CoreCount", 0) * options.get("ThreadsPerCore", 0))


def exit_in(answer: Mapping[str, Any], *, now: int) -> InstanceExit | None:
    """Return the end that is told of a machine of ours, if it has ended."""
    owned = _owned(answer)
    if owned is None or answer["State"]["Name"] in ("pending", "running"):
        return None
    return _exit(answer, owned.ends_at, now)


def _owned(answer: Mapping[str, Any]) -> OwnedTags | None:
    # Named by the token: the tag "Name" is for people, and to change it in the console must not lose us a machine.
    try:
        owned = OwnedTags.read(tags_in(answer), name="machine")
    except RecordError:
        return None
    return evolve(owned, ownership=evolve(owned.ownership, name=instance_name(owned.token)))


def failure_in(answer: Mapping[str, Any], backend: BackendName, region: str) -> BackendError | None:
    """Return why a machine that was accepted never ran, if that is so."""
    code = launch_failure(answer.get("StateReason", {}).get("Code", ""))
    if code is None:
        return None
    return MEANINGS.error(backend, "start what was accepted", code, place=region)


def _exit(answer: Mapping[str, Any], ends_at: UtcMs, now: int) -> InstanceExit | None:
    code = answer.get("StateReason", {}).get("Code", "")
    if not code:
        return None
    ended_at = _moment(answer.get("StateTransitionReason", ""))
    cause = _CAUSES.get(code, ExitCause.LOST)
    if code == _BY_THE_GUEST:
        # Who powered off is not told. Before the lease's end it was whoever holds the guest, after it the timer.
        cause = ExitCause.DEADLINE if (ended_at or now) >= ends_at - _ROUNDING_MS else ExitCause.EXITED
    return InstanceExit(cause, ended_at, code)


def _moment(told: str) -> UtcMs:
    found = _MOMENT.search(told)
    if found is None:
        return UtcMs(0)
    return _utc_ms(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC))


def _utc_ms(moment: datetime) -> UtcMs:
    return UtcMs(round(moment.timestamp() * 1000))
