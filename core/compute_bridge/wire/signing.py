"""Signed records: exact payload bytes, verified before they are decoded.

Layout of a signed record, deterministic CBOR: ``[1, kind, version, payload, [[key, "ed25519",
signature], ...]]`` with ``payload`` the record's own encoding as a byte string.

Bytes signed: ``"compute-bridge/signed/v1\\0"`` followed by the CBOR array ``[kind, version, coalition,
module, payload]``; so a record of one kind, version, coalition or module is none of another.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import field, frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from compute_bridge.model.checks import octets
from compute_bridge.model.errors import RecordError, SignatureError
from compute_bridge.model.ids import Fingerprint, PublicKey, UniqueId, digest
from compute_bridge.wire import codec
from compute_bridge.wire.records import kind_of

T = TypeVar("T")

ALGORITHM = "ed25519"
_FORMAT = 1
_PREFIX = b"compute-bridge/signed/v1\0"
_MAX_SIGNATURES = 16
_OVERHEAD = 256 + 160 * _MAX_SIGNATURES


@frozen
class Domain:
    """Where a record counts: a coalition and a module of it."""

    coalition: UniqueId = field(validator=octets(32))
    module: UniqueId = field(validator=octets(32))


@frozen
class Signed(Generic[T]):
    """A verified record: its value, the exact bytes it came in, its hash and who signed it.

    ``hash`` is over kind, version and payload, so it does not depend on who signed.
    """

    value: T
    raw: bytes = field(repr=False)
    hash: Fingerprint
    signers: tuple[PublicKey, ...]


def public_key(secret: Ed25519PrivateKey) -> PublicKey:
    """Return the raw 32 bytes of the public half."""
    return PublicKey(secret.public_key().public_bytes_raw())


def sign(value: T, *secrets: Ed25519PrivateKey, domain: Domain) -> Signed[T]:
    """Return ``value`` as a record signed by each of ``secrets``."""
    kind = kind_of(type(value))
    payload = codec.encode(value)
    if len(payload) > kind.max_bytes:
        raise RecordError(f"{kind.name} of {len(payload)} bytes exceeds the limit of {kind.max_bytes}")
    message = _message(kind.name, kind.version, payload, domain)
    signers = tuple(public_key(secret) for secret in secrets)
    marks = [[public_key(secret), ALGORITHM, secret.sign(message)] for secret in secrets]
    raw = codec.dump([_FORMAT, kind.name, kind.version, payload, marks])
    return Signed(value, raw, _hash(kind.name, kind.version, payload), signers)


def open_signed(raw: bytes, cls: type[T], domain: Domain, *, by: PublicKey) -> Signed[T]:
    """Return the record of class ``cls`` in ``raw``, verified to be signed ``by`` this key.

    Order: size, envelope, kind and version, every signature, and only then the payload.

    :raises SignatureError: if any signature is wrong or ``by`` has not signed.
    :raises RecordError: if the bytes are not such a record.
    """
    return open_self_signed(raw, cls, domain, signer=lambda _value: by)


def open_self_signed(raw: bytes, cls: type[T], domain: Domain, *, signer: Callable[[T], PublicKey]) -> Signed[T]:
    """Return the record in ``raw``, verified to be signed by the key that it names of itself.

    ``signer`` takes the key out of the value; the caller still decides whether that key may.
    """
    kind = kind_of(cls)
    name, version, payload, marks = _unwrap(raw, kind.max_bytes)
    if (name, version) != (kind.name, kind.version):
        raise RecordError(f"expected {kind.name} version {kind.version}, got {name} version {version}")
    message = _message(name, version, payload, domain)
    signers = tuple(_verify(mark, message) for mark in marks)
    value = codec.decode(payload, cls, max_bytes=kind.max_bytes)
    if signer(value) not in signers:
        raise SignatureError(f"{name} is not signed by the key that must sign it")
    return Signed(value, raw, _hash(name, version, payload), signers)


def record_hash(value: object) -> Fingerprint:
    """Return the hash that a signed record of ``value`` has: its fingerprint."""
    kind = kind_of(type(value))
    return _hash(kind.name, kind.version, codec.encode(value))


fingerprint = record_hash


def _hash(name: str, version: int, payload: bytes) -> Fingerprint:
    return Fingerprint(digest("compute-bridge/record/v1", name.encode(), version.to_bytes(2, "big"), payload))


def _message(name: str, version: int, payload: bytes, domain: Domain) -> bytes:
    return _PREFIX + codec.dump([name, version, domain.coalition, domain.module, payload])


def _unwrap(raw: bytes, max_bytes: int) -> tuple[str, int, bytes, list[list[object]]]:
    match codec.load(raw, max_bytes=max_bytes + _OVERHEAD):
        # Asked by type: True would pass for 1, and one record would have two spellings.
        case [form, str(name), version, bytes(payload), list(marks)] if (
            type(form) is int and form == _FORMAT and type(version) is int
        ):
            if not 1 <= len(marks) <= _MAX_SIGNATURES:
                raise SignatureError(f"{len(marks)} signatures; from 1 to {_MAX_SIGNATURES} are allowed")
            return name, version, payload, marks
        case _:
            raise RecordError("not a signed record: the outer array has another shape")


def _verify(mark: object, message: bytes) -> PublicKey:
    match mark:
        case [bytes(key), "ed25519", bytes(signature)] if len(key) == 32:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
            except (InvalidSignature, ValueError) as error:
                raise SignatureError(f"signature by {key.hex()[:12]} does not verify") from error
            return PublicKey(key)
        case _:
            raise SignatureError("a signature is not [key of 32 bytes, 'ed25519', bytes]")
