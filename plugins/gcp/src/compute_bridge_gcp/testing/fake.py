"""Compute Engine on loopback: the part of its REST protocol that we use, over the physics that all fakes share.

What the vendor refuses is refused, never ignored: unknown fields and parameters, wrong words, missing permissions,
tokens of strangers. Ids are decimal strings, 64-bit numbers are strings, enums are words.
"""

import re
from collections.abc import Callable
from typing import Any

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.held_call import HeldCall
from compute_bridge.testing.physics.matter import Code, Refusal
from compute_bridge.testing.physics.wire import Cut, Request, Response, WireServer
from compute_bridge_gcp.policy import METRICS
from compute_bridge_gcp.testing.checks import BadRequestError
from compute_bridge_gcp.testing.instances import Instances
from compute_bridge_gcp.testing.monitoring import TAKES, Monitoring
from compute_bridge_gcp.testing.operations import Operations
from compute_bridge_gcp.testing.shelf import Shelf
from compute_bridge_gcp.testing.stock import ACCOUNT, PROJECT, ZONES
from compute_bridge_gcp.testing.tokens import bearer_of

Handler = Callable[..., Any]

_COMMON = frozenset({"$alt", "alt", "prettyPrint"})
_LISTS = frozenset({"filter", "maxResults", "pageToken", "orderBy", "returnPartialSuccess", "includeAllScopes"})


class Route:
    """One operation: how it is asked for, what it needs, and who answers."""

    def __init__(
        self, op: str, method: str, path: str, handler: Handler, *, needs: tuple[str, ...] = (), takes: frozenset[str]
    ) -> None:
        self.op = op
        self.method = method
        self.path = re.compile(path)
        self.handler = handler
        self.needs = needs
        self.takes = takes | _COMMON


