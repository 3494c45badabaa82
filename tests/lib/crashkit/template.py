"""A process that has imported everything and done nothing: every life is forked from it, in milliseconds.

Whoever connects to its socket sends one line, ``{"role": …, "log": …, "arguments": {…}}``, and is told the child's id,
and its wait status once it has ended. A child lives no longer than the connection that asked for it.
"""

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main(path: str, installed: str) -> None:
    """Serve forks at the socket ``path``, with the plugins in the folder ``installed``, until stdin closes."""
    sys.path.insert(0, installed)
    from crashkit import probes

    probes.place()
    from crashkit.lives import ROLES

    _import_lazy()
    gc.collect()
    gc.freeze()
    _Template(path, ROLES).serve()


def _import_lazy() -> None:
    """Import what the roles import late, so that each fork need not."""
    import dcap_qvl  # noqa: F401



class _Template:
    def __init__(self, path: str, roles: dict[str, Any]) -> None:
        self._roles = roles
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin, selectors.EVENT_READ, self._leave)
        self._pid = os.getpid()

    def serve(self) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in self._selector.select():
                key.data(key.fileobj)

    def _leave(self, _stdin: Any) -> None:
        # Its children end with it.
        os._exit(0)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection.makefile("r") as lines:
            wanted = json.loads(lines.readline())
        pid = os.fork()
        if pid == 0:
            self._become(wanted)
        handle = os.pidfd_open(pid)
        self._selector.register(handle, selectors.EVENT_READ, lambda _: self._ended(pid, handle, connection))
        self._selector.register(connection, selectors.EVENT_READ, lambda _: self._let_go(pid, connection))
        connection.sendall(f"{pid}\n".encode())

    def _ended(self, pid: int, handle: int, connection: socket.socket) -> None:
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(handle)
        os.close(handle)
        if connection in self._selector.get_map():
            self._selector.unregister(connection)
        try:
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        except OSError:
            pass  # nobody waits any more
        connection.close()

    def _let_go(self, pid: int, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        os.kill(pid, signal.SIGKILL)

    def _become(self, wanted: dict[str, Any]) -> None:
        status = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._pid:
                os._exit(1)
            # The template's connections are not the child's: an end that it held open would never be seen.
            os.closerange(3, 1024)
            log = os.open(Path(wanted["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for descriptor in (1, 2):
                os.dup2(log, descriptor)
            status = self._roles[wanted["role"]](**wanted["arguments"])
        except BaseException:  # noqa: BLE001 - the end of a process tells why
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
