"""The only module that imports Azure's SDK, and the calls of it that the plugin makes.

Whoever imports this waits for the SDK: import it in a worker thread. Every call blocks.
"""

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cached_property
from threading import Lock
from typing import Any

from azure.core import AzureClouds, MatchConditions, PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import policies
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.core.exceptions import ARMErrorFormat
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
from azure.mgmt.network import NetworkManagementClient

from compute_bridge.model.units import UtcMs
from compute_bridge_azure.config import AzureConfig, Credential
from compute_bridge_azure.errors import OtherIdentityError

# It writes every request and answer at INFO, headers and all; msal tells of each token that it looked for.
for _chatty in ("azure", "msal"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)
# A token that is refused is an error that we raise and classify; the SDK warns of the same one at each call beside.
logging.getLogger("azure.identity").setLevel(logging.ERROR)

_CONNECT_S = 5
_READ_S = 30
_NO_RETRY = {"retry_total": 0}
# A connection that broke is tried once more, a status never: the host waits as told, and nobody sleeps in a thread.
_READS = {"retry_total": 1, "retry_connect": 1, "retry_read": 1, "retry_status": 0}
_MAX_PAGES = 1000
_PERMISSIONS = "2022-04-01"
_SUBSCRIPTIONS = "2022-12-01"
_METRICS = "2018-01-01"
_GALLERIES = "2024-03-03"
_IMAGES = "2024-07-01"
_PRICES = "2023-01-01-preview"

Json = dict[str, Any]


