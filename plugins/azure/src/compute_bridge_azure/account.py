"""From the listings of a group to machines: what each is, and what of those that ended still stands."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from compute_bridge.cloud.machine import Machine, MachineState
from compute_bridge.cloud.tags import OWNER, OwnedTags
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, InstanceExit
from compute_bridge.ports.errors import BackendError
from compute_bridge.wire.keys import instance_name
from compute_bridge_azure.errors import failure_of

Json = dict[str, Any]

NIC, ADDRESS, DISK = "nic", "address", "disk"
_NAME = re.compile(r"(?P<name>cb-[0-9a-f]{24})(-(nic|ip|os).*)?", re.IGNORECASE)
# A state on its way, stopping or deallocating, is neither: an eviction, a delete and a power-off from inside all pass
# through it, so nothing is concluded from it.
_ENDED = {"stopped": "was powered off from inside; it goes on billing until it is deleted"}
_UNDER_WAY = ("starting", "running", "stopping", "deallocating")
_MADE = ("succeeded", "failed")
# A machine that failed, and whose status no list shows, failed as it was made while it is younger than this. An older
# one may have run for days, and what failed is a change of it; one that never ran is given up after ``ready_s``.
_YOUNG_MS = 600_000
_TAKEN = {"deallocated": "was deallocated by someone who may"}


@frozen
class Part:
    """Something that was made for a machine and stands though nothing uses it."""

    kind: str
    name: str


@frozen
class Listings:
    """What one tick reads, and the moment of it by Azure's clock.

    Five reads at five moments: the parts before the machines, and within the two groups in any order. So one list may
    tell of a machine what another does not know yet.
    """

    nics: list[Json]
    addresses: list[Json]
    disks: list[Json]
    machines: list[Json]
    statuses: list[Json]
    now_ms: UtcMs


@frozen
class Account:
    """One owner's view of the group."""

    backend: BackendName
    owner: str
    known: Mapping[InstanceId, OwnedTags] = field(factory=dict)
    """What earlier listings told: a disk may carry no tags, and be the last that is there of a machine."""
    coming: frozenset[InstanceId] = frozenset()
    """What was made so lately that no list need show it yet: its parts may stand before anything shows whose."""

    def machines(self, read: Listings) -> "Seen":
        """Return every machine of ours, and every one that is gone but for its parts."""
        statuses = {_key(one.get("id")): one for one in read.statuses}
        addresses = self._addresses(read)
        present = {str(one.get("name")) for one in read.machines}
        found: dict[InstanceId, Machine] = {}
        for one in read.machines:
            name = str(one.get("name"))
            if (tags := self._tags(one, name)) is not None:
                view = statuses.get(_key(one.get("id")), {})
                found[InstanceId(name)] = self._machine(one, view, tags, addresses.get(name, ""), read.now_ms)
        loose, leaving = _loose(read, present | self.coming), _leaving(read)
        for id_, tags in self._bereft(read, present).items():
            # A part in use whose machine no listing shows: the machine's listing is behind.
            is_ending = id_ in loose or id_ in leaving
            state = MachineState.ENDING if is_ending else MachineState.PENDING
            found[id_] = Machine(id_, state, tags, stays=id_ in loose)
        return Seen(found, loose)

    def _bereft(self, read: Listings, present: set[str]) -> dict[InstanceId, OwnedTags]:
        found: dict[InstanceId, OwnedTags] = {}
        for one in (*read.nics, *read.addresses, *read.disks):
            name = owner_name(one)
            if not name or name in present:
                continue
            tags = self._tags(one, name) or (None if one.get("tags") else self.known.get(InstanceId(name)))
            if tags is not None:
                found[InstanceId(name)] = tags
        return found

    def _tags(self, resource: Json, name: str) -> OwnedTags | None:
        tags = resource.get("tags") or {}
        if tags.get(OWNER) != self.owner:
            return None
        try:
            return OwnedTags.read(tags, name=name)
        except RecordError:
            return None

    def _addresses(self, read: Listings) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in read.addresses:
            told = str((one.get("properties") or {}).get("ipAddress") or "")
            if told and (name := owner_name(one)):
                found[name] = told
        return found

    def _machine(self, one: Json, view: Json, tags: OwnedTags, host: str, now_ms: UtcMs) -> Machine:
        properties = one.get("properties") or {}
        codes = _codes(view)
        provisioning = str(properties.get("provisioningState")).lower()
        # Either list may be the older one, and nothing comes back from this.
        is_leaving = "deleting" in (provisioning, _provisioning(codes))
        started_at = read_time(properties.get("timeCreated"))
        failure = self._failure(one, provisioning, codes, is_young=now_ms - started_at < _YOUNG_MS)
        name = str(one.get("name"))
        state = MachineState.ENDING if is_leaving or failure is not None else _state(provisioning, codes)
        return Machine(
            InstanceId(name),
            state,
            tags,
            host=host,
            started_at=started_at,
            # Whoever deletes it, the list of it does not tell why.
            exit=None if is_leaving else self._exit(view, tags, now_ms),
            failure=failure,
        )

    def _failure(self, one: Json, provisioning: str, codes: list[str], *, is_young: bool) -> BackendError | None:
        if _power(codes) in _UNDER_WAY:
            # It was made: what failed is a change of it, later and by another hand.
            return None
        told = (failure_of(code, self.backend, str(one.get("location"))) for code in codes)
        if (failure := next(filter(None, told), None)) is not None:
            return failure
        # Where the status does not speak of a failure yet, it is the older one, and the next will say of which kind.
        if is_young and provisioning == "failed" and not _power(codes) and not _provisioning(codes):
            return failure_of("ProvisioningState/failed", self.backend, str(one.get("location")))
        return None

    def _exit(self, view: Json, tags: OwnedTags, now_ms: UtcMs) -> InstanceExit | None:
        power = _power(_codes(view))
        if power in _TAKEN:
            return InstanceExit(ExitCause.TERMINATED, _ended_at(view), _TAKEN[power])
        if power not in _ENDED:
            return None
        ended_at = _ended_at(view)
        # By Azure's clock, not by ours: a wrong clock of the bridge turns no crash into a deadline.
        is_over = (ended_at or now_ms) >= tags.ends_at
        return InstanceExit(ExitCause.DEADLINE if is_over else ExitCause.EXITED, ended_at, _ENDED[power])


