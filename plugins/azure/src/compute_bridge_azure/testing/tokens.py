"""Where tokens come from in the fake: one application with one secret."""

import base64
import json
import secrets
from threading import Lock
from urllib.parse import parse_qs

from compute_bridge.testing.physics.wire import Request, Response

_LIFE_S = 3600


class Tokens:
    """The directory: gives a token for the right secret, and knows its own again."""

    def __init__(self, *, tenant: str, client: str, principal: str) -> None:
        self.tenant = tenant
        self.client = client
        self.principal = principal
        self.secret = secrets.token_urlsafe(24)
        self._lock = Lock()
        self._issued: set[str] = set()

    @property
    def issued(self) -> tuple[str, ...]:
        """Every token so far."""
        with self._lock:
            return tuple(self._issued)

    def configuration(self, base: str) -> Response:
        """Return what a client reads first."""
        at = f"{base}/{self.tenant}"
        return Response.json(
            {
                "issuer": f"{at}/v2.0",
                "authorization_endpoint": f"{at}/oauth2/v2.0/authorize",
                "token_endpoint": f"{at}/oauth2/v2.0/token",
            }
        )

    def grant(self, request: Request) -> Response:
        """Return a token, or the refusal of a wrong secret."""
        form = parse_qs(request.body.decode())
        asked = {name: form.get(name, [""])[0] for name in ("grant_type", "client_id", "client_secret", "scope")}
        wanted = (("grant_type", "client_credentials"), ("client_id", self.client), ("client_secret", self.secret))
        if any(asked[name] != value for name, value in wanted) or not asked["scope"].endswith("/.default"):
            return self.refusal()
        return Response.json({"token_type": "Bearer", "expires_in": _LIFE_S, "access_token": self._issue()})

    @staticmethod
    def refusal() -> Response:
        """Return what a wrong secret gets."""
        words = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."}
        return Response.json(words, status=401)

    def knows(self, request: Request) -> bool:
        """Return whether a request carries a token of ours."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        with self._lock:
            return kind == "Bearer" and token in self._issued

    def forget(self) -> None:
        """Let no token count any more; the secret goes on."""
        with self._lock:
            self._issued.clear()

    def _issue(self) -> str:
        claims = {"aud": "arm", "tid": self.tenant, "oid": self.principal, "appid": self.client}
        token = ".".join((_word({"alg": "RS256"}), _word(claims), secrets.token_urlsafe(32)))
        with self._lock:
            self._issued.add(token)
        return token


def _word(value: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
