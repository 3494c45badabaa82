"""The one module that touches the vendor's SDK: the calls that we make of it; what each needs is in ``policy``.

Every call blocks; none retries by itself; each takes at most 5 s to connect and 30 s to answer. Importing this takes
seconds, so it is imported in a worker thread, and not before a backend opens.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import partial
from threading import Lock
from typing import Any

import google.auth
from google.api_core.exceptions import GoogleAPICallError, from_http_response
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import compute_v1
from google.oauth2 import service_account
from google.protobuf import json_format
from requests.exceptions import RequestException, Timeout

from compute_bridge_gcp.config import GcpConfig
from compute_bridge_gcp.errors import ACCOUNT_QUOTA, Answer
from compute_bridge_gcp.facts import (
    ImageSeen,
    Operation,
    RegionSeen,
    Rule,
    Seen,
    ShapeSeen,
    Sku,
    image_in,
    operation_in,
    region_in,
    rule_in,
    seen_in,
    shape_in,
    silent_in,
    skus_in,
    stamp,
    sums_in,
)

# Their debug logs carry whole requests, the host keys of guests among them.
logging.getLogger("google").setLevel(logging.INFO)

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LIMITS_S = (5.0, 30.0)
_COMPUTE = "https://compute.googleapis.com"
_BILLING = "https://cloudbilling.googleapis.com"
_RESOURCES = "https://cloudresourcemanager.googleapis.com"
_MONITORING = "https://monitoring.googleapis.com"
# The service "Compute Engine" in the billing catalog.
_SERVICE = "6F81-5844-456A"


UNUSABLE = (ValueError, KeyError, GoogleAuthError)
"""What is raised where credentials are none."""


class OtherIdentityError(Exception):
    """The credentials are of somebody else than the table says; nothing was asked under them."""


def _limited(call: Callable[..., Any]) -> Callable[..., Any]:
    # In the place of a timeout the SDK takes what wraps its call; a number would be both limits at once.
    return partial(call, timeout=_LIMITS_S)


def message_of(kind: str, document: Mapping[str, Any]) -> Any:
    """Return a document as the vendor's message ``kind``; what a fake holds a document to.

    :raises ValueError: if it has a field that the message has not, or a value that does not fit.
    """
    owner = getattr(compute_v1, kind)
    try:
        return json_format.ParseDict(document, owner.pb(owner()))
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error


def lenient_message_of(kind: str, document: Mapping[str, Any]) -> Any:
    """Return a document as a message, as the SDK reads an answer: fields that it does not know are passed over."""
    owner = getattr(compute_v1, kind)
    return json_format.ParseDict(document, owner.pb(owner()), ignore_unknown_fields=True)


def document_of(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as the document that stands for it on the wire."""
    owner = getattr(compute_v1, kind)
    return dict(json_format.MessageToDict(owner.pb(owner(fields))))


def words_of(kind: str, field: str) -> frozenset[str] | None:
    """Return the words that a field of a message may hold, or None where it may hold any."""
    words = getattr(getattr(compute_v1, kind, None), field.title().replace("_", ""), None)
    return frozenset(words.__members__) if isinstance(words, type) and issubclass(words, Enum) else None


def answer_of(error: Exception) -> Answer | None:
    """Return what an error of the SDK says, or None for what is none of its errors."""
    if isinstance(error, GoogleAPICallError):
        return _answer(error)
    if isinstance(error, OtherIdentityError):
        return Answer("other-identity")
    if isinstance(error, GoogleAuthError):
        return Answer("TransportError" if error.retryable else type(error).__name__)
    if isinstance(error, RequestException):
        return Answer("Timeout" if isinstance(error, Timeout) else "ConnectionError")
    return None


def _answer(error: Any) -> Answer:
    status = int(error.code or 0)
    first = error.errors[0] if error.errors else {}
    reason = first.get("reason", "") if isinstance(first, Mapping) else first.code
    headers = error.response.headers if error.response is not None else {}
    wait = headers.get("Retry-After", "")
    # A 401 says "required", which elsewhere is a missing field.
    code = f"http-{status}" if status == 401 or not (reason or error.reason) else reason or error.reason
    if "quota" in code.lower() and ACCOUNT_QUOTA in json.dumps(list(error.details), default=str).replace("-", "_"):
        code = f"{code} {ACCOUNT_QUOTA}"
    return Answer(code, float(wait) if wait.isdigit() else None, status)


