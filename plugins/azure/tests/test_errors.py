"""What a code means, whatever the class of the SDK's error."""

import pytest

from compute_bridge.model.ids import BackendName
from compute_bridge.ports import errors
from compute_bridge_azure.errors import MEANINGS, OtherIdentityError, answer_of, failure_of

NAME = BackendName("azure-eu")


class AzureError(Exception):
    """Stands for the SDK's class of that name, which is told by its name."""


class ServiceRequestError(AzureError): ...


class ClientAuthenticationError(AzureError): ...


class Model:
    def __init__(self, code, message):
        self.code, self.message = code, message


class Reply:
    def __init__(self, headers):
        self.headers = headers


class HttpResponseError(AzureError):
    def __init__(self, status, code=None, message="", headers=None):
        super().__init__(f"({code}) secret words of Azure's")
        self.status_code = status
        self.error = Model(code, message) if code else None
        self.response = Reply(headers or {})


def meant(error):
    answer = answer_of(error)
    assert answer is not None
    return MEANINGS.error(NAME, "create cb-1", answer.code, retry_after_s=answer.retry_after_s)


QUOTA = "Operation could not be completed as it results in exceeding approved {} quota. Current limit: 10"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HttpResponseError(409, "SkuNotAvailable"), errors.NoCapacityError),
        (HttpResponseError(409, "ZonalAllocationFailed"), errors.NoCapacityError),
        (HttpResponseError(200, "AllocationFailed"), errors.NoCapacityError),
        (HttpResponseError(409, "OverconstrainedZonalAllocationRequest"), errors.NoCapacityError),
        (HttpResponseError(409, "OperationNotAllowed", QUOTA.format("Total Regional Cores")), errors.QuotaError),
        (HttpResponseError(409, "OperationNotAllowed", QUOTA.format("LowPriorityCores")), errors.QuotaError),
        (HttpResponseError(409, "OperationNotAllowed", "The VM is marked for deletion"), errors.UnavailableError),
        (HttpResponseError(429, "OperationNotAllowed", "too many requests"), errors.ThrottledError),
        (HttpResponseError(429, "TooManyRequests"), errors.ThrottledError),
        (HttpResponseError(429), errors.ThrottledError),
        (HttpResponseError(400, "PublicIPCountLimitReached"), errors.QuotaError),
        (HttpResponseError(401, "ExpiredAuthenticationToken"), errors.CredentialsError),
        (HttpResponseError(401), errors.CredentialsError),
        (HttpResponseError(403, "AuthorizationFailed"), errors.CredentialsError),
        (HttpResponseError(403, "RequestDisallowedByPolicy"), errors.CredentialsError),
        (HttpResponseError(404, "SubscriptionNotFound"), errors.CredentialsError),
        (HttpResponseError(404, "ResourceGroupNotFound"), errors.CredentialsError),
        (HttpResponseError(409, "MissingSubscriptionRegistration"), errors.CredentialsError),
        (HttpResponseError(400, "InvalidParameter"), errors.UnservableError),
        (HttpResponseError(404, "PlatformImageNotFound"), errors.UnservableError),
        (HttpResponseError(409, "PropertyChangeNotAllowed"), errors.UnservableError),
        (HttpResponseError(409, "AnyNewCode"), errors.UnavailableError),
        (HttpResponseError(500, "InternalServerError"), errors.UnavailableError),
        (HttpResponseError(503), errors.UnavailableError),
        (ServiceRequestError("no route"), errors.UnavailableError),
        (ClientAuthenticationError("AADSTS7000215"), errors.CredentialsError),
    ],
)
def test_a_code_has_one_meaning(error, kind):
    found = meant(error)

    assert type(found) is kind
    assert NAME in str(found)
    assert "secret words" not in str(found)