class FakeComputeEngine:
    """One project. ``granted`` is what the service account may do; None for everything.

    ``unreachables`` are places other than zones that an aggregated list names as lacking.
    """

    def __init__(self, physics: Physics) -> None:
        self.physics = physics
        self.granted: frozenset[str] | None = None
        self.account = ACCOUNT
        self.tokens: set[str] = set()
        self.throttled_as = (429, "rateLimitExceeded")
        self.unreachables: tuple[str, ...] = ()
        self._gates: dict[str, HeldCall] = {}
        self._next_refusals: dict[str, tuple[int, str]] = {}
        self.wire = WireServer(self._serve)
        base = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
        self.shelf = Shelf(physics, base)
        self.operations = Operations(physics, base)
        self.instances = Instances(physics, self.operations, base, self.shelf.down_zones)
        self.monitoring = Monitoring(physics)
        self._routes = self._all_routes()

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.wire.url

    def go_down(self, zone: str) -> None:
        """Answer for one zone no more."""
        self.shelf.down_zones.add(zone)
        self.physics.go_down(zone)

    def come_back(self) -> None:
        """Answer for every zone."""
        self.shelf.down_zones.clear()
        self.physics.come_back()

    def refuse_next(self, op: str, status: int, reason: str) -> None:
        """Refuse the next call of an operation."""
        self._next_refusals[op] = (status, reason)

    def hold_next(self, op: str) -> HeldCall:
        """Hold the answer of the next call of an operation, which is done already; to be called on the event loop."""
        gate = HeldCall()
        self._gates[op] = gate
        return gate

    def close(self) -> None:
        """End the server."""
        self.wire.close()

    # --- the protocol ---------------------------------------------------------------------------

    def _serve(self, request: Request) -> Response:
        try:
            return Response.json(self._answer(request))
        except BadRequestError as refused:
            return _refusal(refused.status, refused.reason, str(refused))
        except Refusal as refused:
            return self._refused(refused)

    def _answer(self, request: Request) -> Any:
        for route in self._routes:
            found = route.path.fullmatch(request.path)
            if found and route.method == request.method:
                break
        else:
            raise BadRequestError(f"{request.method} {request.path} is no call", reason="notFound", status=404)
        place = found.groupdict().get("zone") or ""
        self.physics.admit(route.op, changes=route.op in ("insert", "delete"), place=place)
        self._require_caller(request)
        self._require_permissions(route)
        if route.op in self._next_refusals:
            status, reason = self._next_refusals.pop(route.op)
            raise BadRequestError("refused by a lever", reason=reason, status=status)
        if unknown := request.params.keys() - route.takes:
            raise BadRequestError(f"unknown parameters {sorted(unknown)}")
        if found.groupdict().get("project", PROJECT) != PROJECT and "images" not in request.path:
            raise BadRequestError("no such project", reason="notFound", status=404)
        if place and all(place not in zones for zones in ZONES.values()):
            raise BadRequestError(f"no zone {place}", reason="notFound", status=404)
        answer = route.handler(request, **found.groupdict())
        if gate := self._gates.pop(route.op, None):
            gate.hold()
        return answer

    def _require_caller(self, request: Request) -> None:
        header = request.headers.get("authorization", "")
        self.tokens.add(header.partition(" ")[2])
        if bearer_of(header) != self.account:
            raise BadRequestError("Login Required.", reason="required", status=401)

    def _require_permissions(self, route: Route) -> None:
        lacking = [] if self.granted is None else sorted(set(route.needs) - self.granted)
        if lacking:
            raise BadRequestError(f"Required '{lacking[0]}' permission", reason="forbidden", status=403)

    def _refused(self, refused: Refusal) -> Response:
        if refused.code is Code.DOWN and not refused.place:
            raise Cut
        if refused.code is Code.THROTTLED:
            status, reason = self.throttled_as
            return _refusal(status, reason, "too many", retry_after_s=refused.retry_after_s)
        status, reason = {
            Code.DOWN: (503, "backendError"),
            Code.CREDENTIALS: (401, "authError"),
            Code.QUOTA: (403, "quotaExceeded"),
            Code.NAME_TAKEN: (409, "alreadyExists"),
            Code.NOT_FOUND: (404, "notFound"),
        }[refused.code]
        return _refusal(status, reason, str(refused))

    # --- the calls ------------------------------------------------------------------------------

    def _all_routes(self) -> list[Route]:
        project = r"/compute/v1/projects/(?P<project>[^/]+)"
        zone = project + r"/zones/(?P<zone>[^/]+)"
        one = zone + r"/instances/(?P<name>[^/]+)"
        images = project + r"/global/images"
        none: frozenset[str] = frozenset()
        return [
            Route(
                "insert", "POST", f"{zone}/instances", self._insert, needs=INSERT_NEEDS, takes=frozenset({"requestId"})
            ),
            Route("delete", "DELETE", one, self._delete, needs=("compute.instances.delete",), takes=_DELETE),
            Route("get", "GET", one, self._get, needs=("compute.instances.get",), takes=none),
            Route(
                "aggregatedList",
                "GET",
                f"{project}/aggregated/instances",
                self._list,
                needs=("compute.instances.list",),
                takes=_LISTS,
            ),
            Route(
                "zoneOperations.get",
                "GET",
                zone + r"/operations/(?P<name>[^/]+)",
                self._operation,
                needs=("compute.zoneOperations.get",),
                takes=none,
            ),
            Route(
                "zoneOperations.list",
                "GET",
                f"{zone}/operations",
                self._operations,
                needs=("compute.zoneOperations.list",),
                takes=_LISTS,
            ),
            Route(
                "timeSeries.list",
                "GET",
                r"/v3/projects/(?P<project>[^/]+)/timeSeries",
                self.monitoring.answer,
                needs=METRICS,
                takes=TAKES,
            ),
            *self._shelf_routes(project, images, none),
        ]

    def _shelf_routes(self, project: str, images: str, none: frozenset[str]) -> list[Route]:
        shelf = self.shelf

        def listing(op: str, path: str, read: Callable[[], list[dict[str, Any]]], permission: str) -> Route:
            def answer(request: Request, **_: str) -> Any:
                return _paged(request, read())

            return Route(op, "GET", project + path, answer, needs=(permission,), takes=_LISTS)

        return [
            listing("regions.list", "/regions", shelf.regions, "compute.regions.list"),
            listing("zones.list", "/zones", shelf.zones, "compute.zones.list"),
            listing("firewalls.list", "/global/firewalls", shelf.firewalls, "compute.firewalls.list"),
            Route(
                "machineTypes.aggregatedList",
                "GET",
                f"{project}/aggregated/machineTypes",
                self._machine_types,
                needs=("compute.machineTypes.list",),
                takes=_LISTS,
            ),
            Route(
                "images.getFromFamily",
                "GET",
                images + r"/family/(?P<family>[^/]+)",
                self._image,
                needs=("compute.images.getFromFamily",),
                takes=none | {"zone"},
            ),
            Route(
                "images.get",
                "GET",
                images + r"/(?P<name>[^/]+)",
                self._image,
                needs=("compute.images.get",),
                takes=none,
            ),
            Route(
                "subnetworks.get",
                "GET",
                project + r"/regions/(?P<region>[^/]+)/subnetworks/(?P<name>[^/]+)",
                self._subnetwork,
                needs=("compute.subnetworks.get",),
                takes=frozenset({"views"}),
            ),
            Route(
                "projects.get",
                "GET",
                project,
                lambda _request, **_: {"id": "7"},
                needs=("compute.projects.get",),
                takes=frozenset({"fields"}),
            ),
            Route(
                "testIamPermissions",
                "POST",
                r"/v1/projects/(?P<project>[^/:]+):testIamPermissions",
                self._granted,
                takes=none,
            ),
            Route("skus.list", "GET", r"/v1/services/6F81-5844-456A/skus", self._skus, takes=_SKUS),
        ]

    def _insert(self, request: Request, zone: str, **_: str) -> Any:
        return self.instances.insert(zone, request.param("requestId"), _object(request), self.account)

    def _delete(self, request: Request, zone: str, name: str, **_: str) -> Any:
        return self.instances.delete(zone, name, request.param("requestId"), self.account)

    def _get(self, request: Request, zone: str, name: str, **_: str) -> Any:
        return self.instances.get(zone, name)

    def _list(self, request: Request, **_: str) -> Any:
        found = self.instances.matching(request.param("filter"))
        return self._aggregated(request, found, "instances")

    def _operation(self, request: Request, zone: str, name: str, **_: str) -> Any:
        return _found(self.operations.get(zone, name))

    def _operations(self, request: Request, zone: str, **_: str) -> Any:
        found = self.operations.all(zone, request.param("filter"))
        if found is None:
            raise BadRequestError("Invalid value for field 'filter'")
        return _paged(request, found)

    def _aggregated(self, request: Request, items: list[tuple[str, dict[str, Any]]], key: str) -> Any:
        begin, end, more = _window(request, len(items))
        down = self.shelf.down_zones
        scopes: dict[str, Any] = {}
        for zone in (zone for zones in ZONES.values() for zone in zones):
            here = [item for its_zone, item in items[begin:end] if its_zone == zone and zone not in down]
            code = "UNREACHABLE" if zone in down else "NO_RESULTS_ON_PAGE"
            scopes[f"zones/{zone}"] = {key: here} if here else {"warning": {"code": code, "message": "nothing"}}
        silent = [*(f"zones/{zone}" for zone in sorted(down)), *self.unreachables]
        return {"items": scopes, "unreachables": silent, **more}

    def _machine_types(self, request: Request, **_: str) -> Any:
        return self._aggregated(request, self.shelf.machine_types(), "machineTypes")

    def _image(self, request: Request, project: str, family: str = "", name: str = "") -> Any:
        return _found(self.shelf.image(project, family=family, name=name))

    def _subnetwork(self, request: Request, region: str, name: str, **_: str) -> Any:
        return _found(self.shelf.subnetwork(region, name))

    def _granted(self, request: Request, **_: str) -> Any:
        asked = _object(request).get("permissions", [])
        return {"permissions": [one for one in asked if self.granted is None or one in self.granted]}

    def _skus(self, request: Request, **_: str) -> Any:
        skus = self.shelf.skus_in(request.param("currencyCode") or "USD")
        return _paged(request, skus, key="skus", size="pageSize", most=5000)