class Sdk:
    """The calls of one backend, under one identity. Clients are made when first used, and shared by all threads."""

    def __init__(self, config: GcpConfig, key: bytes) -> None:
        self._config = config
        self._lock = Lock()
        self._clients: dict[type[Any], Any] = {}
        self._is_known = False
        self._credentials = self._load(key)
        self._kept_session: AuthorizedSession | None = None

    def _load(self, key: bytes) -> Any:
        if self._config.default_chain:
            credentials = google.auth.default(scopes=_SCOPES)[0]
        else:
            credentials = service_account.Credentials.from_service_account_info(json.loads(key), scopes=_SCOPES)
        # A key signs its tokens itself, wherever it was found, so that nobody else has to be reached for them.
        is_key = isinstance(credentials, service_account.Credentials)
        return credentials.with_always_use_jwt_access(True) if is_key else credentials

    # --- who we are -----------------------------------------------------------------------------

    def identity(self) -> str:
        """Return the e-mail of the service account whose credentials these are, empty for no service account."""
        if getattr(self._credentials, "service_account_email", "") == "default":
            # On a machine of the vendor's the name comes with the first token.
            self._credentials.refresh(Request())
        return str(getattr(self._credentials, "service_account_email", ""))

    def _require_identity(self) -> None:
        if not self._is_known and (found := self.identity()) != self._config.service_account:
            raise OtherIdentityError(f"these credentials are of {found or 'no service account'}")
        self._is_known = True

    def _client(self, kind: type[Any]) -> Any:
        with self._lock:
            self._require_identity()
            if kind not in self._clients:
                # Without the first, GOOGLE_CLOUD_UNIVERSE_DOMAIN would say whose compute.* the token goes to.
                options = {"universe_domain": self._credentials.universe_domain}
                if self._config.compute_endpoint:
                    options["api_endpoint"] = self._config.compute_endpoint
                self._clients[kind] = kind(credentials=self._credentials, client_options=options)
            return self._clients[kind]

    def _session(self) -> AuthorizedSession:
        with self._lock:
            self._require_identity()
            if self._kept_session is None:
                self._kept_session = AuthorizedSession(self._credentials)
            return self._kept_session

    def _call(self, call: Callable[..., Any], **fields: Any) -> Any:
        return call(request={"project": self._config.project} | fields, retry=None, timeout=_limited)

    def _pages(self, call: Callable[..., Any], **fields: Any) -> Iterator[Any]:
        listing = self._call(call, max_results=self._config.page_size, **fields)
        for page in listing.pages:
            yield type(page).pb(page)

    def _rest(self, method: str, url: str, **arguments: Any) -> Any:
        # The session has a limit of its own over all its attempts.
        answer = self._session().request(method, url, timeout=_LIMITS_S, max_allowed_time=60.0, **arguments)
        if answer.status_code >= 400:
            raise from_http_response(answer)
        return answer

    def _rest_pages(self, url: str, wanted: Mapping[str, str]) -> Iterator[Any]:
        token = ""
        while True:
            page = self._rest("GET", url, params={**wanted, **({"pageToken": token} if token else {})}).json()
            yield page
            if not (token := page.get("nextPageToken", "")):
                return

    # --- instances ------------------------------------------------------------------------------

    def insert(self, zone: str, request_id: str, body: Mapping[str, Any]) -> Operation:
        """Make a machine; the same ``request_id`` gets the same operation."""
        # insert() would return an object that polls the public address whatever the endpoint is.
        call = self._client(compute_v1.InstancesClient).insert_unary
        made = self._call(call, zone=zone, request_id=request_id, instance_resource=dict(body))
        return operation_in(compute_v1.Operation.pb(made))

    def delete(self, zone: str, name: str, request_id: str) -> Operation:
        """End a machine, with its disk and its address, without waiting for the guest."""
        call = self._client(compute_v1.InstancesClient).delete_unary
        done = self._call(call, zone=zone, instance=name, request_id=request_id, no_graceful_shutdown=True)
        return operation_in(compute_v1.Operation.pb(done))

    def instance(self, zone: str, name: str) -> Seen:
        """Return one machine."""
        found = self._call(self._client(compute_v1.InstancesClient).get, zone=zone, instance=name)
        return seen_in(compute_v1.Instance.pb(found))

    def instances(self, where: str) -> tuple[list[Seen], set[str]]:
        """Return the machines of every zone that match a filter, and the places that did not answer."""
        found, silent = [], set()
        for page in self._pages(self._client(compute_v1.InstancesClient).aggregated_list, filter=where):
            found += [seen_in(instance) for scope in page.items.values() for instance in scope.instances]
            silent |= silent_in(page)
        return found, silent

    # --- operations -----------------------------------------------------------------------------

    def operation(self, zone: str, name: str) -> Operation:
        """Return one operation."""
        found = self._call(self._client(compute_v1.ZoneOperationsClient).get, zone=zone, operation=name)
        return operation_in(compute_v1.Operation.pb(found))

    def operations(self, zone: str, where: str) -> list[Operation]:
        """Return the operations of one zone that match a filter."""
        pages = self._pages(self._client(compute_v1.ZoneOperationsClient).list, zone=zone, filter=where)
        return [operation_in(one) for page in pages for one in page.items]

    # --- what there is --------------------------------------------------------------------------

    def regions(self) -> list[RegionSeen]:
        """Return every region, with its quotas."""
        pages = self._pages(self._client(compute_v1.RegionsClient).list)
        return [region_in(one) for page in pages for one in page.items]

    def zones(self) -> list[str]:
        """Return the zones that are up."""
        pages = self._pages(self._client(compute_v1.ZonesClient).list)
        return [one.name for page in pages for one in page.items if one.status == "UP"]

    def shapes(self) -> tuple[list[ShapeSeen], set[str]]:
        """Return the machine types of every zone, and the places that did not answer."""
        found, silent = [], set()
        for page in self._pages(self._client(compute_v1.MachineTypesClient).aggregated_list):
            found += [shape_in(one) for scope in page.items.values() for one in scope.machine_types]
            silent |= silent_in(page)
        return found, silent

    def skus(self) -> list[Sku]:
        """Return the price list; it needs no permission, only that the API is enabled in the key's project."""
        url = f"{self._config.billing_endpoint or _BILLING}/v1/services/{_SERVICE}/skus"
        wanted = {"currencyCode": self._config.currency, "pageSize": str(min(5000, self._config.page_size * 10))}
        return [sku for page in self._rest_pages(url, wanted) for sku in skus_in(page)]

    def time_series(self, metric: str, since_ms: int, until_ms: int) -> list[tuple[str, Decimal]]:
        """Return what a metric counted after ``since_ms`` until ``until_ms``, a minute at least, by instances' numbers.

        Of every instance of the project, in one point for each series, of which an instance may have several.
        """
        url = f"{self._config.monitoring_endpoint or _MONITORING}/v3/projects/{self._config.project}/timeSeries"
        wanted = {
            "filter": f'metric.type = "{metric}" AND resource.type = "gce_instance"',
            "interval.startTime": stamp(since_ms),
            "interval.endTime": stamp(until_ms),
            "aggregation.alignmentPeriod": f"{(until_ms - since_ms) // 1000}s",
            "aggregation.perSeriesAligner": "ALIGN_SUM",
            "view": "FULL",
            "pageSize": str(min(100_000, self._config.page_size * 200)),
        }
        return [one for page in self._rest_pages(url, wanted) for one in sums_in(page, since_ms)]

    def image(self, project: str, *, family: str = "", image: str = "") -> ImageSeen:
        """Return one image, or the one that a family means now."""
        client = self._client(compute_v1.ImagesClient)
        if family:
            found = client.get_from_family(request={"project": project, "family": family}, retry=None, timeout=_limited)
        else:
            found = client.get(request={"project": project, "image": image}, retry=None, timeout=_limited)
        return image_in(compute_v1.Image.pb(found))

    # --- what doctor looks at -------------------------------------------------------------------

    def subnetwork_network(self, region: str, name: str) -> str:
        """Return the network that a subnetwork is part of."""
        client = self._client(compute_v1.SubnetworksClient)
        return str(self._call(client.get, region=region, subnetwork=name).network).rpartition("/")[2]

    def rules(self) -> list[Rule]:
        """Return the project's firewall rules that are in force."""
        pages = self._pages(self._client(compute_v1.FirewallsClient).list)
        return [rule_in(one) for page in pages for one in page.items if not one.disabled]

    def granted(self, permissions: tuple[str, ...]) -> frozenset[str]:
        """Return which of ``permissions`` we have in the project; whoever asks may ask that."""
        url = f"{self._config.resource_endpoint or _RESOURCES}/v1/projects/{self._config.project}:testIamPermissions"
        answer = self._rest("POST", url, json={"permissions": list(permissions)}).json()
        return frozenset(answer.get("permissions", []))

    def vendor_ms(self) -> int:
        """Return what time it is at the vendor, by the header of an answer about the project."""
        base = self._config.compute_endpoint or _COMPUTE
        answer = self._rest("GET", f"{base}/compute/v1/projects/{self._config.project}", params={"fields": "id"})
        return int(parsedate_to_datetime(answer.headers["Date"]).timestamp() * 1000)
