"""Who sent a request: AWS's Signature Version 4, checked as AWS checks it.

Source: AWS General Reference, "Create a signed AWS API request".
"""

import hashlib
import hmac
import re
from collections.abc import Mapping

from attrs import field, frozen

from compute_bridge.testing.physics.wire import Request
from compute_bridge_aws.testing.refusal import AwsRefusal

_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/(?P<scope>(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9]+)"
    r"/aws4_request), SignedHeaders=(?P<headers>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


@frozen
class Key:
    """An access key of an account; ``token`` is the session's that it is good in, empty for a key of an user."""

    account: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


@frozen
class Sender:
    """Which key a request is signed with, and for which region and service."""

    key_id: str
    region: str
    service: str

    @classmethod
    def read(cls, request: Request) -> "Sender | None":
        """Return whom a request says it is from, if it says so."""
        told = _HEADER.fullmatch(request.headers.get("authorization", ""))
        return cls(told["key"], told["region"], told["service"]) if told else None


def account_of(request: Request, keys: Mapping[str, Key]) -> str:
    """Return the account whose key signed a request.

    :raises AwsRefusal: ``AuthFailure``, for an unknown key, a wrong signature or a wrong token.
    """
    told = _HEADER.fullmatch(request.headers.get("authorization", ""))
    key = keys.get(told["key"]) if told else None
    if told is None or key is None or request.headers.get("x-amz-security-token", "") != key.token:
        raise AwsRefusal("AuthFailure", "AWS was not able to validate the provided access credentials")
    names = told["headers"]
    lines = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in names.split(";"))
    body = hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join([request.method, request.path, request.query, lines, names, body])
    moment = request.headers.get("x-amz-date", "")
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{told['scope']}\n{hashed}"
    secret = f"AWS4{key.secret}".encode()
    for word in told["scope"].split("/"):
        secret = hmac.digest(secret, word.encode(), "sha256")
    if hmac.digest(secret, text.encode(), "sha256").hex() != told["signature"]:
        raise AwsRefusal("AuthFailure", "the signature does not match")
    return key.account
