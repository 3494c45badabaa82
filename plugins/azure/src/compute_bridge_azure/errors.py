"""What the codes of the Azure Resource Manager mean to the host: one table.

The class of an SDK's error tells nothing: 409 and 412 are one class, whether capacity, a quota or a name is meant.
"""

import re
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from compute_bridge.cloud.meanings import Meaning, Meanings
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

ALREADY_THERE = ("PreconditionFailed", "ConditionNotMet")
"""What a create is answered whose name is taken: by our own create, since the name is of the token."""
ABSENT = ("ResourceNotFound", "NotFound")
"""What is asked of something that is not there. A resource group or subscription that is not there is another code."""
NO_NETWORK = (*ABSENT, "ParentResourceNotFound", "ResourceGroupNotFound")
"""What is asked for a subnet or security group that is not there, or in a network or group that is not."""
NO_IMAGE = (*NO_NETWORK, "ImageNotFound", "PlatformImageNotFound")
"""What is asked for an image that is not there, or in a gallery or group that is not."""

SILENCE = "NoAnswer"
NO_TOKEN = "NoToken"  # noqa: S105 - a code of ours
OTHER_IDENTITY = "OtherIdentity"
_QUOTA = "OperationNotAllowed/quota"
_SPOT_QUOTA = "OperationNotAllowed/spot-quota"
_BUSY = "OperationNotAllowed/throttled"

_ELSEWHERE = Meaning(NoCapacityError, "another zone, size or location may have some", Scope.OFFER)
_MORE = "ask Azure for more, or sell fewer"
_ROLE = "give the principal the role that `compute-bridge azure policy` prints"
_TOKEN = "look at tenant, client and client_secret, or at what default-chain finds, and at the clock"  # noqa: S105 - a mend
_WAIT = Meaning(ThrottledError, "wait as told")
_AGAIN = Meaning(UnavailableError, "try again")
_TABLE_OF_OURS = Meaning(UnservableError, "look at the backend's table: shape, image, subnet and security group")

MEANINGS = Meanings(
    {
        # capacity
        "SkuNotAvailable": _ELSEWHERE,
        "AllocationFailed": _ELSEWHERE,
        "ZonalAllocationFailed": _ELSEWHERE,
        "OverconstrainedAllocationRequest": _ELSEWHERE,
        "OverconstrainedZonalAllocationRequest": _ELSEWHERE,
        # quota
        _QUOTA: Meaning(QuotaError, f"the location's or the family's cores are used up; {_MORE}", Scope.REGION),
        _SPOT_QUOTA: Meaning(QuotaError, f"the location's spot cores are used up; {_MORE}", Scope.OFFER),
        "QuotaExceeded": Meaning(QuotaError, _MORE, Scope.REGION),
        "PublicIPCountLimitReached": Meaning(QuotaError, f"public addresses are used up; {_MORE}", Scope.REGION),
        "ResourceQuotaExceeded": Meaning(QuotaError, f"the resource group is full; {_MORE}", Scope.ACCOUNT),
        # identity
        "AuthorizationFailed": Meaning(CredentialsError, _ROLE),
        "LinkedAuthorizationFailed": Meaning(CredentialsError, f"{_ROLE}, on subnet and security group too"),
        "InvalidAuthenticationToken": Meaning(CredentialsError, _TOKEN),
        "InvalidAuthenticationTokenTenant": Meaning(CredentialsError, _TOKEN),
        "ExpiredAuthenticationToken": Meaning(CredentialsError, _TOKEN),
        "AuthenticationFailed": Meaning(CredentialsError, _TOKEN),
        NO_TOKEN: Meaning(CredentialsError, _TOKEN),
        OTHER_IDENTITY: Meaning(CredentialsError, "the token is not of tenant and principal; mend those or the secret"),
        "SubscriptionNotFound": Meaning(CredentialsError, "look at subscription, and at who may see it"),
        "ReadOnlyDisabledSubscription": Meaning(CredentialsError, "the subscription is disabled: look at its bills"),
        "RequestDisallowedByPolicy": Meaning(CredentialsError, "a policy of the account forbids it: exempt the group"),
        "ResourceGroupNotFound": Meaning(CredentialsError, "make the resource group, or look at resource_group"),
        # No order is at fault, as the word "invalid" would have it: nothing can be made in the whole account until
        # somebody registers them. As unservable each grant would run through every offer, and nobody would be told.
        "MissingSubscriptionRegistration": Meaning(
            CredentialsError, "register Microsoft.Compute and Microsoft.Network in the subscription"
        ),
        "HTTP 401": Meaning(CredentialsError, _TOKEN),
        "HTTP 403": Meaning(CredentialsError, _ROLE),
        # throttling
        _BUSY: _WAIT,
        "TooManyRequests": _WAIT,
        "SubscriptionRequestsThrottled": _WAIT,
        "HTTP 429": _WAIT,
        # invalid
        "InvalidParameter": _TABLE_OF_OURS,
        "BadRequest": _TABLE_OF_OURS,
        "InvalidTemplateDeployment": _TABLE_OF_OURS,
        "InvalidResourceReference": _TABLE_OF_OURS,
        "ImageNotFound": Meaning(UnservableError, "look at the image's urn"),
        "PlatformImageNotFound": Meaning(UnservableError, "look at the image's urn"),
        "PropertyChangeNotAllowed": Meaning(UnservableError, "its name is another machine's: look at the account"),
        # transient
        "InternalServerError": _AGAIN,
        "ServerBusy": _AGAIN,
        "RetryableError": _AGAIN,
        "InternalExecutionError": _AGAIN,
        "VMStartTimedOut": _AGAIN,
        SILENCE: Meaning(UnavailableError, "nobody answered; look at the network, then at Azure's status page"),
    }
)


