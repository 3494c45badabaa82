"""The control socket: how an operator's tools ask a running bridge, on this machine and as this user only.

Each request is one line of JSON, ``{"ask": "status"}`` or ``{"ask": "explain", "id": "..."}``, and so is
each answer: what was asked for, or ``{"error": "..."}``.
"""

import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports.errors import BootError, NetworkError

#: The socket's name in the bridge's state folder.
SOCKET: Final = "control.sock"
#: The longest question; an answer may be as long as it must.
MAX_QUESTION_BYTES: Final = 4096
#: How long a client may take for its question and to take its answer.
PATIENCE_S: Final = 10
#: How many clients are served at once; more wait.
CLIENTS: Final = 16

# sockaddr_un holds 108 bytes on Linux and 104 on BSD, the last a zero.
_MAX_PATH_BYTES = 103

_BACKLOG = 128
_PAUSE_S = 0.1

logger = logging.getLogger(__name__)

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class NotRunningError(NetworkError):
    """No bridge listens on the control socket; read the journal instead, or start the bridge."""


class RefusedQuestionError(ComputeBridgeError):
    """The running bridge refuses a question; ask another one, it will not change its mind."""


@asynccontextmanager
async def serve_status(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer questions on the socket ``path``, mode 0600, while the context is open; then remove it.

    ``answer`` raises a ``ComputeBridgeError`` for a question that it refuses; the client gets its message.

    :raises BootError: if the socket cannot be made, or another bridge listens on it.
    """
    listener = await anyio.to_thread.run_sync(_bind, path)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_accept, listener, answer)
            yield
            tasks.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(PATIENCE_S, shield=True):
            await anyio.to_thread.run_sync(_close, listener, path)


def ask(path: Path, query: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Return the bridge's answer to ``query``; blocks, so call it off the event loop.

    :raises NotRunningError: if no bridge listens there.
    :raises RefusedQuestionError: if the bridge has no answer to this question.
    :raises NetworkError: if the bridge does not answer in time.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(json.dumps(query).encode() + b"\n")
            with client.makefile("rb") as lines:
                raw = lines.readline()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunningError(f"no bridge listens on {path}; start it with compute-bridge run") from error
    except (OSError, ValueError) as error:
        raise NetworkError(f"control socket {path}: {error}; is the bridge stuck, and of this user?") from error
    return _answer_in(path, raw)


def _answer_in(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise NetworkError(f"control socket {path}: the bridge closed without an answer; read its log") from error
    if not isinstance(found, dict):
        raise NetworkError(f"control socket {path}: the answer is no JSON object; is this the bridge's socket?")
    if "error" in found:
        raise RefusedQuestionError(str(found["error"]))
    return found


# --- the bridge's side ------------------------------------------------------------------------------


def _bind(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise BootError(
            f"control socket {path}: the path is longer than {_MAX_PATH_BYTES} bytes; choose a shorter bridge.state_dir"
        )
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # The mode is the socket's from its first moment: a chmod after bind would come too late.
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BootError(f"control socket {path}: {error.strerror}; see to bridge.state_dir") from error
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a bridge that died; leave one on which a bridge answers, and any other file."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise BootError(f"control socket {path}: something else has that name; move it away")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) == 0:
            raise BootError(f"control socket {path}: another bridge listens on it; stop that one first")
    path.unlink(missing_ok=True)


def _close(listener: socket.socket, path: Path) -> None:
    listener.close()
    path.unlink(missing_ok=True)


async def _accept(listener: socket.socket, answer: Answer) -> None:
    slots = anyio.Semaphore(CLIENTS)
    async with anyio.create_task_group() as tasks:
        while True:
            await slots.acquire()
            await anyio.wait_readable(listener)
            try:
                connection, _ = listener.accept()
            except OSError as error:  # the client left again, or this process has no descriptor to spare
                logger.warning("control socket: no client accepted: %s", error.strerror)
                slots.release()
                await anyio.sleep(_PAUSE_S)
                continue
            tasks.start_soon(_serve, connection, answer, slots)


async def _serve(connection: socket.socket, answer: Answer, slots: anyio.Semaphore) -> None:
    try:
        with connection:
            connection.setblocking(False)
            with anyio.fail_after(PATIENCE_S):
                question = await _read_line(connection)
            reply = json.dumps(await _reply(question, answer)).encode() + b"\n"
            with anyio.fail_after(PATIENCE_S):
                await _send(connection, reply)
    except (OSError, TimeoutError):
        logger.debug("control socket: a client left before it had its answer")
    finally:
        slots.release()


async def _reply(question: bytes, answer: Answer) -> dict[str, Any]:
    query = _query(question)
    if not isinstance(query, dict):
        return {"error": f"a question is one line of JSON, an object of at most {MAX_QUESTION_BYTES} bytes"}
    try:
        return await answer(query)
    except ComputeBridgeError as error:
        return {"error": str(error)}


def _query(question: bytes) -> Any:
    try:
        return json.loads(question)
    except (ValueError, RecursionError):
        return None


async def _read_line(connection: socket.socket) -> bytes:
    """Return what comes before the line's end; what is too long is cut, and so no JSON object."""
    line = bytearray()
    while b"\n" not in line and len(line) <= MAX_QUESTION_BYTES:
        await anyio.wait_readable(connection)
        piece = connection.recv(MAX_QUESTION_BYTES)
        if not piece:
            break
        line += piece
    return bytes(line.partition(b"\n")[0]) if len(line) <= MAX_QUESTION_BYTES else b""


async def _send(connection: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        await anyio.wait_writable(connection)
        rest = rest[connection.send(rest) :]
