"""Making and ending machines in the fake, with the parts that go or stay with them."""

import base64
import json
import secrets
from hashlib import sha256
from typing import Any

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Code, Machine, Refusal, Resource
from compute_bridge.testing.physics.wire import Cut
from compute_bridge_azure.testing.answers import No, invalid, no_of
from compute_bridge_azure.testing.orders import Rules, check_machine
from compute_bridge_azure.testing.views import address_view, disk_view, machine_view, nic_view

Json = dict[str, Any]

SCOPE = "group"
NIC, ADDRESS, DISK = "nic", "address", "disk"


class FakeMachines:
    """The machines of one resource group."""

    def __init__(self, physics: Physics, rules: Rules, group: str) -> None:
        self._physics = physics
        self.rules = rules
        self._group = group

    # --- making -------------------------------------------------------------------------------------

    def put(self, name: str, body: Json, if_none_match: str) -> tuple[Machine, bool]:
        """Make a machine; return it, and whether it is new.

        Stricter than Azure: a PUT without ``If-None-Match: *`` could change a machine, so it is refused.
        """
        size = check_machine(body, self.rules)
        if if_none_match != "*":
            raise invalid("If-None-Match", "the fake takes creates alone, which say so")
        zone = f"{body['location']}-{body['zones'][0]}" if body.get("zones") else ""
        properties = body["properties"]
        with self._physics.lock:
            try:
                launch = self._physics.launch(
                    region=body["location"],
                    zone=zone,
                    shape=size.name,
                    vcpus=size.vcpus,
                    name=name,
                    name_scope=SCOPE,
                    digest=sha256(json.dumps(body, sort_keys=True).encode()).hexdigest(),
                    spot=properties.get("priority") == "Spot",
                    tags=body.get("tags") or {},
                    document={key: value for key, value in body.items() if key != "tags"},
                    user_data=base64.b64decode(properties["osProfile"].get("customData", "")),
                )
            except Refusal as refusal:
                raise self._no(refusal) from refusal
            self._add_parts(launch.machine, body)
        if launch.is_answer_lost:
            raise Cut
        return launch.machine, launch.is_new

    @staticmethod
    def _no(refusal: Refusal) -> No:
        if refusal.code is not Code.NAME_TAKEN:
            return no_of(refusal)
        is_ending = refusal.machine is not None and refusal.machine.state.value == "ending"
        if is_ending:
            return No(409, "Conflict", "the VM is marked for deletion")
        return No(412, "PreconditionFailed")

    def _add_parts(self, machine: Machine, body: Json) -> None:
        properties = body["properties"]
        disk = properties["storageProfile"]["osDisk"]
        disk_name = disk.get("name") or f"{machine.name}_OsDisk_1_{secrets.token_hex(16)}"
        self._add(DISK, disk_name, machine, disk, {}, {"gib": disk.get("diskSizeGB", 30)})
        for nic in properties["networkProfile"]["networkInterfaceConfigurations"]:
            # Azure adds to the names that it was given.
            nic_name = f"{nic['name']}-{secrets.token_hex(4)}"
            self._add(NIC, nic_name, machine, nic["properties"], nic.get("tags") or {})
            for ip in nic["properties"]["ipConfigurations"]:
                if (address := ip["properties"].get("publicIPAddressConfiguration")) is not None:
                    name = f"{address['name']}-{secrets.token_hex(4)}"
                    document = {"ipAddress": machine.address, "nic": nic_name}
                    self._add(ADDRESS, name, machine, address["properties"], address.get("tags") or {}, document)

    def _add(
        self, kind: str, name: str, machine: Machine, options: Json, tags: dict[str, str], document: Json | None = None
    ) -> None:
        self._physics.add(
            kind,
            name,
            place=machine.region,
            machine=machine.id,
            dies_with_machine=options.get("deleteOption") == "Delete",
            tags=tags,
            document=document,
        )

    # --- ending -------------------------------------------------------------------------------------

    def delete(self, name: str) -> bool:
        """End a machine; return whether there was one."""
        with self._physics.lock:
            machine = next((one for one in self._physics.existing() if one.name == name), None)
            if machine is None:
                return False
            self._physics.end(machine.id)
            return True

    def delete_part(self, kind: str, name: str) -> bool:
        """End a part that nothing uses; return whether there was one."""
        with self._physics.lock:
            part = next((one for one in self._physics.resources(kind) if one.id == name), None)
            if part is None:
                return False
            if kind == ADDRESS and any(one.id == part.document["nic"] for one in self._physics.resources(NIC)):
                raise No(400, "PublicIPAddressCannotBeDeleted")
            try:
                self._physics.remove(kind, name, used_by=[part.machine])
            except Refusal as refusal:
                raise No(400 if kind == NIC else 409, "NicInUse" if kind == NIC else "OperationNotAllowed") from refusal
            return True

    # --- lists --------------------------------------------------------------------------------------

    def listed(self) -> list[Machine]:
        """Return the machines that a list shows."""
        return [machine for machine in self._physics.listed() if machine.exists]

    def view(self, machine: Machine) -> Json:
        """Return one machine."""
        nics = [nic.id for nic in self._physics.resources(NIC, machine=machine.id)]
        return machine_view(machine, self._group, nics)

    def views(self) -> list[Json]:
        """Return the machines of the group."""
        nics: dict[str, list[str]] = {}
        for nic in self._physics.resources(NIC):
            nics.setdefault(nic.machine, []).append(nic.id)
        return [machine_view(machine, self._group, nics.get(machine.id, [])) for machine in self.listed()]

    def part_views(self, kind: str) -> list[Json]:
        """Return the NICs, addresses or disks of the group."""
        with self._physics.lock:
            owners = {machine.id: machine for machine in self._physics.existing()}
            return [self._part_view(part, owners.get(part.machine)) for part in self._physics.resources(kind)]

    def _part_view(self, part: Resource, owner: Machine | None) -> Json:
        if part.kind == NIC:
            return nic_view(part, self._group, owner)
        return address_view(part, self._group) if part.kind == ADDRESS else disk_view(part, self._group, owner)