class OtherIdentityError(Exception):
    """A token is of another tenant or principal than the table pins; use it for nothing."""


@frozen
class Answer:
    """What an SDK's error tells: the code that the table goes by, the HTTP status, and how long to wait."""

    code: str
    status: int = 0
    retry_after_s: float | None = None


def answer_of(error: Exception) -> Answer | None:
    """Return what an error of the SDK tells; ``None`` for what is none of its errors but a bug."""
    causes = list(_causes(error))
    if any(isinstance(one, OtherIdentityError) for one in causes):
        return Answer(OTHER_IDENTITY)
    # A lost connection to where tokens come from is wrapped as if the secret were refused.
    if any(_is_a(one, "ServiceRequestError", "ServiceResponseError", "ConnectionError", "Timeout") for one in causes):
        return Answer(SILENCE)
    if not _is_a(error, "AzureError"):
        return None
    status = getattr(error, "status_code", None)
    model = getattr(error, "error", None)
    code = str(getattr(model, "code", None) or "")
    if not status:
        return Answer(NO_TOKEN if _is_a(error, "ClientAuthenticationError") else SILENCE)
    return Answer(_refined(code, status, error) or f"HTTP {status}", status, _retry_after(error))


def _refined(code: str, status: int, error: Exception) -> str:
    if code != "OperationNotAllowed":
        return code
    if status == 429:
        return _BUSY
    # One code for many things; which quota it is, if one, stands in the message alone.
    told = str(getattr(getattr(error, "error", None), "message", "") or "")
    if not re.search(r"exceeding approved .*quota", told, re.IGNORECASE | re.DOTALL):
        return code
    return _SPOT_QUOTA if re.search("LowPriority|Spot", told, re.IGNORECASE) else _QUOTA


def _retry_after(error: Exception) -> float | None:
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    told = str(headers.get("Retry-After", ""))
    return float(told) if re.fullmatch(r"[0-9]{1,6}", told) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def _is_a(error: BaseException, *names: str) -> bool:
    # By name, so that nothing here imports the SDK.
    return any(kind.__name__ in names for kind in type(error).__mro__)


def failure_of(status_code: str, backend: BackendName, place: str) -> BackendError | None:
    """Return why an accepted machine never ran, from its ``ProvisioningState/failed/<Code>``; ``None`` for others.

    It is always a definite no: the machine stands failed, and the same order met it again for ever.
    """
    match = re.fullmatch(r"ProvisioningState/failed(/(?P<code>[A-Za-z0-9]+))?", status_code, re.IGNORECASE)
    if match is None:
        return None
    error = MEANINGS.error(backend, "start a machine", match["code"] or "ProvisioningFailed", place=place)
    return error if isinstance(error, NoCapacityError | QuotaError | UnservableError) else UnservableError(str(error))