_INSERT = frozenset({"requestId", "sourceInstanceTemplate", "sourceMachineImage"})
_DELETE = frozenset({"requestId", "noGracefulShutdown"})
_SKUS = frozenset({"currencyCode", "pageSize", "pageToken"})

INSERT_NEEDS = (
    "compute.instances.create",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setTags",
    "compute.disks.create",
    "compute.disks.setLabels",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
)


def _refusal(status: int, reason: str, message: str, *, retry_after_s: float = 0.0) -> Response:
    error = {
        "code": status,
        "message": message,
        "errors": [{"domain": "global", "reason": reason, "message": message}],
    }
    headers = {"Retry-After": str(int(retry_after_s))} if retry_after_s else {}
    return Response.json({"error": error}, status=status, headers=headers)


def _object(request: Request) -> dict[str, Any]:
    try:
        value = request.json()
    except ValueError as error:
        raise BadRequestError("the body is no JSON", reason="parseError") from error
    if not isinstance(value, dict):
        raise BadRequestError("the body is no object", reason="parseError")
    return value


def _found(value: dict[str, Any] | None) -> dict[str, Any]:
    if value is None:
        raise BadRequestError("was not found", reason="notFound", status=404)
    return value


def _window(request: Request, total: int, size: str = "maxResults", most: int = 500) -> tuple[int, int, dict[str, str]]:
    count = int(request.param(size) or most)
    if not 1 <= count <= most:
        raise BadRequestError(f"{size} {count} is not from 1 to {most}")
    begin = int(request.param("pageToken") or 0)
    return begin, begin + count, {"nextPageToken": str(begin + count)} if begin + count < total else {}


def _paged(
    request: Request, items: list[dict[str, Any]], *, key: str = "items", size: str = "maxResults", most: int = 500
) -> Any:
    begin, end, more = _window(request, len(items), size, most)
    return {key: items[begin:end], **more}
