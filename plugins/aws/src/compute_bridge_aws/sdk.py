"""The only module that touches the SDK: the calls that this plugin makes, and what their failures are called.

It is imported in a worker thread, at first use; every method blocks.
"""

import logging
import os
from collections.abc import Sequence
from enum import Enum
from functools import cache
from threading import Lock
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.session
from attrs import field, frozen

# The SDK's debug lines quote requests whole: user data with a host key, signatures. Nothing brings them into a log.
for _chatty in ("boto3", "botocore", "urllib3"):
    logging.getLogger(_chatty).setLevel(logging.INFO)

# Source: the AWS Price List API has endpoints in three regions only (botocore's endpoint data).
_PRICING_REGION = "us-east-1"
_PAGE = 1000
_SMALL_PAGE = 100


class Operation(Enum):
    """Every operation that is called, as service and method."""

    IDENTITY = ("sts", "get_caller_identity")
    REGIONS = ("ec2", "describe_regions")
    TYPES = ("ec2", "describe_instance_types")
    OFFERINGS = ("ec2", "describe_instance_type_offerings")
    SPOT_PRICES = ("ec2", "describe_spot_price_history")
    SPOT_REQUESTS = ("ec2", "describe_spot_instance_requests")
    IMAGES = ("ec2", "describe_images")
    SUBNETS = ("ec2", "describe_subnets")
    GROUPS = ("ec2", "describe_security_groups")
    INSTANCES = ("ec2", "describe_instances")
    RUN = ("ec2", "run_instances")
    TERMINATE = ("ec2", "terminate_instances")
    MAKE_GROUP = ("ec2", "create_security_group")
    ALLOW_IN = ("ec2", "authorize_security_group_ingress")
    ALLOW_OUT = ("ec2", "authorize_security_group_egress")
    DENY_IN = ("ec2", "revoke_security_group_ingress")
    DENY_OUT = ("ec2", "revoke_security_group_egress")
    UNMAKE_GROUP = ("ec2", "delete_security_group")
    PRODUCTS = ("pricing", "get_products")
    QUOTAS = ("service-quotas", "list_service_quotas")
    METRICS = ("cloudwatch", "get_metric_data")

    @property
    def name_in_api(self) -> str:
        """The operation as AWS spells it."""
        return "".join(word.capitalize() for word in self.value[1].split("_"))

    @property
    def action(self) -> str:
        """The operation as a policy allows it."""
        service = self.value[0].replace("-", "")
        return f"{service}:{self.name_in_api}"


@frozen
class Access:
    """What the calls are made with. Without keys the SDK's own chain is asked."""

    key_id: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str | None = field(default=None, repr=False)
    endpoint_url: str | None = None
    ca_bundle: str | None = None
    at_once: int = 8


@frozen
class Told:
    """What a failure says: its code, and how long to wait where that was said."""

    code: str
    retry_after_s: float | None = None


def told_by(error: BaseException | None) -> Told | None:
    """Return what an error of the SDK says; ``None`` for any other, which is a bug."""
    if isinstance(error, botocore.exceptions.ClientError):
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        wait = str(headers.get("retry-after", ""))
        return Told(str(error.response.get("Error", {}).get("Code", "")), float(wait) if wait.isdigit() else None)
    if isinstance(error, botocore.exceptions.BotoCoreError):
        return Told(type(error).__name__)
    # Neither of these is of botocore's own tree.
    if isinstance(error, botocore.exceptions.HTTPClientError | ConnectionError | TimeoutError):
        return Told("ConnectionError")
    return Told("ResponseParserError") if type(error).__name__ == "ResponseParserError" else None


@cache
def _loader() -> Any:
    # The models of EC2 are 30 MiB once read; two accounts share them. They are the SDK's own, none of ~/.aws/models.
    own = botocore.loaders.Loader.BUILTIN_DATA_PATH
    return botocore.loaders.Loader(extra_search_paths=[own], include_default_search_paths=False)