class Arm:
    """One subscription: the slice of the Resource Manager that is used, and the retail prices.

    ``heard`` is told the headers of every answer.
    """

    def __init__(self, config: AzureConfig, secret: str, heard: Callable[[dict[str, str]], None]) -> None:
        self._config = config
        self._heard = heard
        self._verify: str | bool = config.ca_file or True
        self._credential = _Pinned(config, secret, self._verify)
        self._group = config.resource_group
        self._compute = self._client(ComputeManagementClient)
        self._network = self._client(NetworkManagementClient)

    # --- who we are -------------------------------------------------------------------------------

    def identity(self) -> Json:
        """Return the claims of the token in use."""
        return self._credential.claims()

    def subscription(self) -> Json:
        """Return the subscription as we may see it."""
        return self._get(f"/subscriptions/{self._config.subscription}", _SUBSCRIPTIONS)

    def permissions(self, scope: str) -> list[Json]:
        """Return what we may do in ``scope``: ``actions`` and ``notActions``, one entry a role."""
        found = self._get(f"{scope}/providers/Microsoft.Authorization/permissions", _PERMISSIONS)
        return list(found.get("value") or ())

    # --- making and ending ------------------------------------------------------------------------

    def create_machine(self, name: str, body: Json) -> None:
        """Send the one PUT that makes a machine, its NIC and its address, unless the name has a machine."""
        self._compute.virtual_machines.begin_create_or_update(
            self._group, name, body, match_condition=MatchConditions.IfMissing, polling=False, **_NO_RETRY
        )

    def delete_machine(self, name: str) -> None:
        """Ask for the end of a machine and of all that is to die with it; one that is not there is as good."""
        self._compute.virtual_machines.begin_delete(self._group, name, force_deletion=True, polling=False, **_NO_RETRY)

    def delete_nic(self, name: str) -> None:
        """Ask for the end of a NIC."""
        self._network.network_interfaces.begin_delete(self._group, name, polling=False, **_NO_RETRY)

    def delete_address(self, name: str) -> None:
        """Ask for the end of a public address."""
        self._network.public_ip_addresses.begin_delete(self._group, name, polling=False, **_NO_RETRY)

    def delete_disk(self, name: str) -> None:
        """Ask for the end of a disk."""
        self._compute.disks.begin_delete(self._group, name, polling=False, **_NO_RETRY)

    # --- listings ---------------------------------------------------------------------------------

    def statuses(self) -> list[Json]:
        """Return every machine of the subscription with its instance view."""
        return _all(self._compute.virtual_machines.list_all(status_only="true", **_READS))

    def machines(self) -> list[Json]:
        """Return the machines of the group, with their tags."""
        return _all(self._compute.virtual_machines.list(self._group, **_READS))

    def nics(self) -> list[Json]:
        """Return the NICs of the group."""
        return _all(self._network.network_interfaces.list(self._group, **_READS))

    def addresses(self) -> list[Json]:
        """Return the public addresses of the group."""
        return _all(self._network.public_ip_addresses.list(self._group, **_READS))

    def disks(self) -> list[Json]:
        """Return the disks of the group."""
        return _all(self._compute.disks.list_by_resource_group(self._group, **_READS))

    def metrics(self, name: str, names: tuple[str, ...], window: str, since_ms: int, until_ms: int) -> list[Json]:
        """Return metrics of a machine, in windows of equal length."""
        span = "/".join(
            datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for ms in (since_ms, until_ms)
        )
        group = f"/subscriptions/{self._config.subscription}/resourceGroups/{self._group}"
        path = f"{group}/providers/Microsoft.Compute/virtualMachines/{name}/providers/Microsoft.Insights/metrics"
        asked = {"metricnames": ",".join(names), "timespan": span, "interval": window, "aggregation": "average,total"}
        return list(self._get(path, _METRICS, **asked).get("value") or ())

    # --- what could be sold -------------------------------------------------------------------------

    def skus(self, location: str) -> list[Json]:
        """Return what Azure has in a location, and what of it is closed to this subscription."""
        return _all(self._compute.resource_skus.list(filter=f"location eq '{location}'", **_READS))

    def usages(self, location: str) -> list[Json]:
        """Return the quotas of a location and what of them is used."""
        return _all(self._compute.usage.list(location, **_READS))

    def prices(self, location: str, currency: str) -> list[Json]:
        """Return every retail price of a machine's hour in a location; numbers are ``Decimal``, never float."""
        client = self._retail
        query = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{location}'"
        params = {"api-version": _PRICES, "currencyCode": f"'{currency}'", "$filter": query}
        request = HttpRequest("GET", f"{self._config.prices}/api/retail/prices", params=params)
        found: list[Json] = []
        for _ in range(_MAX_PAGES):
            response = client.send_request(request, **_READS)
            response.raise_for_status()
            page = json.loads(response.text(), parse_float=Decimal)
            found += page.get("Items") or ()
            if not (following := page.get("NextPageLink")):
                break
            request = HttpRequest("GET", following)
        return found

    # --- what a machine is made of ------------------------------------------------------------------

    def image(self, location: str, urn: str) -> Json | None:
        """Return the image that an urn or a resource id means in a location; ``None`` where no version is there.

        One of a gallery is told as its definition, with the ``version`` that was named beside it.
        """
        if urn.startswith("/"):
            return self._own_image(urn)
        publisher, offer, sku, version = urn.split(":")
        images = self._compute.virtual_machine_images
        if version == "latest":
            found = images.list(location, publisher, offer, sku, top=1, orderby="name desc", **_READS)
            if not found:
                return None
            version = found[0].name
        return _plain(images.get(location, publisher, offer, sku, version, **_READS))

    def _own_image(self, resource: str) -> Json:
        if "/galleries/" not in resource.lower():
            return self._get(resource, _IMAGES)
        definition, *version = re.split("/versions/", resource, flags=re.IGNORECASE)
        found = self._get(definition, _GALLERIES)
        return {**found, "version": self._get(resource, _GALLERIES)} if version else found

    def security_group(self, resource: str) -> Json:
        """Return a network security group with its rules."""
        group, name = _part(resource, "resourceGroups"), _part(resource, "networkSecurityGroups")
        return _plain(self._network.network_security_groups.get(group, name, **_READS))

    def subnet(self, resource: str) -> Json:
        """Return a subnet."""
        names = (_part(resource, kind) for kind in ("resourceGroups", "virtualNetworks", "subnets"))
        return _plain(self._network.subnets.get(*names, **_READS))

    def close(self) -> None:
        """End every connection."""
        self._compute.close()
        self._network.close()
        if "_retail" in self.__dict__:
            self._retail.close()
        self._credential.close()

    # --- plumbing -----------------------------------------------------------------------------------

    def _get(self, path: str, version: str, **asked: str) -> Json:
        request = HttpRequest("GET", f"{self._config.arm}{path}", params={"api-version": version, **asked})
        response = self._compute.send_request(request, **_READS)
        if response.status_code >= 400:
            raise _refusal(response)
        found = response.json()
        return dict(found)

    def _client(self, kind: Any) -> Any:
        scope = f"{self._config.arm}/.default"
        # Not the default pipeline: that registers resource providers by itself, follows redirects and writes logs.
        pipeline = [
            policies.RequestIdPolicy(),
            policies.HeadersPolicy(),
            policies.UserAgentPolicy(user_agent="compute-bridge-azure", user_agent_use_env=False),
            policies.ContentDecodePolicy(),
            policies.RetryPolicy(),
            ARMChallengeAuthenticationPolicy(self._credential, scope),
            _Ears(self._heard),
        ]
        return kind(
            self._credential,
            self._config.subscription,
            base_url=self._config.arm,
            credential_scopes=[scope],
            # Without it AZURE_SDK_CLOUD_CONF is read; base_url and scope are the table's in any case.
            cloud_setting=AzureClouds.AZURE_PUBLIC_CLOUD,
            policies=pipeline,
            transport=self._transport(),
        )

    def _transport(self) -> RequestsTransport:
        # Proxies, certificates and netrc of the environment are not read: what counts stands in the boot file.
        return RequestsTransport(
            connection_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            connection_verify=self._verify,
            use_env_settings=False,
        )

    @cached_property
    def _retail(self) -> PipelineClient:
        pipeline = [policies.UserAgentPolicy(user_agent="compute-bridge-azure"), policies.RetryPolicy()]
        return PipelineClient(self._config.prices, policies=pipeline, transport=self._transport())


