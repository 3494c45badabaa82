"""The table of codes: each to its class and scope, none by guess, none with Amazon's own words."""

import pytest

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
from compute_bridge_aws.errors import MEANINGS, launch_failure
from compute_bridge_aws.sdk import told_by

_CASES = {
    NoCapacityError: """InsufficientInstanceCapacity InsufficientHostCapacity InsufficientCapacity UnfulfillableCapacity
        ReservationCapacityExceeded SpotMaxPriceTooLow Unsupported InsufficientFreeAddressesInSubnet""",
    QuotaError: """VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded MaxFleetCountExceeded
        VolumeLimitExceeded SecurityGroupLimitExceeded AddressLimitExceeded""",
    CredentialsError: """UnauthorizedOperation AuthFailure InvalidClientTokenId SignatureDoesNotMatch ExpiredToken
        RequestExpired OptInRequired Blocked PendingVerification
        AuthFailure.ServiceLinkedRoleCreationNotPermitted""",
    ThrottledError: "RequestLimitExceeded Throttling ThrottlingException EC2ThrottledException",
    UnservableError: """InvalidParameterValue InvalidParameterCombination InvalidAMIID.NotFound InvalidSubnetID.NotFound
        InvalidGroup.NotFound IdempotentParameterMismatch InvalidUserData.Malformed""",
    UnavailableError: """InternalError InternalFailure ServiceUnavailable Unavailable RequestTimeout ConnectionError
        EndpointConnectionError ConnectTimeoutError ReadTimeoutError ResponseParserError SomethingNew""",
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in _CASES.items() for code in codes.split()])
def test_each_code_has_its_class(kind: type[BackendError], code: str):
    error = MEANINGS.error(BackendName("b"), "do it", code)

    assert type(error) is kind
    assert f"backend b: cannot do it: {code}: " in str(error)


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        *((code, Scope.OFFER) for code in _CASES[NoCapacityError].split() if not code.endswith("InSubnet")),
        ("InsufficientFreeAddressesInSubnet", Scope.ZONE),
        *((code, Scope.REGION) for code in _CASES[QuotaError].split() if code != "MaxSpotInstanceCountExceeded"),
        ("MaxSpotInstanceCountExceeded", Scope.OFFER),
    ],
)
def test_each_lack_reaches_as_far_as_it_does(code: str, scope: Scope):
    error = MEANINGS.error(BackendName("b"), "do it", code)

    assert isinstance(error, NoCapacityError | QuotaError)
    assert error.scope is scope


def test_a_wait_is_as_long_as_was_told():
    told = MEANINGS.error(BackendName("b"), "do it", "Throttling", retry_after_s=7)

    assert isinstance(told, ThrottledError)
    assert told.retry_after_s == 7


@pytest.mark.parametrize("reason", ["Server.InsufficientInstanceCapacity", "Client.VolumeLimitExceeded"])
def test_a_launch_that_failed_has_a_code_of_the_table(reason: str):
    code = launch_failure(reason)

    assert code is not None
    assert MEANINGS.knows(code)


def test_what_is_no_error_of_the_sdk_is_a_bug():
    assert told_by(KeyError("x")) is None
    assert told_by(None) is None
