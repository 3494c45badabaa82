"""The smallest cloud there is: a facade over the physics that speaks JSON. The example for facades of real clouds.

::

    GET    /shapes                  what is sold, and whether it is free
    POST   /machines                make one: token, name, shape, zone, spot, tags, user_data (base64)
    GET    /machines?owner=WORD     list those with that tag, ended ones also
    DELETE /machines/ID             end one

An error is ``{"code": "..."}``. Whatever the wire could say wrongly is refused with ``bad-request``, never ignored.
"""

import binascii
import hmac
import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

from attrs import frozen

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Code, Machine, Refusal
from compute_bridge.testing.physics.wire import Cut, Request, Response

_STATUS = {
    Code.CREDENTIALS: 401,
    Code.THROTTLED: 429,
    Code.CAPACITY: 503,
    Code.QUOTA: 403,
    Code.NAME_TAKEN: 409,
    Code.TOKEN_MISMATCH: 409,
    Code.TOKEN_USED_UP: 409,
    Code.NOT_FOUND: 404,
    Code.IN_USE: 409,
}
_FIELDS = {"token": str, "name": str, "shape": str, "zone": str, "spot": bool, "tags": dict, "user_data": str}


@frozen
class ToyShape:
    """One size of machine, and what an hour of it costs in nanos of a euro, on demand and spot."""

    name: str
    vcpus: int
    mem_mib: int
    disk_gib: int
    nanos: int
    spot_nanos: int


SHAPES = (
    ToyShape("toy-small", 4, 8192, 40, 40_000_000, 12_000_000),
    ToyShape("toy-large", 16, 65_536, 200, 190_000_000, 60_000_000),
)
ZONES = {"toy-north": ("toy-north-a", "toy-north-b"), "toy-south": ("toy-south-a",)}


class BadRequest(Exception):  # noqa: N818 - an answer of the facade
    """The request is not such as this cloud takes."""


class ToyFacade:
    """Answers requests; hand :meth:`answer` to a :class:`~compute_bridge.testing.physics.wire.WireServer`."""

    def __init__(self, physics: Physics, api_key: str) -> None:
        self._physics = physics
        self._api_key = api_key

    def answer(self, request: Request) -> Response:
        """Return the answer to one request."""
        try:
            return self._route(request)
        except BadRequest as error:
            return Response.json({"code": "bad-request", "message": str(error)}, status=400)
        except Refusal as refusal:
            if refusal.code is Code.DOWN:
                raise Cut from refusal
            wait = {"Retry-After": str(refusal.retry_after_s)} if refusal.code is Code.THROTTLED else {}
            return Response.json({"code": refusal.code}, status=_STATUS[refusal.code], headers=wait)

    def _route(self, request: Request) -> Response:
        method, path = request.method, request.path.split("/")[1:]
        if (method, path) == ("GET", ["shapes"]):
            self._admit(request, "shapes", changes=False)
            return Response.json(self._shapes())
        if (method, path) == ("GET", ["machines"]):
            self._admit(request, "list", changes=False)
            return Response.json([_told(one) for one in self._physics.listed() if _is_owned(one, request)])
        if (method, path) == ("POST", ["machines"]):
            self._admit(request, "create", changes=True)
            return self._create(request)
        if method == "DELETE" and path[0] == "machines" and len(path) == 2:
            self._admit(request, "delete", changes=True)
            self._physics.get(path[1])
            return Response.json(_told(self._physics.end(path[1])), status=202)
        raise BadRequest(f"no such call: {method} {request.path}")

    def _admit(self, request: Request, op: str, *, changes: bool) -> None:
        self._physics.admit(op, changes=changes)
        shown = request.headers.get("authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {self._api_key}".encode()):
            raise Refusal(Code.CREDENTIALS)

    def _shapes(self) -> list[dict[str, Any]]:
        return [
            {
                "shape": shape.name,
                "region": region,
                "zone": zone,
                "vcpus": shape.vcpus,
                "mem_mib": shape.mem_mib,
                "disk_gib": shape.disk_gib,
                "nanos": shape.nanos,
                "spot_nanos": shape.spot_nanos,
                "free": self._physics.has_room(zone),
            }
            for region, zones in sorted(ZONES.items())
            for zone in zones
            for shape in SHAPES
        ]

    def _create(self, request: Request) -> Response:
        wanted = _fields(request)
        shapes = {shape.name: shape for shape in SHAPES}
        regions = {zone: region for region, zones in ZONES.items() for zone in zones}
        if wanted["shape"] not in shapes or wanted["zone"] not in regions:
            raise BadRequest("no such shape or zone")
        launch = self._physics.launch(
            region=regions[wanted["zone"]],
            zone=wanted["zone"],
            shape=wanted["shape"],
            vcpus=shapes[wanted["shape"]].vcpus,
            name=wanted["name"],
            name_scope="",
            token=wanted["token"],
            digest=sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest(),
            spot=wanted["spot"],
            tags=wanted["tags"],
            user_data=_decoded(wanted["user_data"]),
        )
        if launch.is_new:
            self._physics.add("disk", f"{launch.machine.id}-disk", machine=launch.machine.id)
        if launch.is_answer_lost:
            raise Cut
        return Response.json(_told(launch.machine), status=201 if launch.is_new else 200)


def _fields(request: Request) -> dict[str, Any]:
    try:
        wanted = request.json()
    except ValueError as error:
        raise BadRequest("no JSON") from error
    if not isinstance(wanted, dict) or wanted.keys() != _FIELDS.keys():
        raise BadRequest(f"the fields are {', '.join(_FIELDS)}: each of them, and no other")
    for name, kind in _FIELDS.items():
        if type(wanted[name]) is not kind:
            raise BadRequest(f"{name} is no {kind.__name__}")
    if not wanted["token"] or not wanted["name"]:
        raise BadRequest("token and name may not be empty")
    return wanted


def _decoded(user_data: str) -> bytes:
    try:
        return b64decode(user_data, validate=True)
    except binascii.Error as error:
        raise BadRequest("user_data is no base64") from error


def _is_owned(machine: Machine, request: Request) -> bool:
    return machine.tags.get("cb-owner", "") == request.param("owner")


def _told(machine: Machine) -> dict[str, Any]:
    return {
        "id": machine.id,
        "name": machine.name,
        "state": machine.state,
        "address": machine.address if machine.running_ms else "",
        "started_ms": machine.created_ms,
        "ended_ms": machine.ended_ms,
        "why": machine.end.why if machine.end else "",
        "code": machine.end.code if machine.end else "",
        "marked_ms": machine.preempted_ms if machine.is_marked else 0,
        "tags": dict(machine.tags),
    }
