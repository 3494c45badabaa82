"""A small HTTP/1.1 server on loopback, in threads of its own, for the wire-level fakes."""

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from attrs import field, frozen

from compute_bridge.testing.physics.tls import Tls

_POLL_S = 0.02
_HANDSHAKE_S = 10.0
_CLOSE_S = 5.0


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
        return parse_qs(self.query, keep_blank_values=True)

    def param(self, name: str) -> str:
        """Return the first value of a query parameter, empty where there is none."""
        return self.params.get(name, [""])[0]

    def json(self) -> Any:
        """Return the body, decoded; raises :class:`ValueError` for what is no JSON."""
        return json.loads(self.body)


@frozen
class Response:
    """One response; the length is added, and the date unless it is given."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)

    @classmethod
    def json(cls, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
        """Return a JSON response."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


class Cut(Exception):  # noqa: N818 - a gesture of the fake, no error
    """Raised by a handler to cut the connection without an answer."""


class WireServer:
    """Serves ``handler`` on ``address`` from construction until :meth:`close`; a context manager.

    Each connection has a thread, kept alive between requests; each response is one send. With ``tls`` it speaks
    HTTPS; what a client then has to trust is ``tls.ca_file``. A handler that raises anything but :class:`Cut` is a bug
    of the fake: the client sees a 500 without a word of it, and ``errors`` holds what was raised.
    """

    def __init__(
        self, handler: Callable[[Request], Response], *, tls: Tls | None = None, address: str = "127.0.0.1"
    ) -> None:
        self.errors: list[Exception] = []
        self._tls = tls
        self._server = _Server((address, 0), handler, self.errors, tls.server if tls else None)
        self._thread = Thread(target=self._server.serve_forever, args=(_POLL_S,), name="wire", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """The base: ``http://127.0.0.1:12345``, no slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self._server.server_address[0]!s}:{self.port}"

    def close(self) -> None:
        """Cut every connection and end every thread; a second close is nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.cut_all()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def __init__(
        self,
        address: tuple[str, int],
        handler: Callable[[Request], Response],
        errors: list[Exception],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.handler = handler
        self.errors = errors
        self.tls = tls
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._serving: list[Thread] = []
        super().__init__(address, _Exchange)

    def server_bind(self) -> None:
        """Bind without asking the resolver for a name."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread that ends with the process, should nobody close the server."""
        self._serving = [thread for thread in self._serving if thread.is_alive()]
        thread = Thread(target=self.process_request_thread, args=(request, client_address), name="wire", daemon=True)
        self._serving.append(thread)
        thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in a thread of its own; the handshake is done here, so that it holds up nobody."""
        with suppress(OSError):  # the client went away, or we cut it
            if self.tls is None:
                self._keep(request, client_address)
                return
            request.settimeout(_HANDSHAKE_S)
            with self.tls.wrap_socket(request, server_side=True) as wrapped:
                wrapped.settimeout(None)
                self._keep(wrapped, client_address)

    def _keep(self, connection: socket.socket, client_address: Any) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            super().finish_request(connection, client_address)
        finally:
            with self._lock:
                self._open.discard(connection)

    def cut_all(self) -> None:
        """Cut every connection and wait for its thread."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._serving:
            thread.join(_CLOSE_S)


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one send: with two, a delayed acknowledgement costs 40 ms a call.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        try:
            response = self.server.handler(self._request())
        except Cut:
            self.close_connection = True
            return
        except Exception as error:  # noqa: BLE001 - a bug of the fake, kept for the test to look at
            self.server.errors.append(error)
            response = Response(500)
        self.send_response_only(response.status)
        for name, value in {"Date": self.date_time_string(), **response.headers}.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD" and response.status != 204:
            self.wfile.write(response.body)

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = _serve  # noqa: N815 - http.server's names

    def _request(self) -> Request:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, path, query, headers, body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep silent."""
