"""Sealing: HPKE base mode (RFC 9180), all context in ``info``, length hidden in buckets.

Layout of a sealed message: version byte ``1`` · suite byte · HPKE ``enc || ciphertext``.
Layout of its plaintext: u32 big-endian length · body · zeros up to 1, 2, 4, 8 or 16 KiB in all.
Layout of a sealing key: suite byte · raw public key of the suite's KEM.

Suite 1 is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. Suite 2 has the hybrid KEM
MLKEM768-X25519 in its place and needs a ``cryptography`` built with ML-KEM; its raw public key is the
ML-KEM key (1184 bytes) followed by the X25519 key (32).
"""

from functools import cache
from typing import Any

from attrs import field, frozen
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from compute_bridge.model.checks import octets, text, whole
from compute_bridge.model.errors import EnvelopeError
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey
from compute_bridge.wire import codec

VERSION = 1
X25519 = 1
MLKEM768_X25519 = 2
BUCKETS = (1024, 2048, 4096, 8192, 16384)
SEED_BYTES = 32
_MLKEM_PUBLIC = 1184
_MLKEM_SEED = 64
_X25519_BYTES = 32
_MAX_SEALED = 2 + 1120 + 16 + BUCKETS[-1]


@frozen
class SealContext:
    """What a sealed message is for; a message sealed for one context opens in no other.

    ``subject`` is the digest of what it answers (a grant, a request), ``sender`` the signing key of who
    seals it and ``recipient`` the sealing key of who opens it.
    """

    kind: str = field(validator=text(1, 64))
    subject: Fingerprint = field(validator=octets(32))
    sequence: int = field(validator=whole())
    sender: PublicKey = field(validator=octets(32))
    recipient: SealingKey = field(validator=octets(33, 2048))

    def info(self, suite: int) -> bytes:
        """Return the HPKE ``info``: an unambiguous encoding of suite and context."""
        return b"compute-bridge/seal/v1\0" + codec.dump(
            [VERSION, suite, self.kind, self.subject, self.sequence, self.sender, self.recipient]
        )


@frozen
class SealingSecret:
    """The private half of a sealing key, remade from its seed; never leaves memory."""

    suite: int
    _private: Any = field(repr=False)
    public: SealingKey

    @classmethod
    def from_seed(cls, seed: bytes, *, suite: int = X25519) -> "SealingSecret":
        """Return the key pair of a 32-byte ``seed`` (96 bytes for suite 2: ML-KEM seed, X25519 seed).

        :raises EnvelopeError: if the suite is unknown or not supported by this build.
        """
        if suite == X25519 and len(seed) == SEED_BYTES:
            secret = X25519PrivateKey.from_private_bytes(seed)
            raw = secret.public_key().public_bytes_raw()
            return cls(suite, secret, SealingKey(bytes([suite]) + raw))
        if suite == MLKEM768_X25519 and len(seed) == _MLKEM_SEED + SEED_BYTES:
            return cls._hybrid(seed)
        raise EnvelopeError(f"no sealing key of suite {suite} from a seed of {len(seed)} bytes")

    @classmethod
    def _hybrid(cls, seed: bytes) -> "SealingSecret":
        try:
            kem = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED])
        except UnsupportedAlgorithm as error:
            raise EnvelopeError("suite 2 needs a cryptography built with ML-KEM") from error
        curve = X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED:])
        raw = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        secret = hpke.MLKEM768X25519PrivateKey(kem, curve)
        return cls(MLKEM768_X25519, secret, SealingKey(bytes([MLKEM768_X25519]) + raw))


def seal(body: bytes, context: SealContext) -> bytes:
    """Return ``body`` sealed to ``context.recipient``, padded to a bucket.

    :raises EnvelopeError: if the body is too long or the recipient's key is not usable.
    """
    suite, key = _public(context.recipient)
    try:
        sealed = _suite(suite).encrypt(_pad(body), key, info=context.info(suite))
    except ValueError as error:
        raise EnvelopeError("the recipient's sealing key is a weak point of its curve") from error
    return bytes([VERSION, suite]) + sealed


def unseal(sealed: bytes, secret: SealingSecret, context: SealContext) -> bytes:
    """Return the body that was sealed to ``secret`` for exactly ``context``.

    :raises EnvelopeError: if it is not ours, for another context, tampered or malformed.
    """
    if len(sealed) > _MAX_SEALED:
        raise EnvelopeError(f"sealed message of {len(sealed)} bytes exceeds {_MAX_SEALED}")
    if sealed[:2] != bytes([VERSION, secret.suite]):
        raise EnvelopeError("sealed message has another version or suite than our key")
    info = context.info(secret.suite)
    try:
        padded = _suite(secret.suite).decrypt(sealed[2:], secret._private, info=info)  # noqa: SLF001
    except (InvalidTag, ValueError, TypeError) as error:
        raise EnvelopeError("sealed message does not open: not ours, tampered or replayed") from error
    return _unpad(padded)


def sealed_bucket(sealed: bytes) -> int:
    """Return the size bucket a sealed message shows to everyone; for tests of what length leaks."""
    overhead = 2 + 16 + (32 if sealed[1] == X25519 else 1120)
    return len(sealed) - overhead


@cache
def _suite(suite: int) -> hpke.Suite:
    kem = hpke.KEM.X25519 if suite == X25519 else hpke.KEM.MLKEM768_X25519
    return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def _public(key: SealingKey) -> tuple[int, Any]:
    suite, raw = key[0], key[1:]
    try:
        if suite == X25519 and len(raw) == _X25519_BYTES:
            return suite, X25519PublicKey.from_public_bytes(raw)
        if suite == MLKEM768_X25519 and len(raw) == _MLKEM_PUBLIC + _X25519_BYTES:
            kem = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC])
            curve = X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC:])
            return suite, hpke.MLKEM768X25519PublicKey(kem, curve)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnvelopeError(f"sealing key of suite {suite} is not usable: {error}") from error
    raise EnvelopeError(f"sealing key of suite {suite} with {len(raw)} bytes is not known")


def _pad(body: bytes) -> bytes:
    framed = len(body).to_bytes(4, "big") + body
    for bucket in BUCKETS:
        if len(framed) <= bucket:
            return framed.ljust(bucket, b"\0")
    raise EnvelopeError(f"body of {len(body)} bytes exceeds the largest bucket of {BUCKETS[-1] - 4}")


def _unpad(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:4], "big")
    body, rest = padded[4 : 4 + length], padded[4 + length :]
    if len(padded) not in BUCKETS or len(body) != length or rest.strip(b"\0"):
        raise EnvelopeError("sealed message is padded wrongly")
    return body
