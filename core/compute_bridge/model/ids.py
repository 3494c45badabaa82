"""Stable ids: 32-byte blake3 values, derived by label, one type for each thing named."""

from typing import NewType

from blake3 import blake3

UniqueId = NewType("UniqueId", bytes)
Fingerprint = NewType("Fingerprint", bytes)
ProviderId = NewType("ProviderId", bytes)
RequestId = NewType("RequestId", bytes)
GrantId = NewType("GrantId", bytes)
Token = NewType("Token", bytes)
PublicKey = NewType("PublicKey", bytes)
"""A raw Ed25519 public key, 32 bytes; it is its own key id."""
SealingKey = NewType("SealingKey", bytes)
"""An HPKE public key, led by the suite byte of :mod:`compute_bridge.wire.sealing`."""
BackendName = NewType("BackendName", str)
InstanceId = NewType("InstanceId", str)
OfferId = NewType("OfferId", str)
BandName = NewType("BandName", str)

ID_BYTES = 32


def digest(context: str, *parts: bytes) -> bytes:
    """Return the 32-byte blake3 of ``parts`` under ``context``; no two inputs read alike.

    Layout hashed: each of context (UTF-8) and parts as u32 big-endian length, then its bytes.
    """
    hasher = blake3()
    for part in (context.encode(), *parts):
        hasher.update(len(part).to_bytes(4, "big"))
        hasher.update(part)
    return hasher.digest()


def derive(root: UniqueId, label: str) -> UniqueId:
    """Return the child of ``root`` named ``label``: ``derive(derive(root, "module"), "compute")``."""
    return UniqueId(digest("compute-bridge/derive/v1", root, label.encode()))


def provider_id(coalition: UniqueId, root_key: PublicKey) -> ProviderId:
    """Return the provider id of an operator root key in a coalition.

    It outlives rates, restarts and boot keys: only a new root key or coalition changes it.
    """
    return ProviderId(digest("compute-bridge/provider/v1", coalition, root_key))


def grant_id(request: RequestId, module: UniqueId, round_: int) -> GrantId:
    """Return the id of the grant that ``round_`` awards for ``request``; a round awards it once."""
    return GrantId(digest("compute-bridge/grant/v1", module, request, round_.to_bytes(8, "big")))


def short(value: bytes) -> str:
    """Return the first 12 hex digits of an id, for people; never for comparison."""
    return value.hex()[:12]
