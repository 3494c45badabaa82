"""The guests: for each machine an SSH server on a loopback address of its own."""

import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryDirectory

from attrs import define, field

from compute_bridge.testing.physics.guest_document import GuestDocument, sshd_settings
from compute_bridge.testing.physics.matter import State

_TRIES = 100
_SWEEP_S = 0.2
_OVER = (State.ENDING, State.GONE, State.FAILED)
# A server whose process is gone sends no more; this is what a client of a host without a server sees.
_RESET = struct.pack("ii", 1, 0)
_SETTINGS = """\
HostKey {folder}/etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile {folder}/keys/%u
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel QUIET
"""
_PLACES = ("/etc/ssh/", "/usr/local/sbin/")


def random_address() -> str:
    """Return a loopback address that nobody is likely to have: no 0 and no 255 in it, and not in 127.0.0.0/16."""
    return "127." + ".".join(str(1 + secrets.randbelow(254)) for _ in range(3))


@define(eq=False)
class _Guest:
    machine: str
    document: GuestDocument
    listener: socket.socket
    state: Callable[[], State]
    settings: Path | None = None
    sessions: list[subprocess.Popen[bytes]] = field(factory=list)


class Guests:
    """One thread that listens for all machines, and for each connection a real ``sshd -i``.

    A user that this system does not have cannot log in; the exchange of keys, which shows the host key, works for all.
    An idle guest is one open socket, and no process.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="guests-", ignore_cleanup_errors=True)
        self._program = shutil.which("sshd") or "/usr/sbin/sshd"
        if os.geteuid() == 0:
            # Where its privileged half lives; no service has made it on a machine without an init.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._lock = threading.Lock()
        self._guests: dict[str, _Guest] = {}
        self._coming: list[_Guest] = []
        self._is_closed = False
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="guests", daemon=True)
        self._thread.start()

    def boot(self, machine: str, user_data: bytes, state: Callable[[], State]) -> str:
        """Listen for a machine on an address that nobody has; return the address.

        While ``state``, asked from a thread of its own, does not say that it runs, connections are reset; once it is
        over the listener is closed and every session killed.
        """
        document = GuestDocument.read(user_data)
        listener = _listener(document.port)
        with self._lock:
            self._coming.append(_Guest(machine, document, listener, state))
        self._nudge()
        return str(listener.getsockname()[0])

    def close(self) -> None:
        """End every guest and the thread; a second close is nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._nudge()
        self._thread.join()
        self._wake.close()
        self._woken.close()
        self._folder.cleanup()

    def _nudge(self) -> None:
        self._wake.send(b"!")

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        with DefaultSelector() as selector:
            selector.register(self._woken, EVENT_READ)
            try:
                while not self._is_closed:
                    self._turn(selector)
            finally:
                for guest in [*self._guests.values(), *self._coming]:
                    _end(guest)

    def _turn(self, selector: DefaultSelector) -> None:
        for key, _ in selector.select(_SWEEP_S if self._guests else None):
            if key.data is None:
                self._woken.recv(4096)
            else:
                self._accept(key.data)
        for guest in self._arrivals():
            selector.register(guest.listener, EVENT_READ, guest)
            self._guests[guest.machine] = guest
        for guest in list(self._guests.values()):
            guest.sessions = [session for session in guest.sessions if session.poll() is None]
            if guest.state() in _OVER:
                selector.unregister(guest.listener)
                del self._guests[guest.machine]
                _end(guest)

    def _arrivals(self) -> list[_Guest]:
        with self._lock:
            arrivals, self._coming = self._coming, []
        return arrivals

    def _accept(self, guest: _Guest) -> None:
        try:
            connection, _ = guest.listener.accept()
        except OSError:
            return
        with connection:
            if guest.state() is not State.RUNNING or not guest.document.host_key_private:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return
            connection.setblocking(True)
            guest.sessions.append(self._serve(guest, connection))

    def _serve(self, guest: _Guest, connection: socket.socket) -> subprocess.Popen[bytes]:
        guest.settings = guest.settings or self._install(guest)
        command = [self._program, "-i", "-f", str(guest.settings)]
        return subprocess.Popen(  # noqa: S603 - every word is ours
            command,
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _install(self, guest: _Guest) -> Path:
        folder = Path(self._folder.name) / str(len(list(Path(self._folder.name).iterdir())))
        document = guest.document
        for place in ("/keys/", *_PLACES):
            Path(f"{folder}{place}").mkdir(parents=True)
        key = folder / "etc/ssh/ssh_host_ed25519_key"
        key.touch(mode=0o600)
        key.write_text(document.host_key_private)
        for user, keys in document.users.items():
            (folder / "keys" / user).write_text("".join(f"{line}\n" for line in keys))
        for path, content in document.files.items():
            if f"{Path(path).parent}/" in _PLACES:
                file = Path(f"{folder}{path}")
                file.write_text(_moved(content, folder))
                file.chmod(0o755)
        settings = folder / "sshd_config"
        settings.write_text(_SETTINGS.format(folder=folder) + _moved(sshd_settings(document.files), folder))
        return settings


def _moved(text: str, folder: Path) -> str:
    """Return a file of a guest as it reads where the guest's root folder is ``folder``, on a machine with no init.

    Its server reads its key anew for each connection, so that nothing is to be reloaded.
    """
    for place in _PLACES:
        text = text.replace(place, f"{folder}{place}")
    return text.replace(" .ssh/authorized_keys", f" {folder}/keys/%u").replace("systemctl ", "true ")


def _listener(port: int) -> socket.socket:
    for _ in range(_TRIES):
        listener = socket.socket()
        try:
            listener.bind((random_address(), port))
        except OSError:
            listener.close()
            continue
        listener.listen(16)
        listener.setblocking(False)
        return listener
    raise RuntimeError(f"no loopback address lets a guest listen on port {port}")


def _end(guest: _Guest) -> None:
    guest.listener.close()
    for session in guest.sessions:
        with suppress(ProcessLookupError):
            os.killpg(session.pid, signal.SIGKILL)
        session.wait()
