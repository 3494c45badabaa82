"""A refusal in AWS's own words."""

from collections.abc import Mapping
from typing import Any

from compute_bridge.testing.physics.matter import Code, Refusal

_STATUS = {
    "AuthFailure": 401,
    "UnauthorizedOperation": 403,
    "DryRunOperation": 412,
    "RequestLimitExceeded": 503,
    "InsufficientInstanceCapacity": 500,
    "InternalError": 500,
}
_CODES = {
    Code.CREDENTIALS: "AuthFailure",
    Code.THROTTLED: "RequestLimitExceeded",
    Code.CAPACITY: "InsufficientInstanceCapacity",
    Code.QUOTA: "VcpuLimitExceeded",
    Code.NAME_TAKEN: "InvalidGroup.Duplicate",
    Code.TOKEN_MISMATCH: "IdempotentParameterMismatch",
    Code.TOKEN_USED_UP: "IdempotentInstanceTerminated",
    Code.NOT_FOUND: "InvalidInstanceID.NotFound",
    Code.IN_USE: "DependencyViolation",
}


class AwsRefusal(Exception):  # noqa: N818 - an answer of the fake, no error of ours
    """AWS says no: a code, a message that nobody may read anything from, and how long to wait where it says that."""

    def __init__(self, code: str, message: str = "", *, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message or f"this is {code}"
        self.status = _STATUS.get(code, 400)
        self.headers = {"Retry-After": f"{retry_after_s:.0f}"} if retry_after_s else {}

    @classmethod
    def of(cls, refusal: Refusal) -> "AwsRefusal":
        """Return what EC2 says where the physics refuses."""
        return cls(_CODES[refusal.code], f"refused: {refusal}", retry_after_s=refusal.retry_after_s)


def refuse_dry_run(request: Mapping[str, Any]) -> None:
    """Go no further with what was asked as a dry run; to be called once IAM has allowed it.

    :raises AwsRefusal: ``DryRunOperation``, if it was.
    """
    if request.get("DryRun"):
        raise AwsRefusal("DryRunOperation", "the request would have succeeded")
