"""The loopback server of the fakes: kept alive, quick, cut on purpose, closed for good."""

import socket
import ssl
import time
from http.client import BadStatusLine, HTTPConnection, HTTPSConnection, RemoteDisconnected

import pytest

from compute_bridge.testing.physics.tls import make_tls
from compute_bridge.testing.physics.wire import Cut, Request, Response, WireServer


def echo(request):
    if request.path == "/cut":
        raise Cut
    if request.path == "/bug":
        raise ZeroDivisionError("secret")
    if request.path == "/nothing":
        return Response(204)
    told = {
        "method": request.method,
        "path": request.path,
        "x": request.param("x"),
        "head": request.headers.get("x-head", ""),
        "body": request.body.decode(),
    }
    return Response.json(told, status=201, headers={"X-Told": "yes"})


@pytest.fixture
def server():
    with WireServer(echo) as server:
        yield server


@pytest.fixture
def client(server):
    client = HTTPConnection("127.0.0.1", server.port, timeout=10)
    yield client
    client.close()


def ask(client, method, path, body=None, head=None):
    client.request(method, path, body, head or {})
    response = client.getresponse()
    return response, response.read()


def test_a_request_arrives_whole(client):
    response, body = ask(client, "PUT", "/a%20b?x=1%2F2&y=", b'{"k": 1}', {"X-Head": "h"})

    assert (response.status, response.headers["X-Told"]) == (201, "yes")
    assert Request("PUT", "", "", {}, body).json() == {
        "method": "PUT",
        "path": "/a%20b",
        "x": "1/2",
        "head": "h",
        "body": '{"k": 1}',
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_every_method_is_served(client, method):
    assert f'"{method}"'.encode() in ask(client, method, "/")[1]


def test_a_head_has_no_body(client):
    response, body = ask(client, "HEAD", "/")

    assert (response.status, body) == (201, b"")
    assert ask(client, "GET", "/")[0].status == 201


def test_no_content_is_no_content(client):
    response, body = ask(client, "DELETE", "/nothing")

    assert (response.status, body, response.headers["Content-Length"]) == (204, b"", None)
    assert ask(client, "GET", "/")[0].status == 201


def test_a_connection_is_kept_and_no_call_waits_for_an_acknowledgement(client):
    ask(client, "GET", "/")
    sock = client.sock
    began = time.monotonic()
    for _ in range(100):
        ask(client, "POST", "/", b"x" * 2000)

    assert client.sock is sock
    # With a delayed acknowledgement each call would take 40 ms.
    assert time.monotonic() - began < 2


def test_a_connection_can_be_cut_without_an_answer(client, server):
    with pytest.raises((RemoteDisconnected, BadStatusLine, ConnectionResetError)):
        ask(client, "POST", "/cut")
    assert server.errors == []


def test_a_bug_of_the_fake_is_kept_and_not_told(client, server):
    response, body = ask(client, "GET", "/bug")

    assert (response.status, body) == (500, b"")
    assert [type(error) for error in server.errors] == [ZeroDivisionError]


def test_closing_cuts_and_refuses(client, server):
    ask(client, "GET", "/")
    server.close()
    server.close()

    with pytest.raises(OSError):
        ask(client, "GET", "/")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_it_listens_on_loopback_only(server):
    assert server.url == f"http://127.0.0.1:{server.port}"


def test_https_is_trusted_by_its_authority_alone(tmp_path):
    tls = make_tls(tmp_path)
    with WireServer(echo, tls=tls) as server:
        client = HTTPSConnection(
            "127.0.0.1", server.port, timeout=10, context=ssl.create_default_context(cafile=str(tls.ca_file))
        )
        response, _ = ask(client, "GET", "/")
        client.close()
        stranger = HTTPSConnection("127.0.0.1", server.port, timeout=10, context=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(stranger, "GET", "/")
        stranger.close()

    assert server.url.startswith("https://")
    assert response.status == 201
    assert server.errors == []
