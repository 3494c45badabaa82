"""From a grant, an opened envelope and an offer to the order that a backend gets."""

import hmac

from compute_bridge.host.identity import Identity
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Token
from compute_bridge.model.request import EnvelopeBody
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import GuestAccess, KeyRotation, Offer, Order, Ownership
from compute_bridge.wire import codec
from compute_bridge.wire.keys import (
    derive_seed,
    instance_name,
    lease_mac,
    require_ssh_public_line,
    ssh_private_file,
    ssh_public_line,
)
from compute_bridge.wire.signing import Signed
from compute_bridge.wire.tokens import order_token

MAX_OFFER_BYTES = 16 * 1024
GUEST_USER = "root"
"""Who logs in, unless the backend reports another name in its instance."""


def make_order(
    identity: Identity,
    grant: Signed[ComputeGrant],
    body: EnvelopeBody,
    *,
    offer: Offer,
    attempt: int,
    ends_at: UtcMs,
) -> Order:
    """Return the order for one attempt; the same arguments give the same bytes in any process."""
    token = order_token(grant.value.id, offer.backend, offer.region, offer.zone, offer.shape, attempt=attempt)
    return Order(
        token=token,
        offer=offer,
        requirements=grant.value.requirements,
        image=body.manifest.image,
        access=_access(identity, token, body),
        ownership=_ownership(identity, token, grant.hash),
        ends_at=ends_at,
    )


def offer_of(raw: bytes) -> Offer:
    """Return the offer that a provision intent holds, with the cost that it had then.

    :raises RecordError: if it holds none.
    """
    return codec.decode(raw, Offer, max_bytes=MAX_OFFER_BYTES, fill=True)


def bridge_made_key(identity: Identity, token: Token) -> str:
    """Return the OpenSSH private key file of the fallback user key of an order."""
    return ssh_private_file(derive_seed(identity.secret, "user-key", token))


def _access(identity: Identity, token: Token, body: EnvelopeBody) -> GuestAccess:
    host_seed = derive_seed(identity.secret, "host-key", token)
    next_seed = derive_seed(identity.secret, "rotated-host-key", token)
    login_seed = derive_seed(identity.secret, "rotation-login", token)
    if body.ssh_key:
        authorized = require_ssh_public_line(body.ssh_key)
    else:
        authorized = ssh_public_line(derive_seed(identity.secret, "user-key", token))
    return GuestAccess(
        user=GUEST_USER,
        authorized_key=authorized,
        host_key=ssh_public_line(host_seed),
        host_key_private=ssh_private_file(host_seed),
        rotation=KeyRotation(
            host_key=ssh_public_line(next_seed),
            host_key_private=ssh_private_file(next_seed),
            login_key=ssh_public_line(login_seed),
            login_key_private=ssh_private_file(login_seed),
        ),
    )


def _ownership(identity: Identity, token: Token, grant_hash: bytes) -> Ownership:
    name = instance_name(token)
    return Ownership(name=name, grant_hash=grant_hash, mac=lease_mac(identity.secret, name, grant_hash))


def is_ours(identity: Identity, ownership: Ownership) -> bool:
    """Return whether a machine's tags prove that this identity made it."""
    right = lease_mac(identity.secret, ownership.name, ownership.grant_hash)
    return hmac.compare_digest(right, ownership.mac)
