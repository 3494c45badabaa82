"""Both ends of SSH, for rack hosts and for guests without OpenSSH. The only module that imports asyncssh."""

import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager
from typing import Any

import anyio
import asyncssh
from attrs import field, frozen

from compute_bridge.ports.errors import BackendError, CredentialsError, UnavailableError

logger = logging.getLogger(__name__)
# At INFO it writes every address that it dials, and guests' addresses are nobody's business.
logging.getLogger("asyncssh").setLevel(logging.WARNING)

_DIAL_S = 10
_PROBE_S = 2
_KEEPALIVE_S = 5
_KEEPALIVES = 3
_CLOSE_S = 2
# OpenSSH's MaxSessions is 10 for each connection, unless its operator says otherwise, and it counts the ended a while.
_SESSIONS = 5
_PAUSES_S = (0.02, 0.1, 0.5)
_REPLY_BYTES = 8 << 20
# Each algorithm, and the type of key that it is for.
_HOST_KEY_ALGORITHMS = {
    "ssh-ed25519": "ssh-ed25519",
    "ecdsa-sha2-nistp256": "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
    "rsa-sha2-512": "ssh-rsa",
    "rsa-sha2-256": "ssh-rsa",
}


# --- rack hosts -------------------------------------------------------------------------------


@frozen
class Target:
    """A rack host to be dialled; ``place`` is how messages call it."""

    place: str
    address: str
    port: int
    user: str
    host_key: str


@frozen
class LoginKey:
    """The private key that logs in to rack hosts."""

    key: asyncssh.SSHKey = field(repr=False)


def read_login_key(text: bytes, *, place: str) -> LoginKey:
    """Return the private key in ``text``.

    :raises CredentialsError: if it is none, or has a passphrase.
    """
    try:
        return LoginKey(asyncssh.import_private_key(text))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        # Not "from": the library's message may quote what it read.
        raise CredentialsError(
            f"{place}: ssh_key refers to no usable private key; it must be an OpenSSH private key without passphrase"
        ) from None


class _Kept(asyncssh.SSHClient):
    """The owner of a connection, which is told when it is lost."""

    def __init__(self) -> None:
        self.lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember it: asyncssh calls this once, for any reason."""
        self.lost = True


class SshLink:
    """One kept connection to a rack host, made when first needed and again when it was lost."""

    def __init__(self, target: Target, key: LoginKey) -> None:
        self._target = target
        self._key = key
        self._connection: asyncssh.SSHClientConnection | None = None
        self._owner = _Kept()
        self._dialling = anyio.Lock()
        self._sessions = anyio.CapacityLimiter(_SESSIONS)

    async def run(self, command: str, payload: AsyncGenerator[bytes], *, within_s: float) -> bytes:
        """Return what ``command`` writes when it is fed ``payload``, whatever its exit status.

        :raises CredentialsError: if the rack host shows another host key, or refuses ours.
        :raises UnavailableError: if it does not answer, or not within ``within_s``.
        """
        async with aclosing(payload), self._sessions:
            with self._translated():
                process = await self._start(command)
                try:
                    with anyio.fail_after(within_s):
                        return await _converse(process, payload)
                finally:
                    await _finish(process)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            with anyio.move_on_after(_CLOSE_S, shield=True):
                await connection.wait_closed()

    async def _start(self, command: str) -> "asyncssh.SSHClientProcess[bytes]":
        # Nothing was asked yet, so to try again is safe.
        for pause_s in _PAUSES_S:
            was_kept = self._connection is not None
            try:
                return await self._open_session(command)
            except (OSError, asyncssh.Error) as error:
                if not self._may_pass(error, was_kept=was_kept):
                    raise
            await anyio.sleep(pause_s)
        return await self._open_session(command)

    def _may_pass(self, error: Exception, *, was_kept: bool) -> bool:
        """Return whether a kept connection died unnoticed, or a server has not yet forgotten sessions that ended."""
        return was_kept if self._owner.lost else isinstance(error, asyncssh.ChannelOpenError)

    async def _open_session(self, command: str) -> "asyncssh.SSHClientProcess[bytes]":
        connection = await self._connected()
        with anyio.fail_after(_DIAL_S):
            process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(command, encoding=None)
        return process

    async def _connected(self) -> asyncssh.SSHClientConnection:
        async with self._dialling:
            if self._connection is None or self._owner.lost:
                self._connection = None
                self._connection, self._owner = await self._dial()
            return self._connection

    async def _dial(self) -> tuple[asyncssh.SSHClientConnection, _Kept]:
        target = self._target
        pin = f"{_as_known(target.address, target.port)} {target.host_key}\n"
        with anyio.fail_after(_DIAL_S):
            owner = _Kept()
            connection, _ = await asyncssh.create_connection(
                lambda: owner,
                target.address,
                target.port,
                config=None,
                username=target.user,
                client_keys=[self._key.key],
                known_hosts=asyncssh.import_known_hosts(pin),
                server_host_key_algs=_pinned_first(target.host_key),
                agent_path=None,
                preferred_auth="publickey",
                keepalive_interval=_KEEPALIVE_S,
                keepalive_count_max=_KEEPALIVES,
            )
        logger.info("%s: connected", target.place)
        return connection, owner

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Turn what asyncssh raises into what a caller does next."""
        try:
            yield
        except (OSError, asyncssh.Error) as error:
            raise _meaning(error)(f"{self._target.place}: {_said(error, self._target)}") from error


