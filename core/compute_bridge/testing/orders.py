"""Valid orders for whatever a backend offers, so that no World has to invent them."""

import secrets
from hashlib import sha256

from compute_bridge.model.ids import Token
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.resources import Posture, Requirements, Resources, TdxNeed
from compute_bridge.model.units import HOUR_MS, Milliseconds, UtcMs
from compute_bridge.ports.backend import GuestAccess, KeyRotation, Offer, Order, Ownership
from compute_bridge.wire.keys import derive_seed, instance_name, lease_mac, ssh_private_file, ssh_public_line

_SHARE = 4
# No secret: whoever can log in with these keys logs in to a test's machine.
_BRIDGE_SECRET = sha256(b"compute_bridge.testing").digest()


def new_token() -> Token:
    """Return a token that no order carried before."""
    return Token(secrets.token_bytes(32))


def needs_of(offer: Offer) -> Requirements:
    """Return requirements that ``offer`` serves, for at most an hour; a quarter of it, so that a few fit."""
    whole = offer.resources
    return Requirements(
        resources=Resources(
            max(1, whole.cpu_millis // _SHARE),
            max(1, whole.mem_mib // _SHARE),
            whole.disk_gib // _SHARE,
            whole.gpus // _SHARE,
        ),
        duration_ms=Milliseconds(min(HOUR_MS, offer.max_duration_ms)),
        tdx=TdxNeed.REQUIRED if offer.posture is Posture.TDX else TdxNeed.NONE,
        network=offer.networks[0],
        regions=(offer.region,),
    )


def make_order(offer: Offer, token: Token, *, needs: Requirements, image: ImageRef, user: str, now: UtcMs) -> Order:
    """Return the order of ``token``, with keys and a mac as a bridge derives them.

    The same arguments make the same order, byte for byte.
    """
    name = instance_name(token)
    grant_hash = sha256(b"grant" + token).digest()
    return Order(
        token=token,
        offer=offer,
        requirements=needs,
        image=image,
        access=_access(user, token),
        ownership=Ownership(name, grant_hash, lease_mac(_BRIDGE_SECRET, name, grant_hash)),
        ends_at=UtcMs(now + needs.duration_ms),
    )


def guest_key(token: Token) -> str:
    """Return the private key file of whom the order of ``token`` lets log in."""
    return ssh_private_file(derive_seed(_BRIDGE_SECRET, "testing-user", token))


def _access(user: str, token: Token) -> GuestAccess:
    host = derive_seed(_BRIDGE_SECRET, "testing-host", token)
    guest = derive_seed(_BRIDGE_SECRET, "testing-user", token)
    next_host = derive_seed(_BRIDGE_SECRET, "testing-next-host", token)
    login = derive_seed(_BRIDGE_SECRET, "testing-login", token)
    rotation = KeyRotation(
        ssh_public_line(next_host), ssh_private_file(next_host), ssh_public_line(login), ssh_private_file(login)
    )
    return GuestAccess(user, ssh_public_line(guest), ssh_public_line(host), ssh_private_file(host), rotation)
