"""Each code of the vendor's has its class and its reach; whatever else it says is no answer."""

import pytest
from google.api.error_reason_pb2 import ErrorReason

from compute_bridge.model.ids import BackendName
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    NoCapacityError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge_gcp.errors import MEANINGS
from compute_bridge_gcp.facts import silent_in
from compute_bridge_gcp.sdk import message_of

CAPACITY = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": Scope.ZONE,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": Scope.ZONE,
    "REGION_RESOURCE_POOL_EXHAUSTED": Scope.REGION,
    "STOCKOUT": Scope.ZONE,
    "GPU_STOCKOUT": Scope.OFFER,
    "insufficientCapacity": Scope.ZONE,
    "UNSUPPORTED_OPERATION": Scope.OFFER,
    "RESOURCE_NOT_READY": Scope.ZONE,
}
QUOTA = {
    "QUOTA_EXCEEDED": Scope.REGION,
    "quotaExceeded": Scope.REGION,
    "QUOTA_EXCEEDED CPUS_ALL_REGIONS": Scope.ACCOUNT,
    "quotaExceeded CPUS_ALL_REGIONS": Scope.ACCOUNT,
}
OTHERS = {
    CredentialsError: [
        *["http-401", "forbidden", "accessNotConfigured", "PERMISSIONS_ERROR", "RefreshError", "InvalidOperation"],
        *["SERVICE_DISABLED", "BILLING_DISABLED", "IAM_PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"],
        *["CONSUMER_INVALID", "CONSUMER_SUSPENDED", "USER_PROJECT_DENIED"],
    ],
    ThrottledError: ["rateLimitExceeded", "userRateLimitExceeded", "http-429"],
    UnservableError: ["invalid", "INVALID_FIELD_VALUE", "INVALID_USAGE", "notFound", "http-400"],
    UnavailableError: ["backendError", "internalError", "ConnectionError", "Timeout", "TransportError", "http-503"],
}


# Those that the SDK's own list of reasons has, and that we mean to know of it.
REASONS = [code for code in OTHERS[CredentialsError] if code.isupper() and code != "PERMISSIONS_ERROR"]


def error(code: str) -> BackendError:
    return MEANINGS.error(BackendName("gcp-1"), "make cb-1", code)


@pytest.mark.parametrize(
    ("page", "silent"),
    [
        ({"items": {"zones/a-b1-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}}, set()),
        ({"items": {"zones/a-b1-a": {"warning": {"code": "UNREACHABLE"}}}}, {"zones/a-b1-a"}),
        ({"items": {"zones/a-b1-a": {"warning": {"code": "NEW_WORD"}}}}, {"zones/a-b1-a"}),
        ({"unreachables": ["zones/a-b1-a"], "warning": {"code": "UNREACHABLE"}}, {"zones/a-b1-a"}),
        ({"warning": {"code": "UNREACHABLE"}}, {"a place that it does not name"}),
        ({"warning": {"code": "NO_RESULTS_ON_PAGE"}}, set()),
    ],
)
def test_what_a_page_lacks_is_told(page, silent):
    assert silent == silent_in(message_of("InstanceAggregatedList", page))


@pytest.mark.parametrize(("code", "scope"), CAPACITY.items())
def test_capacity_has_a_reach(code, scope):
    assert isinstance(found := error(code), NoCapacityError)
    assert scope is found.scope


@pytest.mark.parametrize(("code", "scope"), QUOTA.items())
def test_a_quota_has_a_reach(code, scope):
    assert isinstance(found := error(code), QuotaError)
    assert scope is found.scope


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in OTHERS.items() for code in codes])
def test_a_code_has_a_class(kind, code):
    assert kind is type(error(code))


@pytest.mark.parametrize("code", REASONS)
def test_a_reason_of_an_api_without_a_list_of_errors_is_spelled_as_the_sdk_spells_it(code):
    assert code in ErrorReason.keys()


def test_an_unknown_code_is_no_answer_and_is_named():
    found = error("SOMETHING_NEW")

    assert UnavailableError is type(found)
    assert "SOMETHING_NEW" in str(found)
    assert "gcp-1" in str(found)
