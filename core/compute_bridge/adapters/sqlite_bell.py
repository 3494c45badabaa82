"""How processes on one machine tell each other that a file changed: a datagram socket each, in one folder.

A ring carries nothing, so a ring that finds a full socket may be dropped: the one before it is unread.
"""

import errno
import logging
import os
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

# The shortest limit among the systems with Unix sockets (macOS); Linux has 108.
_MAX_ADDRESS = 103
# What a socket with unread rings answers, on Linux and on BSD.
_FULL = (errno.EAGAIN, errno.ENOBUFS)
_OWN_DIRECTORIES = Path("/proc/self/fd")


class Bell:
    """One process's ear in ``folder``, and its hand on everybody's.

    Where no socket can be bound (no Unix sockets on this file system, a folder of another user), the bell
    says so in the log and :meth:`wait` only ever times out: changes of other processes are then seen by
    the caller's slow look alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._prefix = str(folder)
        self._warned = False
        self._closed = threading.Event()
        self._directory = -1
        self._ear: socket.socket | None = None
        self._hand = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._hand.setblocking(False)
        try:
            self._prefix = self._open_folder()
            self._ear = self._bind()
        except OSError as error:
            self._warn("no wake-up socket, so changes of other processes show late", error)
        self.ring()

    def _open_folder(self) -> str:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(os.fsencode(self._folder / self._name)) + 1 <= _MAX_ADDRESS:
            return str(self._folder)
        # An address has room for some hundred bytes; the folder's own descriptor is a short name for it.
        self._directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        return str(_OWN_DIRECTORIES / str(self._directory))

    def _bind(self) -> socket.socket:
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        draft = f"{self._prefix}/.{self._name}"
        try:
            ear.bind(draft)
            # Under its name only once it listens: a peer removes a name that does not answer.
            os.rename(draft, f"{self._prefix}/{self._name}")
        except OSError:
            ear.close()
            raise
        return ear

    def ring(self) -> None:
        """Wake every other process that listens, and remove the sockets of those that died."""
        try:
            names = os.listdir(self._folder)
        except OSError as error:
            self._warn("cannot ring, so other processes see changes late", error)
            return
        for name in names:
            if name.endswith(".sock") and not name.startswith(".") and name != self._name:
                self._ring_one(name)

    def _ring_one(self, name: str) -> None:
        try:
            self._hand.sendto(b"\0", f"{self._prefix}/{name}")
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(self._folder / name)
        except FileNotFoundError:
            pass  # it left meanwhile
        except OSError as error:
            if error.errno not in _FULL:
                self._warn("cannot ring a process, so it sees changes late", error)

    def wait(self, timeout_s: float) -> bool:
        """Return whether a ring came within the time; several rings count as one. Blocks its thread."""
        if self._ear is None:
            self._closed.wait(timeout_s)
            return False
        self._ear.settimeout(timeout_s)
        try:
            self._ear.recv(1)
            self._ear.setblocking(False)
            while self._ear.recv(1):
                pass
        except BlockingIOError:
            return True
        except TimeoutError:
            return False
        return True

    def _warn(self, what: str, error: OSError) -> None:
        # Once: the state lasts, and a line for each commit would bury the rest of the log.
        if not self._warned:
            self._warned = True
            logger.warning("%s: %s (%s); give a folder on a local disk that this user owns", self._folder, what, error)

    def stop(self) -> None:
        """End a :meth:`wait` that stands in another thread, soon."""
        self._closed.set()
        if self._ear is not None:
            self._ring_one(self._name)

    def close(self) -> None:
        """Give the sockets back; nobody may wait any more."""
        if self._ear is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._folder / self._name)
            self._ear.close()
        self._hand.close()
        if self._directory >= 0:
            os.close(self._directory)
