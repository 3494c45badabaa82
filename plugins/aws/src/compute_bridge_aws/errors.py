"""What the error codes of AWS mean: one table, by code and never by the SDK's class or message.

Source: the EC2 API reference, "Error codes for the Amazon EC2 API"; the SDK's own classes for what never reached AWS.
"""

from collections.abc import Iterable
from typing import Final

from compute_bridge.cloud.meanings import Meaning, Meanings
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


def _all(codes: str, kind: type[BackendError], mend: str, scope: Scope | None = None) -> Iterable[tuple[str, Meaning]]:
    return ((code, Meaning(kind, mend, scope)) for code in codes.split())


_ELSEWHERE = "another zone or machine type may have it"
_RAISE = "ask AWS to raise the quota, or end something"
_POLICY = "compare the identity's policy with what 'compute-bridge aws policy' prints"

MEANINGS: Final = Meanings(
    dict(
        [
            # --- capacity
            *_all(
                "InsufficientInstanceCapacity InsufficientCapacity UnfulfillableCapacity ReservationCapacityExceeded "
                "SpotMaxPriceTooLow Unsupported InsufficientHostCapacity",
                NoCapacityError,
                f"no capacity; {_ELSEWHERE}",
                Scope.OFFER,
            ),
            *_all(
                "InsufficientFreeAddressesInSubnet",
                NoCapacityError,
                "the zone's subnet has no free address; give it a larger one",
                Scope.ZONE,
            ),
            # --- quota
            *_all(
                "VcpuLimitExceeded InstanceLimitExceeded MaxFleetCountExceeded "
                "VolumeLimitExceeded SecurityGroupLimitExceeded SecurityGroupsPerInstanceLimitExceeded "
                "SecurityGroupsPerInterfaceLimitExceeded RulesPerSecurityGroupLimitExceeded AddressLimitExceeded "
                "NetworkInterfaceLimitExceeded",
                QuotaError,
                _RAISE,
                Scope.REGION,
            ),
            # What is sold on demand has a quota of its own.
            *_all("MaxSpotInstanceCountExceeded", QuotaError, _RAISE, Scope.OFFER),
            # --- who we are
            *_all(
                "AuthFailure InvalidClientTokenId SignatureDoesNotMatch IncompleteSignature MissingAuthenticationToken "
                "UnrecognizedClientException InvalidSignatureException NoCredentialsError PartialCredentialsError "
                "CredentialRetrievalError TokenRetrievalError ProfileNotFound",
                CredentialsError,
                "see that the access key is right and that the region is enabled for the account",
            ),
            *_all(
                "ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired RequestTimeTooSkewed",
                CredentialsError,
                "renew the temporary credentials, and see that this machine's clock is right",
            ),
            *_all("UnauthorizedOperation AccessDenied AccessDeniedException", CredentialsError, _POLICY),
            *_all(
                "OptInRequired Blocked PendingVerification AuthFailure.ServiceLinkedRoleCreationNotPermitted",
                CredentialsError,
                "AWS wants something done about the account; sign in to its console and see what",
            ),
            # --- too fast
            *_all(
                "RequestLimitExceeded Throttling ThrottlingException ThrottledException RequestThrottled "
                "RequestThrottledException EC2ThrottledException TooManyRequestsException LimitExceededException "
                "BandwidthLimitExceeded",
                ThrottledError,
                "too many calls for this account; it is waited",
            ),
            # --- what we said
            *_all(
                "InvalidParameterValue InvalidParameterCombination InvalidParameter MissingParameter UnknownParameter "
                "InvalidAMIID.NotFound InvalidAMIID.Malformed InvalidAMIID.Unavailable InvalidSubnetID.NotFound "
                "InvalidSubnet InvalidGroup.NotFound InvalidGroupId.Malformed InvalidUserData.Malformed "
                "IdempotentParameterMismatch InvalidInstanceType InvalidSnapshot.NotFound UnsupportedOperation "
                "InvalidKMSKey.InvalidState KMSKeyNotAccessibleFault ParamValidationError ValidationError "
                "InvalidBlockDeviceMapping VPCIdNotSpecified InvalidVpcID.NotFound InvalidRequest "
                "InvalidInstanceID.NotFound InvalidInstanceID.Malformed",
                UnservableError,
                "look at the image, subnet, key and machine types of the table; 'compute-bridge doctor' tells which",
            ),
            *_all(
                "IdempotentInstanceTerminated",
                UnservableError,
                "the machine of this token has ended, and nothing is made under it again",
            ),
            # --- no answer
            *_all(
                "500 502 503 504 InternalError InternalFailure InternalServerError InternalServiceErrorException "
                "ServiceUnavailable ServiceUnavailableException Unavailable RequestTimeout RequestTimeoutException "
                "ResponseParserError",
                UnavailableError,
                "AWS could not answer; it is asked again",
            ),
            *_all(
                "ConnectionError EndpointConnectionError ConnectTimeoutError ReadTimeoutError ConnectionClosedError "
                "HTTPClientError SSLError ProxyConnectionError EndpointProviderError IncompleteReadError",
                UnavailableError,
                "AWS could not be reached; see the network, proxy and endpoint",
            ),
        ]
    )
)

NOT_FOUND: Final = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
"""Codes that say of a machine that it is not there."""

MISMATCH: Final = "IdempotentParameterMismatch"
PASSED_DRY_RUN: Final = "DryRunOperation"

_LAUNCH_FAILURES: Final = {
    "Server.InsufficientInstanceCapacity": "InsufficientInstanceCapacity",
    "Server.InternalError": "InsufficientInstanceCapacity",
    "Server.SpotInstanceTermination": "InsufficientInstanceCapacity",
    "Client.VolumeLimitExceeded": "VolumeLimitExceeded",
    "Client.InternalError": "KMSKeyNotAccessibleFault",
    "Client.InvalidSnapshot.NotFound": "InvalidSnapshot.NotFound",
}


def launch_failure(state_reason: str) -> str | None:
    """Return the code that a machine's state reason stands for, where that says why it never ran.

    Source: EC2 API reference, type StateReason. ``Server.InternalError`` at launch is a host that broke; another has
    room. ``Client.InternalError`` at launch is a root volume that cannot be decrypted.
    """
    return _LAUNCH_FAILURES.get(state_reason)
