"""Examines a subscription before the first grant: who we are there, what we may, whether a guest would be walled."""

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from compute_bridge.cloud.tags import OWNER
from compute_bridge.model.resources import NetworkPolicy, Posture
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.doctor import Finding, Verdict
from compute_bridge.ports.errors import BackendError
from compute_bridge_azure.account import machine_name, stray_disks
from compute_bridge_azure.cloud import AzureCloud
from compute_bridge_azure.config import AzureConfig, GuestNetwork, Location
from compute_bridge_azure.errors import NO_NETWORK
from compute_bridge_azure.image import SORTS, Sort, lacks_of
from compute_bridge_azure.policy import Reach, actions
from compute_bridge_azure.quota import CORES, SPOT_CORES, read_room
from compute_bridge_azure.sizes import Size, same_place
from compute_bridge_azure.walls import faults_of

_MAX_SKEW_MS = 30_000
_MAX_DETAIL = 500
_ROLE = "assign the role that `compute-bridge azure policy{more}` prints, and wait some minutes"
_UNSEEN = "then run the doctor again"
_UNHEARD = "run the doctor again once Azure answers"

Findings = list[Finding]


class Doctor:
    """One examination; it reads, and changes nothing."""

    def __init__(self, config: AzureConfig, cloud: AzureCloud, clock: Clock) -> None:
        self._config = config
        self._cloud = cloud
        self._arm = cloud.arm
        self._clock = clock

    async def examine(self) -> tuple[Finding, ...]:
        """Return what was found, the identity first."""
        findings = await self._asked("identity", self._identity)
        if any(finding.verdict is Verdict.FAULT for finding in findings):
            # As another than it should be it asks nothing more.
            return tuple(findings)
        findings += await self._asked("subscription", self._subscription)
        findings += self._skew()
        findings += await self._asked("permissions", self._permissions)
        findings += await self._asked("resource group", self._group)
        for location in self._config.locations:
            findings += await self._place(location)
        return tuple(findings)

    async def _asked(self, check: str, ask: Callable[[], Awaitable[Findings]]) -> Findings:
        try:
            return await ask()
        except BackendError as error:
            return [_unknown(check, str(error))]

    # --- who we are -----------------------------------------------------------------------------------

    async def _identity(self) -> Findings:
        claims = await self._cloud.read("get a token", self._arm.identity)
        tenant, principal = str(claims.get("tid")), str(claims.get("oid"))
        seen = f"tenant {tenant}, principal {principal}, subscription {self._config.subscription}"
        if (tenant, principal) != (self._config.tenant, self._config.principal):
            mend = (
                "if that is who the bridge should be, write it to tenant and principal; else give it other credentials"
            )
            return [_fault("identity", f"the table pins another: the token is of {seen}", mend)]
        return [_ok("identity", seen)]

    async def _subscription(self) -> Findings:
        told = await self._cloud.read("read the subscription", self._arm.subscription)
        state = str(told.get("state"))
        seen = f"{told.get('displayName')}, {state}"
        if state != "Enabled":
            return [_fault("subscription", seen, "enable the subscription: look at its bills")]
        return [_ok("subscription", seen)]

    def _skew(self) -> Findings:
        if not self._cloud.is_heard:
            return [_unknown("clock", "no answer of Azure's, which would carry its time", _UNHEARD)]
        skew = self._clock.utc_ms() - self._cloud.now_ms
        seen = f"{skew} ms ahead of Azure's, which tells whole seconds"
        if abs(skew) > _MAX_SKEW_MS:
            return [_fault("clock", seen, "set this machine's clock: leases end by it")]
        return [_ok("clock", seen)]

    # --- what we may ----------------------------------------------------------------------------------

    async def _permissions(self) -> Findings:
        base = f"/subscriptions/{self._config.subscription}"
        scopes = [(Reach.SUBSCRIPTION, base), (Reach.GROUP, f"{base}/resourceGroups/{self._config.resource_group}")]
        networks = {network for location in self._config.locations for network in location.networks}
        groups = {_group_of(id_) for network in networks for id_ in (network.subnet, network.security_group)}
        findings: Findings = []
        for reach, scope in [*scopes, *((Reach.NETWORK, group) for group in sorted(groups))]:
            findings += await self._permitted(reach, scope)
        return findings

    async def _permitted(self, reach: Reach, scope: str) -> Findings:
        roles = await self._cloud.read("read permissions", lambda: self._arm.permissions(scope))
        metrics = self._config.metrics
        mend = _ROLE.format(more=" --metrics" * metrics)
        return [
            _ok(f"permission {action}", f"in {scope}")
            if any(_grants(role, action) for role in roles)
            else _fault(f"permission {action}", f"not in {scope}", mend)
            for action in actions(reach, metrics=metrics)
        ]

    async def _group(self) -> Findings:
        disks = await self._cloud.read("list disks", self._arm.disks)
        machines = await self._cloud.read("list machines", self._arm.machines)
        strangers = [one for one in machines if not machine_name(str(one.get("name")))]
        seen = f"{self._config.resource_group}: {len(machines)} machines"
        if strangers:
            return [
                _fault("resource group", f"{seen}, {len(strangers)} of others", "give the bridge a group of its own")
            ]
        strays = stray_disks(disks, machines)
        return [_ok("resource group", seen), *self._untagged(strays), *self._left(strays)]

    def _untagged(self, strays: list[dict[str, Any]]) -> Findings:
        """Return what is named as ours and carries no tags: no process deletes it, for nothing proves whose it is."""
        check = "disks without tags"
        lost = [one for one in strays if not _owner(one) and machine_name(str(one.get("name")))]
        if not lost:
            return [_ok(check, "none named as a bridge's and without a machine")]
        seen = f"{len(lost)} named as a bridge's, of no machine, and nothing proves of which bridge: {_disks(lost)}"
        where = f"--subscription {self._config.subscription} --resource-group {self._config.resource_group}"
        return [_fault(check, seen, f"az disk delete {where} --name NAME, for each that nobody needs")]

    def _left(self, strays: list[dict[str, Any]]) -> Findings:
        ours = [one for one in strays if _owner(one) == self._config.owner]
        others = [one for one in strays if not _owner(one) and not machine_name(str(one.get("name")))]
        if lost := [*ours, *others]:
            return [_fault("disks", f"{len(lost)} of no machine: {_disks(lost)}", "delete those that nobody needs")]
        return [_ok("disks", "none without a machine")]

    # --- each location --------------------------------------------------------------------------------

    async def _place(self, location: Location) -> Findings:
        sold, findings = await self._sold(location)
        findings += await self._asked(f"quota {location.name}", lambda: self._quota(location, sold))
        findings += await self._images(location, sold)
        for network in location.networks:
            if network.policy in self._config.networks:
                findings += await self._asked(
                    f"network {network.policy} in {location.name}",
                    partial(self._network, location, network),
                )
        return findings

    async def _quota(self, location: Location, sold: list[Size]) -> Findings:
        room = read_room(await self._cloud.read("list quotas", lambda: self._arm.usages(location.name)))
        wanted = [CORES] if self._config.on_demand else []
        wanted += [SPOT_CORES] if self._config.spot else []
        findings = [self._free(location, name, room.free.get(name.lower(), 0)) for name in wanted]
        for family in self._families(sold):
            # One that Azure does not name is none.
            if (free := room.free.get(family.lower())) is not None:
                findings.append(self._free(location, family, free))
        return findings

    def _families(self, sold: list[Size]) -> list[str]:
        """Return the families that machines on demand count against."""
        starts = [size for size in sold if self._config.confidential or size.posture is Posture.NONE]
        return sorted({size.family for size in starts}) if self._config.on_demand else []

    @staticmethod
    def _free(location: Location, name: str, free: int) -> Finding:
        check, seen = f"quota {name} in {location.name}", f"{free} vCPUs free"
        return _ok(check, seen) if free > 0 else _fault(check, seen, "ask Azure for more, or end something")

    async def _images(self, location: Location, sold: list[Size]) -> Findings:
        findings: Findings = []
        for image in self._config.image_table:
            for sort in SORTS:
                if urn := sort.urn(image):
                    word = "" if sort is SORTS[0] else f" {sort.word}"
                    check = f"image {image.name}{word} in {location.name}"
                    sizes = [size for size in sold if sort.boots(size)]
                    findings += await self._asked(check, partial(self._image, location, check, urn, sort, sizes))
        return findings

    async def _sold(self, location: Location) -> tuple[list[Size], Findings]:
        """Return the sizes that the table sells, for which an image has to do too; an image is examined without."""
        try:
            sizes = await self._cloud.sizes_of(location, is_fresh=True)
        except BackendError as error:
            return [], [_unknown(f"sizes in {location.name}", str(error))]
        return [size for size in sizes.values() if self._config.sells(size.name)], []

    async def _image(self, location: Location, check: str, urn: str, sort: Sort, sizes: list[Size]) -> Findings:
        told = await self._cloud.image_facts.told(location.name, urn, is_fresh=True)
        found = [lack for size in (None, *sizes) for lack in lacks_of(told, sort, location.name, size)]
        if not found:
            return [_ok(check, f"{urn}, version {(told or {}).get('name')}" if ":" in urn else urn)]
        lacks = list(dict.fromkeys(found))
        mends = dict.fromkeys(lack.mend for lack in lacks)
        return [_fault(check, f"{urn} {'; '.join(lack.what for lack in lacks)}", "; ".join(mends))]

    async def _network(self, location: Location, network: GuestNetwork) -> Findings:
        check = f"network {network.policy} in {location.name}"
        subnet = await self._cloud.look("read a subnet", lambda: self._arm.subnet(network.subnet), NO_NETWORK)
        group = await self._cloud.look(
            "read a security group", lambda: self._arm.security_group(network.security_group), NO_NETWORK
        )
        if subnet is None or group is None:
            lost = network.subnet if subnet is None else network.security_group
            return [_fault(check, f"{lost} is not there", "name one that is")]
        if (place := group.get("location")) and not same_place(place, location.name):
            return [_fault(check, f"{network.security_group} is in {place}", "name one of the machines' location")]
        rules = (group.get("properties") or {}).get("securityRules") or ()
        faults = faults_of(rules, NetworkPolicy(network.policy), self._config.ssh_port)
        if faults:
            return [_fault(check, "; ".join(faults), "give it the rules that `compute-bridge azure policy` prints")]
        return [_ok(check, "guests are walled")]


def _owner(disk: dict[str, Any]) -> str:
    return str((disk.get("tags") or {}).get(OWNER) or "")


def _disks(found: list[dict[str, Any]]) -> str:
    sizes = ((one, (one.get("properties") or {}).get("diskSizeGB")) for one in found)
    return ", ".join(f"{one.get('name')} ({'?' if gib is None else gib} GiB)" for one, gib in sizes)


def _grants(role: dict[str, Any], action: str) -> bool:
    return _matches(role.get("actions") or (), action) and not _matches(role.get("notActions") or (), action)


def _matches(patterns: Iterable[str], action: str) -> bool:
    return any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), action, re.IGNORECASE) for one in patterns)


def _group_of(resource: str) -> str:
    return "/".join(resource.split("/")[:5])


def _ok(check: str, detail: str) -> Finding:
    return Finding(check[:128], Verdict.OK, _clean(detail))


def _fault(check: str, detail: str, mend: str) -> Finding:
    return Finding(check[:128], Verdict.FAULT, _clean(detail), mend)


def _unknown(check: str, detail: str, mend: str = _UNSEEN) -> Finding:
    return Finding(check[:128], Verdict.UNKNOWN, _clean(detail), mend)


def _clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_MAX_DETAIL]
