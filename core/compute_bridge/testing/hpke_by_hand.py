"""HPKE base mode from RFC 9180's definitions alone, with a chosen ephemeral key: for vectors, never for secrets.

DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305: what :mod:`compute_bridge.wire.sealing` calls
suite 1. The product seals with ``cryptography``; this is what it is held against.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_KEM_SUITE = b"KEM" + (0x20).to_bytes(2, "big")
_HPKE_SUITE = b"HPKE" + b"".join(one.to_bytes(2, "big") for one in (0x20, 1, 3))


def public_of(secret: bytes) -> bytes:
    """Return the X25519 public key of 32 secret bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def shared_secret(secret: bytes, other: bytes, *, enc: bytes, recipient: bytes) -> bytes:
    """Return the KEM's shared secret; the sender gives its ephemeral secret, the recipient its own."""
    exchanged = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(other))
    prk = _extract(b"", b"eae_prk", exchanged, _KEM_SUITE)
    return _expand(prk, b"shared_secret", enc + recipient, 32, _KEM_SUITE)


def key_schedule(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Return key and base nonce."""
    hashes = [_extract(b"", b"psk_id_hash", b"", _HPKE_SUITE), _extract(b"", b"info_hash", info, _HPKE_SUITE)]
    context = b"\0" + b"".join(hashes)
    secret = _extract(shared, b"secret", b"", _HPKE_SUITE)
    key = _expand(secret, b"key", context, 32, _HPKE_SUITE)
    return key, _expand(secret, b"base_nonce", context, 12, _HPKE_SUITE)


def seal_by_hand(plaintext: bytes, recipient: bytes, info: bytes, *, ephemeral: bytes) -> bytes:
    """Return ``enc || ciphertext``: the same bytes every time, so one ephemeral key may seal one message."""
    enc = public_of(ephemeral)
    key, nonce = key_schedule(shared_secret(ephemeral, recipient, enc=enc, recipient=recipient), info)
    return enc + ChaCha20Poly1305(key).encrypt(nonce, plaintext, b"")


def open_by_hand(sealed: bytes, secret: bytes, info: bytes) -> bytes:
    """Return the plaintext of ``enc || ciphertext``.

    :raises cryptography.exceptions.InvalidTag: if it does not open.
    """
    enc = sealed[:32]
    key, nonce = key_schedule(shared_secret(secret, enc, enc=enc, recipient=public_of(secret)), info)
    return ChaCha20Poly1305(key).decrypt(nonce, sealed[32:], b"")


def _extract(salt: bytes, label: bytes, ikm: bytes, suite: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(prk: bytes, label: bytes, info: bytes, length: int, suite: bytes) -> bytes:
    # One block of HKDF is enough: nothing here is longer than a SHA-256.
    text = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, text + b"\1", hashlib.sha256)[:length]