class _Ears(policies.SansIOHTTPPolicy):  # type: ignore[misc]  # azure is not followed
    """Hands on the headers of every answer."""

    def __init__(self, heard: Callable[[dict[str, str]], None]) -> None:
        self._heard = heard

    def on_response(self, request: Any, response: Any) -> None:
        self._heard({str(name).lower(): str(value) for name, value in response.http_response.headers.items()})


class _Pinned:
    """A credential whose every token is of the tenant and the principal that the table pins."""

    def __init__(self, config: AzureConfig, secret: str, verify: str | bool) -> None:
        self._config = config
        self._inner = _credential(config, secret, verify)
        # Callers that begin together share one request for a token.
        self._lock = Lock()

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """Return a token of the right identity."""
        with self._lock:
            token = self._inner.get_token(*scopes, **options)
        self._check(_claims(token.token))
        return token

    def claims(self) -> Json:
        """Return the claims of a token, whoever it is of."""
        return _claims(self._inner.get_token(f"{self._config.arm}/.default").token)

    def _check(self, claims: Json) -> None:
        found = (claims.get("tid"), claims.get("oid"))
        if found != (self._config.tenant, self._config.principal):
            raise OtherIdentityError("the token is of another tenant or principal than the table pins")

    def close(self) -> None:
        """End its connections."""
        self._inner.close()


class _Principal(ClientSecretCredential):  # type: ignore[misc]  # azure is not followed
    """A service principal whose secret goes to the table's authority, and to no region's that the environment names."""

    def __init__(self, *words: str, **options: Any) -> None:
        super().__init__(*words, **options)
        # In place of AZURE_REGIONAL_AUTHORITY_NAME, or else MSAL_FORCE_REGION; false is msal's word for no region.
        self._regional_authority = False


def _credential(config: AzureConfig, secret: str, verify: str | bool) -> Any:
    common: Json = {
        "authority": config.authority,
        "connection_verify": verify,
        "connection_timeout": _CONNECT_S,
        "read_timeout": _READ_S,
        # The authority is the operator's word, and asking Microsoft about it names the account to no purpose.
        "disable_instance_discovery": True,
        **_NO_RETRY,
    }
    if config.credential is Credential.DEFAULT_CHAIN:
        return DefaultAzureCredential(exclude_interactive_browser_credential=True, **common)
    return _Principal(config.tenant, config.client, secret, use_env_settings=False, **common)


def server_ms(headers: dict[str, str]) -> UtcMs | None:
    """Return the server's time from a ``Date`` header, whole seconds."""
    try:
        return UtcMs(int(parsedate_to_datetime(headers["date"]).timestamp()) * 1000)
    except (KeyError, ValueError):
        return None


def _claims(token: str) -> Json:
    # Read, not verified: it came over TLS from the authority that the table names, and is only compared with a pin.
    try:
        body = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def _all(paged: Iterable[Any]) -> list[Json]:
    return [_plain(one) for one in paged]


def _plain(model: Any) -> Json:
    found: Json = model.as_dict()
    return found


def _part(resource: str, kind: str) -> str:
    words = resource.split("/")
    lowered = [word.lower() for word in words]
    return words[lowered.index(kind.lower()) + 1]


def _refusal(response: Any) -> Exception:
    error: Exception = HttpResponseError(response=response, error_format=ARMErrorFormat)
    return error
