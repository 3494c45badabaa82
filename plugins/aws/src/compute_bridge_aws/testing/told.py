"""What EC2 tells of a machine of the physics."""

from datetime import UTC, datetime
from typing import Any

from compute_bridge.testing.physics.matter import End, Machine, State, Why
from compute_bridge_aws.testing.stock import BY_NAME, VPCS

_STATES = {
    State.PENDING: (0, "pending"),
    State.RUNNING: (16, "running"),
    State.ENDING: (32, "shutting-down"),
    State.GONE: (48, "terminated"),
    State.STOPPED: (80, "stopped"),
    State.FAILED: (48, "terminated"),
    State.DEALLOCATED: (80, "stopped"),
}
_REASONS = {
    Why.API: "Client.UserInitiatedShutdown",
    Why.GUEST: "Client.InstanceInitiatedShutdown",
    Why.PREEMPTED: "Server.SpotInstanceTermination",
    Why.CRASHED: "Server.InternalError",
}


def tag_list(tags: Any) -> list[dict[str, str]]:
    """Return tags as AWS lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def state_told(machine: Machine) -> dict[str, Any]:
    """Return an InstanceState."""
    code, name = _STATES[machine.state]
    return {"Code": code, "Name": name}


def told(machine: Machine) -> dict[str, Any]:
    """Return an Instance."""
    return {
        "InstanceId": machine.id,
        "ImageId": machine.document.get("ImageId", ""),
        "InstanceType": machine.shape,
        "State": state_told(machine),
        # In whole seconds, as EC2 has it.
        "LaunchTime": machine.created_ms,
        "ClientToken": machine.token.partition("/")[2],
        "Placement": {"AvailabilityZone": machine.zone, "Tenancy": "default"},
        "Tags": tag_list(machine.tags),
        "Architecture": "x86_64",
        "RootDeviceType": "ebs",
        "RootDeviceName": "/dev/xvda",
        "VpcId": VPCS.get(machine.region, ""),
        "StateTransitionReason": _transition(machine.end) if not machine.is_live else "",
        **_reason(machine.end if not machine.is_live else None),
        **_addresses(machine),
        **_cpus(machine),
        **({"InstanceLifecycle": "spot"} if machine.spot else {}),
    }


def _reason(end: End | None) -> dict[str, Any]:
    if end is None:
        return {}
    code = end.code or _REASONS.get(end.why, "Server.InternalError")
    return {"StateReason": {"Code": code, "Message": code}}


def _transition(end: End | None) -> str:
    if end is None or end.why is not Why.API:
        return ""
    moment = datetime.fromtimestamp(end.at_ms // 1000, UTC)
    return f"User initiated ({moment:%Y-%m-%d %H:%M:%S} GMT)"


def _addresses(machine: Machine) -> dict[str, Any]:
    if not machine.is_live:
        return {}
    [nic] = machine.document.get("NetworkInterfaces", [{}])
    told: dict[str, Any] = {"PrivateIpAddress": machine.address, "SubnetId": nic.get("SubnetId", "")}
    # The public address is there a little later than the machine.
    if nic.get("AssociatePublicIpAddress") and machine.state is State.RUNNING:
        told["PublicIpAddress"] = machine.address
    return told


def _cpus(machine: Machine) -> dict[str, Any]:
    type_ = BY_NAME.get(machine.shape)
    if type_ is None:
        return {}
    options = {"CoreCount": type_.cores, "ThreadsPerCore": type_.threads}
    return {"CpuOptions": options | dict(machine.document.get("CpuOptions", {}))}
