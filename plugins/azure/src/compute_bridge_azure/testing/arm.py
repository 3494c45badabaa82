"""The Resource Manager, the directory and the retail prices on one loopback address, over HTTPS."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from attrs import evolve, frozen

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Machine, Refusal, State
from compute_bridge.testing.physics.tls import Tls
from compute_bridge.testing.physics.wire import Request, Response, WireServer
from compute_bridge_azure.testing.answers import No, invalid, no_of
from compute_bridge_azure.testing.images import FakeImages
from compute_bridge_azure.testing.machines import ADDRESS, DISK, NIC, FakeMachines
from compute_bridge_azure.testing.market import price_items, usages
from compute_bridge_azure.testing.orders import Rules
from compute_bridge_azure.testing.tokens import Tokens
from compute_bridge_azure.testing.views import metric_views, status_view

Json = dict[str, Any]

_COMPUTE = "Microsoft.Compute"
_NETWORK = "Microsoft.Network"
_JOINS = (f"{_NETWORK}/virtualNetworks/subnets/join/action", f"{_NETWORK}/networkSecurityGroups/join/action")
_MAKES = tuple(
    f"{kind}/write"
    for kind in (
        f"{_COMPUTE}/virtualMachines",
        f"{_COMPUTE}/disks",
        f"{_NETWORK}/networkInterfaces",
        f"{_NETWORK}/publicIPAddresses",
    )
)
_USES = (f"{_NETWORK}/networkInterfaces/join/action", f"{_NETWORK}/publicIPAddresses/join/action", *_JOINS)


@frozen
class _Route:
    method: str
    pattern: re.Pattern[str]
    op: str
    actions: tuple[str, ...]
    serve: Callable[[Request, Mapping[str, str]], Response]
    params: tuple[str, ...] = ()


class ArmFake:
    """One subscription with one resource group, and whoever answers beside it.

    Levers beyond those of the physics: ``page_size``; ``granted``, the actions that the role has, ``*`` for all;
    ``headers``, which every answer carries; ``refuse_next(op, no)``.
    """

    def __init__(
        self, physics: Physics, rules: Rules, tokens: Tokens, *, subscription: str, group: str, tls: Tls
    ) -> None:
        self.physics = physics
        self.tokens = tokens
        self.subscription = subscription
        self.group = f"/subscriptions/{subscription}/resourceGroups/{group}"
        self.machines = FakeMachines(physics, rules, self.group)
        self.page_size = 100
        self.granted: tuple[str, ...] = ("*",)
        self.headers: dict[str, str] = {}
        self.skew_ms = 0
        self._refusals: dict[str, No] = {}
        self._operations: dict[str, tuple[str, bool]] = {}
        self._routes = tuple(self._all_routes())
        self.server = WireServer(self._answer, tls=tls)
        self.url = self.server.url

    @property
    def rules(self) -> Rules:
        """What the account has and demands."""
        return self.machines.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self.machines.rules = rules

    def refuse_next(self, op: str, no: No) -> None:
        """Answer the next call of an operation with a no."""
        self._refusals[op] = no

    def close(self) -> None:
        """End the server."""
        self.server.close()

    # --- the way in -----------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Response:
        try:
            response = self._routed(request)
        except No as no:
            response = no.response()
        except Refusal as refusal:
            response = no_of(refusal).response()
        now = datetime.fromtimestamp((self.physics.now_ms() + self.skew_ms) / 1000, UTC)
        date = {"Date": format_datetime(now, usegmt=True)}
        return evolve(response, headers={**response.headers, **self.headers, **date})

    def _routed(self, request: Request) -> Response:
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match is not None and route.method == request.method:
                return self._served(route, request, match.groupdict())
        if not self.tokens.knows(request):
            raise No(401, "AuthenticationFailed")
        raise No(404, "InvalidResourceType", f"{request.method} {request.path}")

    def _served(self, route: _Route, request: Request, words: Mapping[str, str]) -> Response:
        place = words.get("location", "") or _asked_location(request)
        self.physics.admit(route.op, changes=route.method not in ("GET", "POST"), place=place)
        if route.actions:
            self._check(route, request, words)
        if (no := self._refusals.pop(route.op, None)) is not None:
            raise no
        return route.serve(request, words)

    def _check(self, route: _Route, request: Request, words: Mapping[str, str]) -> None:
        if not self.tokens.knows(request):
            raise No(401, "InvalidAuthenticationToken", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        if words.get("subscription", self.subscription) != self.subscription:
            raise No(404, "SubscriptionNotFound")
        if words.get("group") and not self.group.lower().endswith(f"/{words['group'].lower()}"):
            raise No(404, "ResourceGroupNotFound")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d(-preview)?", request.param("api-version")):
            raise No(400, "MissingApiVersionParameter")
        known = {"api-version", "$skiptoken", *route.params}
        if unknown := sorted(set(request.params) - known):
            raise invalid(unknown[0], "unknown query parameter")
        for action in route.actions:
            if not any(_covers(granted, action) for granted in self.granted):
                raise No(403, "AuthorizationFailed", f"{action} is not allowed")

    # --- routes ---------------------------------------------------------------------------------------

    def _all_routes(self) -> Iterator[_Route]:
        yield _route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", "Configuration", (), self._directory)
        yield _route("POST", "/{tenant}/oauth2/v2.0/token", "Token", (), self._token)
        yield _route("GET", "/api/retail/prices", "Prices", (), self._prices)
        subscription, group = "/subscriptions/{subscription}", "/subscriptions/{subscription}/resourceGroups/{group}"
        yield _route("GET", subscription, "Subscription", ("Microsoft.Resources/subscriptions/read",), self._tell)
        for scope in (subscription, group):
            path = f"{scope}/providers/Microsoft.Authorization/permissions"
            yield _route("GET", path, "Permissions", ("Microsoft.Authorization/permissions/read",), self._permissions)
        yield from self._machine_routes(subscription, group)
        yield from self._part_routes(group)
        yield from self._shop_routes(subscription)
        yield from self._network_routes(group)

    def _machine_routes(self, subscription: str, group: str) -> Iterator[_Route]:
        kind = f"{_COMPUTE}/virtualMachines"
        one = f"{group}/providers/{kind}/{{name}}"
        yield _route("PUT", one, "PutMachine", (*_MAKES, *_USES), self._put)
        yield _route("DELETE", one, "DeleteMachine", (f"{kind}/delete",), self._delete, ("forceDeletion",))
        yield _route("GET", one, "GetMachine", (f"{kind}/read",), self._get)
        yield _route("GET", f"{group}/providers/{kind}", "ListMachines", (f"{kind}/read",), self._list)
        everywhere = f"{subscription}/providers/{kind}"
        yield _route("GET", everywhere, "ListStatuses", (f"{kind}/read",), self._statuses, ("statusOnly",))
        asked = ("metricnames", "timespan", "interval", "aggregation")
        insights = "Microsoft.Insights/metrics"
        yield _route("GET", f"{one}/providers/{insights}", "GetMetrics", (f"{insights}/read",), self._metrics, asked)
        operations = f"{subscription}/providers/{_COMPUTE}/locations/{{location}}/operations/{{operation}}"
        yield _route(
            "GET",
            operations,
            "GetOperation",
            (f"{_COMPUTE}/locations/operations/read",),
            self._operation,
            ("t", "monitor"),
        )

    def _part_routes(self, group: str) -> Iterator[_Route]:
        kinds = (
            (NIC, f"{_NETWORK}/networkInterfaces", "Nic"),
            (ADDRESS, f"{_NETWORK}/publicIPAddresses", "Address"),
            (DISK, f"{_COMPUTE}/disks", "Disk"),
        )
        for kind, type_, op in kinds:
            listing, ending = self._parts(kind), self._part_end(kind)
            yield _route("GET", f"{group}/providers/{type_}", f"List{op}", (f"{type_}/read",), listing)
            one = f"{group}/providers/{type_}/{{name}}"
            yield _route("DELETE", one, f"Delete{op}", (f"{type_}/delete",), ending)

    def _shop_routes(self, subscription: str) -> Iterator[_Route]:
        images = FakeImages(lambda: self.rules.images)
        skus = f"{subscription}/providers/{_COMPUTE}/skus"
        yield _route("GET", skus, "ListSkus", (f"{_COMPUTE}/skus/read",), self._skus, ("$filter",))
        usage = f"{subscription}/providers/{_COMPUTE}/locations/{{location}}/usages"
        yield _route("GET", usage, "ListUsages", (f"{_COMPUTE}/locations/usages/read",), self._usages)
        publishers = f"{subscription}/providers/{_COMPUTE}/locations/{{location}}/publishers/{{publisher}}"
        versions = f"{publishers}/artifacttypes/vmimage/offers/{{offer}}/skus/{{sku}}/versions"
        read = (f"{_COMPUTE}/locations/publishers/artifacttypes/offers/skus/versions/read",)
        yield _route("GET", versions, "ListImages", read, images.versions, ("$top", "$orderby"))
        yield _route("GET", f"{versions}/{{version}}", "GetImage", read, images.version)
        # Of any group: what is asked of one's own is asked of the bridge's alone.
        holder = f"{subscription}/resourceGroups/{{holder}}/providers/{_COMPUTE}"
        gallery, kind = f"{holder}/galleries/{{gallery}}/images/{{image}}", f"{_COMPUTE}/galleries/images"
        yield _route("GET", gallery, "GetDefinition", (f"{kind}/read",), images.definition)
        one = f"{gallery}/versions/{{version}}"
        yield _route("GET", one, "GetVersion", (f"{kind}/versions/read",), images.gallery_version)
        yield _route("GET", f"{holder}/images/{{image}}", "GetOwnImage", (f"{_COMPUTE}/images/read",), images.own)

    def _network_routes(self, group: str) -> Iterator[_Route]:
        groups = f"{group}/providers/{_NETWORK}/networkSecurityGroups/{{name}}"
        read = (f"{_NETWORK}/networkSecurityGroups/read",)
        yield _route("GET", groups, "GetSecurityGroup", read, self._security_group)
        subnet = f"{group}/providers/{_NETWORK}/virtualNetworks/{{network}}/subnets/{{name}}"
        yield _route("GET", subnet, "GetSubnet", (f"{_NETWORK}/virtualNetworks/subnets/read",), self._subnet)

    # --- machines -------------------------------------------------------------------------------------

    def _put(self, request: Request, words: Mapping[str, str]) -> Response:
        try:
            body = request.json()
        except ValueError as error:
            raise No(400, "InvalidRequestContent") from error
        machine, _ = self.machines.put(words["name"], body, request.headers.get("if-none-match", ""))
        headers = self._begun(machine.region, machine.id, is_end=False)
        return Response.json(self.machines.view(machine), status=201, headers=headers)

    def _delete(self, request: Request, words: Mapping[str, str]) -> Response:
        machine = next((one for one in self.machines.listed() if one.name == words["name"]), None)
        if not self.machines.delete(words["name"]) or machine is None:
            return Response(204)
        # Without a Retry-After, as compute answers.
        headers = self._begun(machine.region, machine.id, is_end=True)
        return Response(202, headers={**headers, "Location": headers["Azure-AsyncOperation"] + "&monitor=true"})

    def _begun(self, location: str, machine: str, *, is_end: bool) -> dict[str, str]:
        operation = str(uuid4())
        self._operations[operation] = (machine, is_end)
        path = f"/subscriptions/{self.subscription}/providers/{_COMPUTE}/locations/{location}/operations/{operation}"
        return {"Azure-AsyncOperation": f"{self.url}{path}?api-version=2026-04-01&t=signed"}

    def _operation(self, request: Request, words: Mapping[str, str]) -> Response:
        if words["operation"] not in self._operations:
            raise No(404, "OperationNotFound")
        id_, is_end = self._operations[words["operation"]]
        machine = next(one for one in self.physics.made() if one.id == id_)
        return Response.json({"name": words["operation"], **_progress(machine, is_end=is_end)})

    def _get(self, request: Request, words: Mapping[str, str]) -> Response:
        for machine in self.machines.listed():
            if machine.name == words["name"]:
                return Response.json(self.machines.view(machine))
        raise No(404, "ResourceNotFound")

    def _list(self, request: Request, words: Mapping[str, str]) -> Response:
        return self._page(request, self.machines.views())

    def _statuses(self, request: Request, words: Mapping[str, str]) -> Response:
        if request.param("statusOnly") != "true":
            raise invalid("statusOnly", "the fake has the list with statuses alone")
        return self._page(request, [status_view(machine, self.group) for machine in self.machines.listed()])

    def _metrics(self, request: Request, words: Mapping[str, str]) -> Response:
        machine = next((one for one in self.machines.listed() if one.name == words["name"]), None)
        if machine is None:
            raise No(404, "ResourceNotFound")
        names = request.param("metricnames").split(",")
        return Response.json({"value": metric_views(names, machine.created_ms, self.physics.now_ms())})

    def _parts(self, kind: str) -> Callable[[Request, Mapping[str, str]], Response]:
        return lambda request, _: self._page(request, self.machines.part_views(kind))

    def _part_end(self, kind: str) -> Callable[[Request, Mapping[str, str]], Response]:
        def end(_: Request, words: Mapping[str, str]) -> Response:
            return Response(202 if self.machines.delete_part(kind, words["name"]) else 204)

        return end

    def _page(self, request: Request, found: Sequence[Json]) -> Response:
        start = int(request.param("$skiptoken") or 0)
        page: Json = {"value": list(found[start : start + self.page_size])}
        if start + self.page_size < len(found):
            query = {name: values[0] for name, values in request.params.items()}
            query["$skiptoken"] = str(start + self.page_size)
            page["nextLink"] = f"{self.url}{request.path}?{urlencode(query)}"
        return Response.json(page)

    # --- what there is ----------------------------------------------------------------------------------

    def _skus(self, request: Request, words: Mapping[str, str]) -> Response:
        location = _asked_location(request)
        sizes = [size.sku(location) for size in self.rules.sizes if location in size.places]
        disk = {"resourceType": "disks", "name": "StandardSSD_LRS", "locations": [location]}
        return self._page(request, [disk, *sizes])

    def _usages(self, request: Request, words: Mapping[str, str]) -> Response:
        if words["location"] not in self.rules.locations:
            raise No(400, "NoRegisteredProviderFound")
        return self._page(
            request, usages(self.physics.quota(words["location"]), self.rules.sizes, self.rules.full_quotas)
        )

    def _security_group(self, request: Request, words: Mapping[str, str]) -> Response:
        id_ = request.path
        if id_ not in self.rules.security_groups:
            raise No(404, "ResourceNotFound")
        rules = [{"name": f"rule-{at}", "properties": rule} for at, rule in enumerate(self.rules.security_groups[id_])]
        place = self.rules.places.get(id_, "")
        return Response.json(
            {"id": id_, "name": words["name"], "location": place, "properties": {"securityRules": rules}}
        )

    def _subnet(self, request: Request, words: Mapping[str, str]) -> Response:
        if request.path not in self.rules.subnets:
            raise No(404, "ResourceNotFound")
        return Response.json(
            {"id": request.path, "name": words["name"], "properties": {"addressPrefix": "10.0.0.0/16"}}
        )

    # --- who asks ---------------------------------------------------------------------------------------

    def _tell(self, request: Request, words: Mapping[str, str]) -> Response:
        return Response.json({"subscriptionId": self.subscription, "displayName": "A test", "state": "Enabled"})

    def _permissions(self, request: Request, words: Mapping[str, str]) -> Response:
        return Response.json({"value": [{"actions": list(self.granted), "notActions": []}]})

    def _directory(self, request: Request, words: Mapping[str, str]) -> Response:
        return self.tokens.configuration(self.url)

    def _token(self, request: Request, words: Mapping[str, str]) -> Response:
        return self.tokens.grant(request)

    def _prices(self, request: Request, words: Mapping[str, str]) -> Response:
        asked = re.fullmatch(
            r"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '(\w+)'",
            request.param("$filter"),
        )
        if asked is None or "authorization" in request.headers:
            raise No(400, "BadRequest")
        items = price_items(asked[1], request.param("currencyCode").strip("'"), self.rules.sizes)
        start = int(request.param("$skip") or 0)
        page: Json = {"Items": items[start : start + self.page_size], "NextPageLink": None}
        if start + self.page_size < len(items):
            query = {name: values[0] for name, values in request.params.items()}
            query["$skip"] = str(start + self.page_size)
            page["NextPageLink"] = f"{self.url}{request.path}?{urlencode(query)}"
        return Response.json(page)


def _route(
    method: str,
    path: str,
    op: str,
    actions: tuple[str, ...],
    serve: Callable[[Request, Mapping[str, str]], Response],
    params: tuple[str, ...] = (),
) -> _Route:
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
    return _Route(method, re.compile(pattern, re.IGNORECASE), op, actions, serve, params)


def _progress(machine: Machine, *, is_end: bool) -> Json:
    if is_end:
        return {"status": "InProgress" if machine.exists else "Succeeded"}
    if machine.state is State.FAILED and machine.end is not None:
        return {"status": "Failed", "error": {"code": machine.end.code, "message": "Allocation failed."}}
    return {"status": "InProgress" if machine.state is State.PENDING else "Succeeded"}


def _covers(granted: str, action: str) -> bool:
    return re.fullmatch(re.escape(granted).replace(r"\*", ".*"), action, re.IGNORECASE) is not None


def _asked_location(request: Request) -> str:
    match = re.search(r"(location|armRegionName) eq '(\w+)'", request.param("$filter"))
    return match[2] if match else ""