@cache
def service_model(service: str) -> Any:
    """Return the SDK's model of a service."""
    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    return session.get_service_model(service)


@cache
def _deaf_session() -> Any:
    # With a key of the table no setting is read from the environment or the home folder, so one serves all accounts.
    deaf = {
        name: (in_file, None, default, convert)
        for name, (in_file, _variable, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()
    }
    nowhere = (None, None, os.devnull, None)
    return _over_loader(
        botocore.session.Session(session_vars={**deaf, "config_file": nowhere, "credentials_file": nowhere})
    )


def _over_loader(session: Any) -> Any:
    # boto3 adds a folder to the loader that it finds: the shared one would have it once more with every session.
    session.register_component("data_loader", botocore.loaders.Loader())
    made = boto3.session.Session(botocore_session=session)
    session.register_component("data_loader", _loader())
    return made


# A client may be shared between threads, a session may not.
_building = Lock()


class Sdk:
    """The slice of AWS that this plugin uses."""

    def __init__(self, access: Access) -> None:
        self._access = access
        with _building:
            self._session = _deaf_session() if access.key_id else _over_loader(botocore.session.Session())
        self._clients: dict[tuple[str, str, bool], Any] = {}

    def _client(self, service: str, region: str, *, once: bool) -> Any:
        with _building:
            key = (service, region, once)
            if key not in self._clients:
                self._clients[key] = self._session.client(
                    service,
                    region_name=region,
                    endpoint_url=self._access.endpoint_url,
                    verify=self._access.ca_bundle,
                    config=self._config(once=once),
                    **self._keys(),
                )
            return self._clients[key]

    def _keys(self) -> dict[str, Any]:
        access = self._access
        if not access.key_id:
            return {}
        return {
            "aws_access_key_id": access.key_id,
            "aws_secret_access_key": access.secret,
            "aws_session_token": access.token,
        }

    def _config(self, *, once: bool) -> Any:
        # InsufficientInstanceCapacity is an HTTP 500, which the SDK would try again: so a create is sent once.
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 1 if once else 2, "mode": "standard"},
            "max_pool_connections": self._access.at_once,
            "connect_timeout": 5,
            "read_timeout": 30,
            "user_agent_extra": "compute-bridge",
            # What replaces an endpoint is the table's to say.
            "ignore_configured_endpoint_urls": True,
        }
        return botocore.config.Config(**settings)

    def _call(self, operation: Operation, region: str, *, once: bool = False, **request: Any) -> dict[str, Any]:
        service, method = operation.value
        answer: dict[str, Any] = getattr(self._client(service, region, once=once), method)(**request)
        return answer

    def _pages(
        self, operation: Operation, region: str, key: str, *, page: int = _PAGE, **request: Any
    ) -> list[dict[str, Any]]:
        service, method = operation.value
        pages = self._client(service, region, once=False).get_paginator(method)
        found: list[dict[str, Any]] = []
        for answer in pages.paginate(PaginationConfig={"PageSize": page}, **request):
            found += answer.get(key, [])
        return found

    # --- who we are -----------------------------------------------------------------------------

    def identity(self, region: str) -> dict[str, Any]:
        """Return the account, the ARN, and the answer's headers."""
        return self._call(Operation.IDENTITY, region)

    # --- what there is --------------------------------------------------------------------------

    def regions(self, region: str) -> list[dict[str, Any]]:
        """Return every region of the partition with its opt-in status."""
        return list(self._call(Operation.REGIONS, region, AllRegions=True).get("Regions", []))

    def types(self, region: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the machine types of a region."""
        return self._pages(Operation.TYPES, region, "InstanceTypes", page=_SMALL_PAGE, Filters=filters)

    def offerings(self, region: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return which zone has which machine type."""
        return self._pages(
            Operation.OFFERINGS, region, "InstanceTypeOfferings", LocationType="availability-zone", Filters=filters
        )

    def spot_prices(
        self, region: str, types: Sequence[str], start: object, products: list[str]
    ) -> list[dict[str, Any]]:
        """Return the spot prices that hold from ``start`` on."""
        return self._pages(
            Operation.SPOT_PRICES,
            region,
            "SpotPriceHistory",
            StartTime=start,
            InstanceTypes=list(types),
            ProductDescriptions=products,
        )

    def products(self, terms: dict[str, str]) -> list[str]:
        """Return the price list's items with these terms, each a JSON text."""
        filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in terms.items()]
        found: list[Any] = self._pages(
            Operation.PRODUCTS,
            _PRICING_REGION,
            "PriceList",
            page=_SMALL_PAGE,
            ServiceCode="AmazonEC2",
            FormatVersion="aws_v1",
            Filters=filters,
        )
        return found

    def quotas(self, region: str) -> list[dict[str, Any]]:
        """Return the quotas of EC2."""
        return self._pages(Operation.QUOTAS, region, "Quotas", page=_SMALL_PAGE, ServiceCode="ec2")

    def images(self, region: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return images by their ids; one that is not there is left out."""
        filters = [{"Name": "image-id", "Values": list(ids)}]
        return list(self._call(Operation.IMAGES, region, Filters=filters).get("Images", []))

    def subnets(self, region: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return subnets by their ids; one that is not there is left out."""
        return self._pages(Operation.SUBNETS, region, "Subnets", Filters=[{"Name": "subnet-id", "Values": list(ids)}])

    # --- machines -------------------------------------------------------------------------------

    def instances(self, region: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return machines by filters, never by ids: one unknown id would fail the whole."""
        reservations = self._pages(Operation.INSTANCES, region, "Reservations", Filters=filters)
        return [machine for reservation in reservations for machine in reservation.get("Instances", [])]

    def run(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        """Start one machine; sent once, never again."""
        [machine] = self._call(Operation.RUN, region, once=True, **request)["Instances"]
        return dict(machine)

    def terminate(self, region: str, id_: str) -> None:
        """End one machine; one that has ended is no error, one that is not known is."""
        self._call(Operation.TERMINATE, region, InstanceIds=[id_], SkipOsShutdown=True)

    def dry_run(self, operation: Operation, region: str, request: dict[str, Any]) -> None:
        """Ask whether a call might be made, which always fails: by what code, says it; nothing is changed."""
        self._call(operation, region, once=True, **request, DryRun=True)

    def spot_requests(self, region: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return spot requests; one whose machine is about to be taken has the status ``marked-for-termination``."""
        return self._pages(Operation.SPOT_REQUESTS, region, "SpotInstanceRequests", Filters=filters)

    def metrics(self, region: str, queries: list[dict[str, Any]], start: object, end: object) -> list[dict[str, Any]]:
        """Return series of figures."""
        return self._pages(
            Operation.METRICS,
            region,
            "MetricDataResults",
            page=100_000,
            MetricDataQueries=queries,
            StartTime=start,
            EndTime=end,
        )

    # --- security groups ------------------------------------------------------------------------

    def groups(self, region: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return security groups."""
        return self._pages(Operation.GROUPS, region, "SecurityGroups", Filters=filters)

    def make_group(self, region: str, request: dict[str, Any]) -> str:
        """Make a security group and return its id."""
        return str(self._call(Operation.MAKE_GROUP, region, once=True, **request)["GroupId"])

    def unmake_group(self, region: str, group: str) -> None:
        """Delete a security group."""
        self._call(Operation.UNMAKE_GROUP, region, once=True, GroupId=group)

    def set_rules(self, region: str, operation: Operation, group: str, rules: list[dict[str, Any]]) -> None:
        """Add or take away rules of a security group."""
        self._call(operation, region, GroupId=group, IpPermissions=rules)
