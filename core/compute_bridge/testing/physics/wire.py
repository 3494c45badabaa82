"""A small HTTP/1.1 server on loopback, in threads of its own, for the wire-level fakes."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from attrs import field, frozen

from compute_bridge.testing.physics.tls import Tls


@frozen
class Request:
    """One request. ``path`` is as it was sent, without the query; ``headers`` have lower-case names."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def params(self) -> dict[str, list[str]]:
        """The query, decoded."""
        raise NotImplementedError

    def param(self, name: str) -> str:
        """Return the first value of a query parameter, empty where there is none."""
        raise NotImplementedError

    def json(self) -> object:
        """Return the body, decoded."""
        raise NotImplementedError


@frozen
class Response:
    """One response; the length is added."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)

    @classmethod
    def json(cls, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
        """Return a JSON response."""
        raise NotImplementedError


class Cut(Exception):  # noqa: N818 - a gesture of the fake, no error
    """Raised by a handler to cut the connection without an answer."""


class WireServer:
    """Serves ``handler`` on ``address`` from construction until :meth:`close`; a context manager.

    Each connection has a thread, kept alive between requests; each response is one send. With ``tls`` it speaks
    HTTPS; what a client then has to trust is ``tls.ca_file``. A handler that raises anything but :class:`Cut` is a bug
    of the fake: the client sees a 500 without a word of it, and ``errors`` holds what was raised.
    """

    errors: list[Exception]

    def __init__(
        self, handler: Callable[[Request], Response], *, tls: Tls | None = None, address: str = "127.0.0.1"
    ) -> None:
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The base: ``http://127.0.0.1:12345``, no slash at the end."""
        raise NotImplementedError

    def close(self) -> None:
        """Cut every connection and end every thread; a second close is nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
