"""The instances of a fake project: how they are made, shown and ended."""

import re
from collections.abc import Mapping
from itertools import count
from typing import Any

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Code, Deadline, Launch, Machine, Refusal, State, Then
from compute_bridge_gcp.testing.checks import BadRequestError, check_instance, check_request_id
from compute_bridge_gcp.testing.operations import Operations, stamp
from compute_bridge_gcp.testing.stock import SHAPES

_LABEL = re.compile(r'labels\.([a-z0-9_-]+)="([a-z0-9_-]*)"')
_STATUS = {
    State.PENDING: "STAGING",
    State.RUNNING: "RUNNING",
    State.ENDING: "STOPPING",
    State.STOPPED: "TERMINATED",
    State.FAILED: "PROVISIONING",
    State.DEALLOCATED: "TERMINATED",
    State.GONE: "TERMINATED",
}
_FIRST_ID = 4_000_000_000_000_000_000


class Instances:
    """What the vendor knows of machines, over physics that know them all."""

    def __init__(self, physics: Physics, operations: Operations, base: str, down_zones: set[str]) -> None:
        self._physics = physics
        self._operations = operations
        self._base = base
        self._down_zones = down_zones
        self._failed: dict[str, str] = {}
        self._ids = count(_FIRST_ID)

    # --- making ---------------------------------------------------------------------------------

    def insert(self, zone: str, request_id: str, body: Mapping[str, Any], user: str) -> dict[str, Any]:
        """Make a machine, or return the operation that the request id has had."""
        check_request_id(request_id)
        check_instance(zone, body)
        token = f"{zone} {request_id}"
        with self._physics.lock:
            if token in self._failed:
                return self._operations.get(zone, self._failed[token]) or {}
            try:
                launch = self._launch(zone, token, body)
            except Refusal as refused:
                return self._not_launched(zone, token, body, user, refused)
            target = f"{zone}/instances/{body['name']}"
            if not launch.is_new:
                return self._operations.insert_of(launch.machine.id)
            self._add_disks(zone, launch.machine, body)
            operation = self._operations.note("insert", zone, target, user, machine=launch.machine.id)
        if launch.is_answer_lost:
            raise Refusal(Code.DOWN)
        return operation

    def _launch(self, zone: str, token: str, body: Mapping[str, Any]) -> Launch:
        shape = body["machineType"].rpartition("/")[2]
        plan = body.get("scheduling", {})
        items = {item["key"]: item["value"] for item in body.get("metadata", {}).get("items", [])}
        return self._physics.launch(
            region=zone.rpartition("-")[0],
            zone=zone,
            shape=shape,
            vcpus=SHAPES[shape]["guestCpus"],
            id=str(next(self._ids)),
            name=body["name"],
            name_scope=zone,
            token=token,
            spot=plan.get("provisioningModel") == "SPOT",
            tags=body.get("labels", {}),
            document=body,
            user_data=items.get("user-data", "").encode(),
            deadline=self._deadline(plan),
        )

    def _deadline(self, plan: Mapping[str, Any]) -> Deadline | None:
        if "maxRunDuration" not in plan:
            return None
        # The vendor counts from when it runs, and no further once it was stopped or suspended.
        # Source: "Limit the run time of a VM".
        run_ms = int(plan["maxRunDuration"]["seconds"]) * 1000
        then = Then.GONE if plan["instanceTerminationAction"] == "DELETE" else Then.STOPPED
        at_ms = self._physics.now_ms() + self._physics.boot_ms + run_ms
        return Deadline(at_ms, then, is_cleared_by_stop=True)

    def _not_launched(
        self, zone: str, token: str, body: Mapping[str, Any], user: str, refused: Refusal
    ) -> dict[str, Any]:
        if refused.code is Code.TOKEN_USED_UP and refused.machine is not None:
            return self._operations.insert_of(refused.machine.id)
        if refused.code is not Code.CAPACITY:
            raise refused
        # A create is accepted before the vendor knows whether there is room for it.
        target = f"{zone}/instances/{body['name']}"
        operation = self._operations.note("insert", zone, target, user, code="ZONE_RESOURCE_POOL_EXHAUSTED")
        self._failed[token] = operation["name"]
        return operation

    def _add_disks(self, zone: str, machine: Machine, body: Mapping[str, Any]) -> None:
        for number, disk in enumerate(body["disks"]):
            self._physics.add(
                "disk",
                f"{zone}/{machine.name}-{number}",
                place=zone,
                machine=machine.id,
                dies_with_machine=disk.get("autoDelete", False),
                tags=disk.get("initializeParams", {}).get("labels", {}),
            )

    # --- showing --------------------------------------------------------------------------------

    def get(self, zone: str, name: str) -> dict[str, Any]:
        """Return one machine."""
        return self._told(self._existing(zone, name))

    def matching(self, where: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the machines that match a filter by one label, with their zones."""
        found = _LABEL.fullmatch(where) if where else None
        if where and found is None:
            raise BadRequestError("Invalid value for field 'filter'")
        machines = [one for one in self._physics.listed() if one.exists]
        wanted = [one for one in machines if found is None or one.tags.get(found[1]) == found[2]]
        wanted.sort(key=lambda one: (one.zone, one.name))
        return [(one.zone, self._told(one)) for one in wanted]

    def _existing(self, zone: str, name: str) -> Machine:
        machine = self._physics.named(zone, name)
        if not machine.exists:
            raise Refusal(Code.NOT_FOUND)
        return machine

    def _told(self, machine: Machine) -> dict[str, Any]:
        told = {
            **machine.document,
            "kind": "compute#instance",
            "id": machine.id,
            "name": machine.name,
            # A machine that is preempted is stopping for as long as its guest has to shut down.
            "status": "STOPPING" if machine.is_marked else _STATUS[machine.state],
            "zone": f"{self._base}/zones/{machine.zone}",
            "selfLink": f"{self._base}/zones/{machine.zone}/instances/{machine.name}",
            "creationTimestamp": stamp(machine.created_ms),
            "lastStartTimestamp": stamp(machine.created_ms),
            "networkInterfaces": [
                self._card(card, machine.address) for card in machine.document.get("networkInterfaces", [])
            ],
        }
        if machine.state is State.STOPPED:
            told["lastStopTimestamp"] = stamp(machine.ended_ms)
        if machine.deadline_ms and machine.running_ms:
            # Not there before it runs, and not once it has stopped; maxRunDuration stands in both.
            told["resourceStatus"] = {"scheduling": {"terminationTimestamp": stamp(machine.deadline_ms)}}
        return told

    @staticmethod
    def _card(card: Mapping[str, Any], address: str) -> dict[str, Any]:
        public = [{**config, "natIP": address} for config in card.get("accessConfigs", [])]
        return {**card, "networkIP": address, "accessConfigs": public}

    # --- ending ---------------------------------------------------------------------------------

    def delete(self, zone: str, name: str, request_id: str, user: str) -> dict[str, Any]:
        """End a machine."""
        check_request_id(request_id)
        with self._physics.lock:
            machine = self._existing(zone, name)
            if machine.document.get("deletionProtection"):
                raise BadRequestError("it is protected from deletion")
            if machine.state is State.ENDING:
                raise BadRequestError("it is not ready", reason="resourceNotReady")
            self._physics.end(machine.id)
            return self._operations.note("delete", zone, f"{zone}/instances/{name}", user, machine=machine.id)
