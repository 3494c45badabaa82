"""The idempotency token of one attempt to make one machine."""

from compute_bridge.model.ids import GrantId, Token, digest


def order_token(grant: GrantId, backend: str, region: str, zone: str, shape: str, *, attempt: int) -> Token:
    """Return H(grant, backend, region, zone, shape, attempt), from which name, tags and keys derive.

    ``attempt`` counts from 0 over all offers of a grant; a new attempt after a definite failure is a new
    token, a retry after an unknown outcome is the same one.
    """
    place = [part.encode() for part in (backend, region, zone, shape)]
    return Token(digest("compute-bridge/token/v1", grant, *place, attempt.to_bytes(4, "big")))
