"""How the Resource Manager says no, and what physics means by it."""

from typing import Any

from compute_bridge.testing.physics.matter import Code, Refusal
from compute_bridge.testing.physics.wire import Cut, Response


class No(Exception):  # noqa: N818 - an answer of the fake, no error
    """An answer with an error code."""

    def __init__(
        self, status: int, code: str, message: str = "", *, target: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {code} {target} {message}")
        self.status = status
        self.code = code
        self.message = message or f"{code} (a message of Azure's, which nobody should repeat)"
        self.target = target
        self.headers = headers or {}

    def response(self) -> Response:
        """Return it on the wire."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "details": []}
        if self.target:
            error["target"] = self.target
        return Response.json({"error": error}, status=self.status, headers=self.headers)


def invalid(target: str, message: str = "") -> No:
    """Return the answer to a parameter that is wrong, unknown or missing."""
    return No(400, "InvalidParameter", message or f"the value of parameter {target} is invalid", target=target)


def no_of(refusal: Refusal) -> No:
    """Return what a refusal of the physics is in Azure's words; silence cuts the connection."""
    if refusal.code is Code.DOWN:
        raise Cut
    if refusal.code is Code.CREDENTIALS:
        return No(401, "ExpiredAuthenticationToken", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    if refusal.code is Code.THROTTLED:
        return No(429, "TooManyRequests", headers={"Retry-After": str(int(refusal.retry_after_s))})
    if refusal.code is Code.CAPACITY:
        return No(409, "SkuNotAvailable", target="vmSize")
    if refusal.code is Code.QUOTA:
        return No(
            409,
            "OperationNotAllowed",
            "Operation could not be completed as it results in exceeding approved Total Regional Cores quota.",
        )
    if refusal.code is Code.NOT_FOUND:
        return No(404, "ResourceNotFound")
    if refusal.code is Code.IN_USE:
        return No(400, "NicInUse")
    raise refusal