LACKS = {
    "SkuNotAvailable AllocationFailed ZonalAllocationFailed OverconstrainedAllocationRequest "
    "OverconstrainedZonalAllocationRequest": (errors.NoCapacityError, errors.Scope.OFFER),
    "QuotaExceeded PublicIPCountLimitReached": (errors.QuotaError, errors.Scope.REGION),
    "ResourceQuotaExceeded": (errors.QuotaError, errors.Scope.ACCOUNT),
}
OTHERS = {
    "AuthorizationFailed LinkedAuthorizationFailed InvalidAuthenticationToken InvalidAuthenticationTokenTenant "
    "ExpiredAuthenticationToken SubscriptionNotFound ReadOnlyDisabledSubscription RequestDisallowedByPolicy "
    "MissingSubscriptionRegistration": errors.CredentialsError,
    "TooManyRequests SubscriptionRequestsThrottled": errors.ThrottledError,
    "InvalidParameter BadRequest InvalidTemplateDeployment ImageNotFound "
    "PropertyChangeNotAllowed": errors.UnservableError,
    "InternalServerError ServerBusy RetryableError InternalExecutionError VMStartTimedOut": errors.UnavailableError,
}


@pytest.mark.parametrize(
    ("code", "kind", "scope"), [(code, *found) for codes, found in LACKS.items() for code in codes.split()]
)
def test_each_lack_reaches_as_far_as_it_does(code, kind, scope):
    found = meant(HttpResponseError(409, code))

    assert (type(found), found.scope) == (kind, scope)


@pytest.mark.parametrize(("code", "kind"), [(code, kind) for codes, kind in OTHERS.items() for code in codes.split()])
def test_each_code_is_in_the_table(code, kind):
    assert MEANINGS.knows(code)
    assert type(meant(HttpResponseError(409, code))) is kind


@pytest.mark.parametrize(
    ("message", "scope"), [("standardDSv5Family Cores", "region"), ("Total Regional Low-priority Cores", "region")]
)
def test_a_quota_reaches_as_far_as_it_says(message, scope):
    assert meant(HttpResponseError(409, "OperationNotAllowed", QUOTA.format(message))).scope == scope


def test_the_spot_quota_spares_what_is_sold_on_demand():
    found = meant(HttpResponseError(409, "OperationNotAllowed", QUOTA.format("LowPriorityCores")))

    assert found.scope is errors.Scope.OFFER


def test_a_wait_is_as_long_as_told():
    assert meant(HttpResponseError(429, "TooManyRequests", headers={"Retry-After": "7"})).retry_after_s == 7
    assert meant(HttpResponseError(429, "TooManyRequests", headers={"Retry-After": "soon"})).retry_after_s > 0


def test_a_lost_connection_on_the_way_to_a_token_is_silence():
    wrapped = ClientAuthenticationError("Authentication failed: cannot connect")
    wrapped.__cause__ = ServiceRequestError("cannot connect")

    assert type(meant(wrapped)) is errors.UnavailableError


def test_providers_that_are_not_registered_are_named_to_the_operator():
    # Benched as an account and told as an error, which an unservable order is not.
    message = str(meant(HttpResponseError(409, "MissingSubscriptionRegistration")))

    assert "register Microsoft.Compute and Microsoft.Network" in message


def test_another_identity_is_refused_credentials():
    assert type(meant(OtherIdentityError("another"))) is errors.CredentialsError


def test_a_bug_is_no_answer_of_azure():
    assert answer_of(KeyError("typo")) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisioningState/failed/AllocationFailed", errors.NoCapacityError),
        ("ProvisioningState/failed/ZonalAllocationFailed", errors.NoCapacityError),
        ("ProvisioningState/failed/VMStartTimedOut", errors.UnservableError),
        ("ProvisioningState/failed/NewCode", errors.UnservableError),
        ("ProvisioningState/failed", errors.UnservableError),
    ],
)
def test_a_machine_that_failed_is_a_definite_no(code, kind):
    assert type(failure_of(code, NAME, "westeurope")) is kind


@pytest.mark.parametrize("code", ["ProvisioningState/succeeded", "PowerState/running", ""])
def test_what_did_not_fail_has_no_failure(code):
    assert failure_of(code, NAME, "westeurope") is None
