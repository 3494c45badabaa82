"""How machines and their parts are shown."""

from datetime import UTC, datetime
from typing import Any

from compute_bridge.testing.physics.matter import Machine, Resource, State

Json = dict[str, Any]

_POWER = {
    State.RUNNING: "running",
    State.STOPPED: "stopped",
    State.DEALLOCATED: "deallocated",
    State.ENDING: "stopping",
}
_PROVISIONING = {State.PENDING: "Creating", State.FAILED: "Failed", State.ENDING: "Deleting"}


def moment(ms: int) -> str:
    """Return a time as Azure writes it, with seven digits of a second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0+00:00"


def machine_id(group: str, name: str) -> str:
    """Return a machine's id in a group's."""
    return f"{group}/providers/Microsoft.Compute/virtualMachines/{name}"


def nic_id(group: str, name: str) -> str:
    """Return a NIC's id."""
    return f"{group}/providers/Microsoft.Network/networkInterfaces/{name}"


def machine_view(machine: Machine, group: str, nics: list[str]) -> Json:
    """Return a machine as PUT and the list of a group show it: no power state, no secret, no address."""
    sent = dict(machine.document)
    properties = {**sent.get("properties", {})}
    if "osProfile" in properties:
        properties["osProfile"] = {
            name: value for name, value in properties["osProfile"].items() if name != "customData"
        }
    properties["networkProfile"] = {"networkInterfaces": [{"id": nic_id(group, name)} for name in nics]}
    properties["provisioningState"] = _PROVISIONING.get(machine.state, "Succeeded")
    properties["timeCreated"] = moment(machine.created_ms)
    properties["vmId"] = machine.id
    return {
        **sent,
        "id": machine_id(group, machine.name),
        "name": machine.name,
        "type": "Microsoft.Compute/virtualMachines",
        "location": machine.region,
        "tags": dict(machine.tags),
        "properties": properties,
    }


def status_view(machine: Machine, group: str) -> Json:
    """Return a machine as the list with ``statusOnly`` shows it, with no tags, its id spelt otherwise."""
    provisioning = _PROVISIONING.get(machine.state, "Succeeded").lower()
    code = f"/{machine.end.code}" if machine.state is State.FAILED and machine.end is not None else ""
    statuses = [
        {
            "code": f"ProvisioningState/{provisioning}{code}",
            "level": "Error" if code else "Info",
            "time": moment(machine.created_ms),
        }
    ]
    if (power := _POWER.get(machine.state)) is not None:
        statuses.append({"code": f"PowerState/{power}", "level": "Info"})
    return {
        "id": machine_id(group, machine.name).replace("resourceGroups", "RESOURCEGROUPS"),
        "name": machine.name,
        "type": "Microsoft.Compute/virtualMachines",
        "location": machine.region,
        "properties": {"vmId": machine.id, "instanceView": {"statuses": statuses}},
    }


def nic_view(nic: Resource, group: str, owner: Machine | None) -> Json:
    """Return a NIC; ``owner`` is the machine that has it still."""
    properties: Json = {"provisioningState": "Succeeded", "primary": True, "ipConfigurations": []}
    if owner is not None:
        properties["virtualMachine"] = {"id": machine_id(group, owner.name)}
        properties["provisioningState"] = "Deleting" if owner.state is State.ENDING else "Succeeded"
    return {
        "id": nic_id(group, nic.id),
        "name": nic.id,
        "type": "Microsoft.Network/networkInterfaces",
        "location": nic.place,
        "tags": dict(nic.tags),
        "properties": properties,
    }


def address_view(address: Resource, group: str) -> Json:
    """Return a public address; it goes on naming the NIC that it was of."""
    configuration = f"{nic_id(group, str(address.document['nic']))}/ipConfigurations/ip"
    return {
        "id": f"{group}/providers/Microsoft.Network/publicIPAddresses/{address.id}",
        "name": address.id,
        "type": "Microsoft.Network/publicIPAddresses",
        "location": address.place,
        "sku": {"name": "Standard", "tier": "Regional"},
        "tags": dict(address.tags),
        "properties": {
            "provisioningState": "Succeeded",
            "publicIPAllocationMethod": "Static",
            "ipAddress": address.document["ipAddress"],
            "ipConfiguration": {"id": configuration},
        },
    }


def disk_view(disk: Resource, group: str, owner: Machine | None) -> Json:
    """Return a disk. Whether a machine's tags reach its boot disk nobody could say, so here they do not."""
    view: Json = {
        "id": f"{group}/providers/Microsoft.Compute/disks/{disk.id}",
        "name": disk.id,
        "type": "Microsoft.Compute/disks",
        "location": disk.place,
        "sku": {"name": "StandardSSD_LRS"},
        "tags": dict(disk.tags),
        "properties": {
            "provisioningState": "Succeeded",
            "diskState": "Unattached" if owner is None else "Attached",
            "timeCreated": moment(disk.created_ms),
            "diskSizeGB": disk.document.get("gib", 30),
        },
    }
    if owner is not None:
        view["managedBy"] = machine_id(group, owner.name)
    return view


def metric_views(names: list[str], since_ms: int, until_ms: int) -> list[Json]:
    """Return metrics of a machine that is half busy and sends a thousand bytes in each window of five minutes."""
    windows = range(since_ms, until_ms, 300_000)
    data = [{"timeStamp": moment(ms)[:19] + "Z", "average": 50.0, "total": 1000.0} for ms in windows]
    return [{"name": {"value": name, "localizedValue": name}, "timeseries": [{"data": data}]} for name in names]
