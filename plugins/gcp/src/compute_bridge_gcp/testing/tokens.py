"""Service accounts of a fake's own: keys as the vendor makes them, and the check of the tokens signed with them."""

import base64
import json
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


@cache
def _private(number: int) -> rsa.RSAPrivateKey:
    # Making one takes a tenth of a second; tests share a few.
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(number: int) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _private(number).private_bytes(*form).decode()


def key_file(email: str, *, number: int = 0) -> bytes:
    """Return the JSON key of a service account, as an operator downloads it."""
    key = {
        "type": "service_account",
        "client_email": email,
        "private_key_id": f"{number:040x}",
        "private_key": _pem(number),
        # Nobody is there: a token that is signed by the key itself needs nobody.
        "token_uri": "http://127.0.0.1:9/token",
    }
    return json.dumps(key).encode()


def key_lines(*, number: int = 0) -> tuple[str, ...]:
    """Return the lines of a key that must stay secret."""
    return tuple(line for line in _pem(number).splitlines() if not line.startswith("-----"))


def bearer_of(header: str, *, number: int = 0) -> str:
    """Return whose token an Authorization header carries, empty for no token that we know."""
    kind, _, token = header.partition(" ")
    parts = token.split(".")
    if kind != "Bearer" or len(parts) != 3:
        return ""
    signed = f"{parts[0]}.{parts[1]}".encode()
    try:
        _private(number).public_key().verify(_decoded(parts[2]), signed, padding.PKCS1v15(), hashes.SHA256())
        claims = json.loads(_decoded(parts[1]))
    except (InvalidSignature, ValueError):
        return ""
    return str(claims["iss"]) if "cloud-platform" in claims.get("scope", "") else ""


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