async def shows_host_key(address: str, port: int, line: str) -> bool | None:
    """Return whether the SSH server there proves the host key ``line``, or None while no server answers."""
    try:
        with anyio.fail_after(_PROBE_S):
            shown = await asyncssh.get_server_host_key(address, port, config=None)
    except (OSError, asyncssh.Error):
        return None
    if shown is None:
        return None
    blob = shown.export_public_key("openssh").decode().split()
    return blob[:2] == line.split()[:2]


async def _finish(process: "asyncssh.SSHClientProcess[bytes]") -> None:
    process.close()
    # The other side counts the session until it has closed it too.
    with anyio.move_on_after(_CLOSE_S, shield=True):
        await process.wait_closed()


async def _converse(process: "asyncssh.SSHClientProcess[bytes]", payload: AsyncGenerator[bytes]) -> bytes:
    try:
        async for chunk in payload:
            process.stdin.write(chunk)
            await process.stdin.drain()
        process.stdin.write_eof()
    except BrokenPipeError:
        # The other side answered early, with a refusal; read it.
        logger.debug("a rack host did not read its whole request")
    output = bytearray()
    while chunk := await process.stdout.read(1 << 16):
        output += chunk
        if len(output) > _REPLY_BYTES:
            raise OSError(f"the reply exceeds {_REPLY_BYTES} bytes")
    return bytes(output)


def _pinned_first(host_key: str) -> list[str]:
    # The others too: a server that lost the pinned key shows another, and is told from one that hung up.
    pinned = [name for name in _HOST_KEY_ALGORITHMS if _HOST_KEY_ALGORITHMS[name] == host_key.split()[0]]
    return [*pinned, *(name for name in _HOST_KEY_ALGORITHMS if name not in pinned)]


def _as_known(address: str, port: int) -> str:
    return address if port == 22 else f"[{address}]:{port}"


# --- what failures mean -----------------------------------------------------------------------


def _meaning(error: Exception) -> Callable[[str], BackendError]:
    if isinstance(error, asyncssh.PermissionDenied | asyncssh.HostKeyNotVerifiable):
        return CredentialsError
    return UnavailableError


def _said(error: Exception, target: Target) -> str:
    """Return what happened and the mend; the library's own words stay in the cause."""
    where = f"{target.address} port {target.port}"
    if isinstance(error, asyncssh.PermissionDenied):
        return f"{where} refuses our key for user {target.user}; put its public half into authorized_keys there"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return (
            f"{where} does not show the pinned host key; somebody may stand between, so nothing was sent: compare the "
            "key at the machine's own console, and only if it was changed on purpose set host_key in the boot file"
        )
    if isinstance(error, TimeoutError):
        return f"{where} did not answer in time; check that it is up and reachable"
    return f"the connection to {where} failed ({type(error).__name__}); check that it is up and reachable"


# --- logins -----------------------------------------------------------------------------------


@frozen
class Doorway:
    """Where a server listens, by which key it is known, and who may come in; files by path."""

    address: str
    port: int
    host_key: str
    authorized_keys: str
    user: str


class GuestSession:
    """One session of a login: what it asks for, and its three streams."""

    def __init__(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        self._process = process

    @property
    def command(self) -> str | None:
        """What to run; None for a shell."""
        return self._process.command

    @property
    def terminal(self) -> str | None:
        """The terminal's type, where one is wanted."""
        return self._process.term_type

    @property
    def size(self) -> tuple[int, int]:
        """The terminal's columns and rows."""
        return self._process.term_size[:2]

    async def connect(self, terminal_in: int, terminal_out: int) -> None:
        """Carry bytes between the session and a terminal, from now on."""
        await self._process.redirect(terminal_in, terminal_out, None, send_eof=False)

    async def carry(self, stdin: StreamWriter, stdout: StreamReader, stderr: StreamReader) -> None:
        """Carry bytes between the session and a process until it has closed both its outputs.

        Not the library's own redirection: that ends the whole connection when a process dies before it has read
        its input, or closes one output after the other.
        """
        async with anyio.create_task_group() as carriers:
            carriers.start_soon(_feed, self._process.stdin, stdin)
            async with anyio.create_task_group() as outputs:
                outputs.start_soon(_carry, stdout, self._process.stdout)
                outputs.start_soon(_carry, stderr, self._process.stderr)
            carriers.cancel_scope.cancel()


async def _carry(source: Any, sink: Any) -> None:
    """Copy to the end; either side may leave before."""
    try:
        while chunk := await source.read(1 << 16):
            sink.write(chunk)
            await sink.drain()
    except (OSError, asyncssh.Error) as error:
        logger.debug("one side of a session has left: %s", type(error).__name__)


async def _feed(source: Any, sink: StreamWriter) -> None:
    try:
        await _carry(source, sink)
    finally:
        sink.close()


async def serve_logins(doorway: Doorway, run: Callable[[GuestSession], Awaitable[int]]) -> None:
    """Serve logins until cancelled; ``run`` returns a session's exit status."""

    async def serve(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        status = await run(GuestSession(process))
        await process.stdout.drain()
        process.exit(status & 0xFF if status >= 0 else 128 - status)

    server = await asyncssh.create_server(
        lambda: _Porter(doorway),
        doorway.address,
        doorway.port,
        server_host_keys=[doorway.host_key],
        process_factory=serve,
        encoding=None,
        sftp_factory=True,
        allow_scp=True,
        password_auth=False,
        kbdint_auth=False,
        agent_forwarding=False,
        x11_forwarding=False,
    )
    async with server:
        await server.wait_closed()


class _Porter(asyncssh.SSHServer):
    """Lets one user in, by the keys of one file; everybody else has no key that fits."""

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection, which asyncssh tells only here."""
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        """Ask everybody for a key."""
        if username == self._doorway.user and self._connection is not None:
            self._connection.set_authorized_keys(self._doorway.authorized_keys)
        return True
