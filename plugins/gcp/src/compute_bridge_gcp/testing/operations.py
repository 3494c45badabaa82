"""The operations of a fake project: what was asked, and what the vendor did by itself, told from its machines."""

import re
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Machine, State, Why

_TARGET = re.compile(r'targetLink eq "(?P<pattern>[^"]+)"')
_PREEMPTED = "compute.instances.preempted"
_BY_ITSELF = {
    Why.CRASHED: "compute.instances.hostError",
    Why.GUEST: "compute.instances.guestTerminate",
    Why.DEADLINE: "delete",
}
_HTTP = {"QUOTA_EXCEEDED": 403}


def stamp(ms: int) -> str:
    """Return a time as the vendor writes it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _target(machine: Machine) -> str:
    return f"{machine.zone}/instances/{machine.name}"


@frozen
class Asked:
    """One request for a change: of a machine, or of none where it failed before there was any."""

    number: int
    kind: str
    zone: str
    target: str
    user: str
    at_ms: int
    machine: str = ""
    code: str = ""
    fails_in_ms: int = 1000


class Operations:
    """Every operation, by its name. What the vendor did by itself is listed ``late_ms`` after it began."""

    late_ms = 0

    def __init__(self, physics: Physics, base: str) -> None:
        self._physics = physics
        self._base = base
        self._asked: dict[str, Asked] = {}
        self._inserts: dict[str, Asked] = {}

    def note(
        self, kind: str, zone: str, target: str, user: str, *, machine: str = "", code: str = ""
    ) -> dict[str, Any]:
        """Remember a request, and return its operation."""
        number = len(self._asked) + 1
        asked = Asked(number, kind, zone, target, user, self._physics.now_ms(), machine, code)
        self._asked[f"operation-{number}"] = asked
        if kind == "insert" and machine:
            self._inserts[machine] = asked
        return self._told(asked)

    def get(self, zone: str, name: str) -> dict[str, Any] | None:
        """Return an operation as it stands."""
        asked = self._asked.get(name)
        return self._told(asked) if asked is not None and asked.zone == zone else None

    def insert_of(self, machine: str) -> dict[str, Any]:
        """Return the operation that made a machine."""
        return self._told(self._inserts[machine])

    def all(self, zone: str, where: str) -> list[dict[str, Any]] | None:
        """Return the operations of a zone that match a filter, or None for a filter that is none."""
        found = _TARGET.fullmatch(where) if where else None
        if where and found is None:
            return None
        # What is not asked for is not told first: each lease that ends asks for its own, and there may be thousands.
        wanted = re.compile(found["pattern"] if found else ".*")
        asked = [one for one in self._asked.values() if one.zone == zone and wanted.fullmatch(self._link(one.target))]
        made = [one for one in self._physics.made() if one.zone == zone and wanted.fullmatch(self._link(_target(one)))]
        return [self._told(one) for one in asked] + [event for one in made for event in self._by_itself(one)]

    def _told(self, asked: Asked) -> dict[str, Any]:
        machine = self._machine(asked)
        code, done_ms = self._outcome(asked, machine)
        operation = self._operation(asked.number, asked.kind, asked.zone, asked.target, asked.user, asked.at_ms)
        if not done_ms:
            return operation | {"status": "RUNNING", "progress": 50}
        operation |= {"status": "DONE", "progress": 100, "endTime": stamp(done_ms)}
        if code:
            operation["error"] = {"errors": [{"code": code, "message": "it could not be done"}]}
            operation |= {"httpErrorStatusCode": _HTTP.get(code, 503), "httpErrorMessage": "SERVICE UNAVAILABLE"}
        return operation

    def _machine(self, asked: Asked) -> Machine | None:
        # It may be gone, or too young to be shown; the operation knows it all the same.
        return self._physics.ever(asked.machine) if asked.machine else None

    def _outcome(self, asked: Asked, machine: Machine | None) -> tuple[str, int]:
        if machine is None:
            done_ms = asked.at_ms + asked.fails_in_ms
            return asked.code, done_ms if self._physics.now_ms() >= done_ms else 0
        if asked.kind == "delete":
            return "", machine.gone_ms
        if machine.end is not None and machine.end.why is Why.FAILED:
            return machine.end.code, machine.ended_ms
        return "", machine.running_ms or machine.ended_ms

    def _by_itself(self, machine: Machine) -> list[dict[str, Any]]:
        told, by_ms = [], self._physics.now_ms() - self.late_ms
        if machine.notice_ms and machine.notice_ms <= min(by_ms, machine.ended_ms or by_ms):
            told.append(self._event(2, machine, _PREEMPTED, machine.notice_ms))
        if machine.end is not None and machine.end.why in _BY_ITSELF and machine.ended_ms <= by_ms:
            told.append(self._event(1, machine, _BY_ITSELF[machine.end.why], machine.ended_ms))
        return told

    def _event(self, number: int, machine: Machine, kind: str, at_ms: int) -> dict[str, Any]:
        at = int(machine.id) + number * 10**9
        told = self._operation(at, kind, machine.zone, _target(machine), "system", at_ms)
        over = machine.gone_ms or (machine.ended_ms if machine.state is State.STOPPED else 0)
        return told | ({"status": "DONE", "endTime": stamp(over)} if over else {"status": "RUNNING"})

    def _link(self, target: str) -> str:
        return f"{self._base}/zones/{target}"

    def _operation(self, number: int, kind: str, zone: str, target: str, user: str, at_ms: int) -> dict[str, Any]:
        name = f"operation-{number}"
        return {
            "kind": "compute#operation",
            "id": str(number),
            "name": name,
            "zone": f"{self._base}/zones/{zone}",
            "operationType": kind,
            "targetLink": self._link(target),
            "user": user,
            "insertTime": stamp(at_ms),
            "startTime": stamp(at_ms),
            "selfLink": f"{self._base}/zones/{zone}/operations/{name}",
        }
