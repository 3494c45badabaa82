"""Where a development root lies, so that several processes of one machine may attest under it."""

import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from compute_bridge.adapters.software_pki import DevelopmentRoot
from compute_bridge.ports.errors import NoQuoteError


def root_file(directory: Path, name: str) -> Path:
    """Return the file with the root's private key: whoever reads it can attest to anything."""
    return directory / f"{name}.root.pem"


def anchor_file(directory: Path, name: str) -> Path:
    """Return the file with the root's public DER, which verifiers take as their anchor."""
    return directory / f"{name}.root.der"


def load_root(directory: Path, name: str) -> DevelopmentRoot:
    """Return the root that several processes share through ``directory``.

    :raises NoQuoteError: if the file is missing, unreadable or not such a root.
    """
    path = root_file(directory, name)
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise NoQuoteError(f"{path}: cannot read the development root ({error.strerror}); create it first") from error
    try:
        key = load_pem_private_key(pem, None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError) as error:
        raise NoQuoteError(
            f"{path}: not a private key and its certificate in PEM; delete it to have it made anew"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise NoQuoteError(f"{path}: key and certificate do not belong together; delete it")
    return DevelopmentRoot(name, key, certificate)


def create_root(directory: Path, name: str, *, now_s: int) -> DevelopmentRoot:
    """Return the root in ``directory``, made now unless it exists; its public DER lies beside it.

    Safe to call from several processes at once: one makes the root, all return that one.

    :raises NoQuoteError: if the directory cannot be written or holds something else.
    """
    root = DevelopmentRoot.generate(name, now_s=now_s)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            _publish(root_file(directory, name), _private_pem(root), 0o600, replace=False)
        except FileExistsError:
            root = load_root(directory, name)
        der = root.certificate.public_bytes(Encoding.DER)
        _publish(anchor_file(directory, name), der, 0o644, replace=True)
    except OSError as error:
        raise NoQuoteError(
            f"{directory}: cannot write the development root ({error.strerror}); make it writable"
        ) from error
    return root


def _private_pem(root: DevelopmentRoot) -> bytes:
    key = root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key + root.certificate.public_bytes(Encoding.PEM)


def _publish(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Make ``path`` appear whole or not at all; without ``replace`` an existing one is an error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
