"""Keys that a lease needs, remade from the bridge secret, and their OpenSSH spellings."""

import base64
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import Token

_SSH_ED25519 = b"ssh-ed25519"


def derive_seed(secret: bytes, purpose: str, token: bytes) -> bytes:
    """Return the 32-byte seed for ``purpose`` of the order ``token``: HKDF-SHA256(secret).

    The same three inputs give the same seed in any process, so a retry after a crash carries the same
    bytes and nothing secret is ever journalled.
    """
    info = b"compute-bridge/lease-key/v1\0" + purpose.encode() + b"\0" + token
    return HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(secret)


def lease_mac(secret: bytes, name: str, grant_hash: bytes) -> bytes:
    """Return the ``cb-mac``: HMAC-SHA256(bridge secret, name, grant hash); what proves a machine ours."""
    message = b"compute-bridge/cb-mac/v1\0" + name.encode() + b"\0" + grant_hash
    return hmac.digest(secret, message, "sha256")


def instance_name(token: Token) -> str:
    """Return the name of the instance of an order: ``cb-`` and 24 hex digits of the token."""
    return f"cb-{token.hex()[:24]}"


def ssh_public_line(seed: bytes) -> str:
    """Return the OpenSSH public key line, without comment, of an Ed25519 ``seed``."""
    blob = _string(_SSH_ED25519) + _string(_public(seed))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def ssh_private_file(seed: bytes) -> str:
    """Return the OpenSSH private key file of an Ed25519 ``seed``; the same bytes every time.

    The check integers, random elsewhere, are the first bytes of the public key: they only tell a right
    passphrase from a wrong one, and there is none.

    Source: OpenSSH PROTOCOL.key.
    """
    public = _public(seed)
    section = public[:4] * 2 + _string(_SSH_ED25519) + _string(public) + _string(seed + public) + _string(b"")
    section += bytes(range(1, 1 + -len(section) % 8))
    blob = b"openssh-key-v1\0" + _string(b"none") * 2 + _string(b"") + (1).to_bytes(4, "big")
    blob += _string(_string(_SSH_ED25519) + _string(public)) + _string(section)
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""])


def require_ssh_public_line(line: str) -> str:
    """Return ``line`` reduced to type and blob.

    :raises RecordError: if it is not an OpenSSH public key line of a type that we install.
    """
    kind, _, rest = line.strip().partition(" ")
    blob_text = rest.partition(" ")[0]
    try:
        blob = base64.b64decode(blob_text, validate=True)
    except ValueError as error:
        raise RecordError("the SSH public key is not base64") from error
    if kind not in _KEY_TYPES or not blob.startswith(_string(kind.encode())):
        raise RecordError(f"the SSH public key's type must be one of {', '.join(_KEY_TYPES)}")
    return f"{kind} {blob_text}"


_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def _public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