@frozen
class Seen:
    """What one tick shows, and for each machine that the group no longer has what of it can be deleted now."""

    machines: dict[InstanceId, Machine]
    loose: dict[InstanceId, tuple[Part, ...]]


def machine_name(part: str) -> str:
    """Return the name of the machine that something was made for, by its own name; empty for what is not ours."""
    match = _NAME.fullmatch(part)
    return match["name"].lower() if match else ""


def owner_name(part: Json) -> str:
    """Return the name of the machine that something was made for; empty for what is not ours.

    By the tags where its own name does not tell: what Azure makes along with a machine it may name as it likes.
    """
    if name := machine_name(str(part.get("name"))):
        return name
    try:
        return instance_name(OwnedTags.read(part.get("tags") or {}, name="part").token)
    except RecordError:
        return ""


def stray_disks(disks: Iterable[Json], machines: Iterable[Json]) -> list[Json]:
    """Return the disks that no machine has or will have; the machines are to be read after the disks."""
    there = {str(one.get("name")).lower() for one in machines}
    return [
        one
        for one in disks
        if not (_is_used(DISK, one, set()) or _is_leaving(one) or machine_name(str(one.get("name"))) in there)
    ]


def read_time(told: object) -> UtcMs:
    """Return a time of Azure's in milliseconds, 0 where there is none: it has up to seven digits of a second."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", str(told or ""))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return UtcMs(0)
    return UtcMs(int(moment.timestamp() * 1000)) if moment.tzinfo else UtcMs(0)


def _state(provisioning: str, codes: Iterable[str]) -> MachineState:
    power = _power(codes)
    if power in _ENDED or power in _TAKEN:
        return MachineState.ENDING
    return MachineState.RUNNING if power == "running" and provisioning in _MADE else MachineState.PENDING


def _codes(view: Json) -> list[str]:
    statuses = ((view.get("properties") or {}).get("instanceView") or {}).get("statuses") or ()
    return [str(one.get("code")) for one in statuses]


def _power(codes: Iterable[str]) -> str:
    return _word("powerstate", codes)


def _provisioning(codes: Iterable[str]) -> str:
    return _word("provisioningstate", codes)


def _word(kind: str, codes: Iterable[str]) -> str:
    told = (code.lower().split("/") for code in codes)
    return next((words[1] for words in told if words[0] == kind and len(words) > 1), "")


def _ended_at(view: Json) -> UtcMs:
    statuses = ((view.get("properties") or {}).get("instanceView") or {}).get("statuses") or ()
    told = (one.get("time") for one in statuses if str(one.get("code")).lower().startswith("powerstate/"))
    return read_time(next(told, None))


def _loose(read: Listings, present: set[str]) -> dict[InstanceId, tuple[Part, ...]]:
    nics = {_key(one.get("id")) for one in read.nics}
    parts: dict[InstanceId, list[Part]] = {}
    for kind, ones in ((NIC, read.nics), (ADDRESS, read.addresses), (DISK, read.disks)):
        for one in ones:
            name = owner_name(one)
            if name and name not in present and not _is_used(kind, one, nics) and not _is_leaving(one):
                parts.setdefault(InstanceId(name), []).append(Part(kind, str(one.get("name"))))
    return {id_: tuple(found) for id_, found in parts.items()}


def _leaving(read: Listings) -> set[InstanceId]:
    parts = (*read.nics, *read.addresses, *read.disks)
    return {InstanceId(owner_name(one)) for one in parts if _is_leaving(one)}


def _is_leaving(one: Json) -> bool:
    return str((one.get("properties") or {}).get("provisioningState")).lower() == "deleting"


def _is_used(kind: str, one: Json, nics: set[str]) -> bool:
    properties = one.get("properties") or {}
    if kind == NIC:
        return bool((properties.get("virtualMachine") or {}).get("id"))
    if kind == DISK:
        return bool(one.get("managedBy"))
    used_by = _key((properties.get("ipConfiguration") or {}).get("id"))
    return used_by.partition("/ipconfigurations/")[0] in nics


def _key(id_: object) -> str:
    # Azure spells one id in several ways: RESOURCEGROUPS, resourcegroups.
    return str(id_ or "").lower()
