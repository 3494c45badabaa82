"""What Compute Engine's codes mean to the host, and what its SDK's errors have for codes.

Source: the reasons of the API's error documents and the codes of its operations; a code beyond this table is taken
for no answer at all.
"""

from attrs import frozen

from compute_bridge.cloud.meanings import Meaning, Meanings
from compute_bridge.ports.errors import (
    CredentialsError,
    NoCapacityError,
    QuotaError,
    Scope,
    ThrottledError,
    UnavailableError,
    UnservableError,
)

ALREADY_EXISTS = frozenset({"alreadyExists", "RESOURCE_ALREADY_EXISTS"})
NOT_FOUND = frozenset({"notFound", "RESOURCE_NOT_FOUND", "http-404"})
NOT_READY = frozenset({"resourceNotReady", "RESOURCE_NOT_READY"})
INVALID = frozenset({"invalid", "INVALID_FIELD_VALUE", "INVALID_USAGE", "badRequest", "required", "http-400"})
ACCOUNT_QUOTA = "CPUS_ALL_REGIONS"

_ELSEWHERE = "sold out there; another zone or shape may do"
_ASK_QUOTA = "ask the vendor for more quota, or sell less there"
_KEY = "look at the service account, its key and its role (compute-bridge gcp policy)"
_WAIT = "the bridge asks again by itself; if it lasts, look at the network, then at Google's status page"
_LESS = "the bridge asks again by itself; if it lasts, raise watch_ms, or ask Google for a higher rate"
_OURS = "look at the backend's table with compute-bridge doctor"


def _of(meaning: Meaning, *codes: str) -> dict[str, Meaning]:
    return dict.fromkeys(codes, meaning)


MEANINGS = Meanings(
    _of(
        Meaning(NoCapacityError, _ELSEWHERE, Scope.ZONE),
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "STOCKOUT",
        "insufficientCapacity",
        "INSUFFICIENT_CAPACITY",
        "resourcesExhausted",
        "RESOURCE_NOT_READY",
        "resourceNotReady",
    )
    | _of(
        # A machine that is preempted while it is made ends in UNSUPPORTED_OPERATION.
        Meaning(NoCapacityError, _ELSEWHERE, Scope.OFFER),
        "GPU_STOCKOUT",
        "UNSUPPORTED_OPERATION",
    )
    | _of(Meaning(NoCapacityError, _ELSEWHERE, Scope.REGION), "REGION_RESOURCE_POOL_EXHAUSTED")
    | _of(Meaning(QuotaError, _ASK_QUOTA, Scope.REGION), "QUOTA_EXCEEDED", "quotaExceeded")
    | _of(Meaning(QuotaError, _ASK_QUOTA, Scope.ACCOUNT), f"QUOTA_EXCEEDED {ACCOUNT_QUOTA}")
    | _of(Meaning(QuotaError, _ASK_QUOTA, Scope.ACCOUNT), f"quotaExceeded {ACCOUNT_QUOTA}")
    | _of(
        Meaning(CredentialsError, _KEY),
        "http-401",
        "http-403",
        "authError",
        "required-login",
        "forbidden",
        "insufficientPermissions",
        "accessNotConfigured",
        "billingNotEnabled",
        # Reasons of google.rpc.ErrorInfo, which stand alone where an API has no list of errors: as of prices,
        # permissions and metrics. Source: google/api/error_reason.proto.
        "SERVICE_DISABLED",
        "BILLING_DISABLED",
        "IAM_PERMISSION_DENIED",
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "USER_PROJECT_DENIED",
        "PERMISSIONS_ERROR",
        "FORBIDDEN",
        "RefreshError",
        "DefaultCredentialsError",
        "InvalidOperation",
        "MalformedError",
        "other-identity",
    )
    | _of(
        Meaning(ThrottledError, _LESS),
        "rateLimitExceeded",
        "RATE_LIMIT_EXCEEDED",
        "userRateLimitExceeded",
        "http-429",
        "resourceExhausted",
        "concurrentOperationsQuotaExceeded",
    )
    | _of(
        Meaning(UnservableError, _OURS),
        *INVALID,
        *NOT_FOUND,
        "conditionNotMet",
        "IMAGE_NOT_FOUND",
        "UNSUPPORTED_MACHINE_TYPE",
    )
    | _of(
        Meaning(UnavailableError, _WAIT),
        "backendError",
        "internalError",
        "INTERNAL_ERROR",
        "SERVICE_UNAVAILABLE",
        "http-408",
        "http-500",
        "http-502",
        "http-503",
        "http-504",
        "ConnectionError",
        "Timeout",
        "TransportError",
        "unreachable",
    )
)
"""Every code that we know. ``http-NNN`` is a status without a reason; an SDK's error goes by its own name."""


@frozen
class Answer:
    """What an error says: its code, how long to wait if it says that, and the HTTP status if there was one."""

    code: str
    retry_after_s: float | None = None
    status: int = 0
