"""A process that has imported everything and done nothing: every life is forked from it, in milliseconds.

Whoever connects to its socket sends one line, ``{"role": …, "log": …, "arguments": {…}}``, and is told the child's id,
and its wait status once it has ended. A child lives no longer than the connection that asked for it.
"""

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


LATE = (
    "anyio._backends._asyncio",
    "compute_bridge.adapters.direct_shuffle",
    "compute_bridge.adapters.quote_verifier",
    "compute_bridge.adapters.software_quotes",
    "compute_bridge.adapters.sqlite_network",
    "compute_bridge_ledger.hooks",
    "compute_bridge_market.hooks",
    "compute_bridge_rates.hooks",
    "compute_bridge_routing.hooks",
    "crashkit.schedule",
    "dcap_qvl",
)
"""What the roles import only when they need it, so that each fork need not."""


def main(path: str, installed: str, *late: str) -> None:
    """Serve forks at the socket ``path``, with the plugins in the folder ``installed``, until stdin closes.

    The modules ``late`` are imported too; the function ``warm_up`` of each is called, where it has one.
    """
    sys.path.insert(0, installed)
    # The probes first: what has been imported cannot be instrumented any more.
    from crashkit import probes

    probes.place()
    from crashkit.lives import ROLES

    for module in (*LATE, *late):
        getattr(importlib.import_module(module), "warm_up", lambda: None)()
    _make_hooks()
    gc.collect()
    gc.freeze()
    _Template(path, ROLES).serve()


def _make_hooks() -> None:
    """Have the codec make what it makes at the first record of each kind."""
    from compute_bridge.host.lease_state import BODIES
    from compute_bridge.wire import codec
    from compute_bridge.wire.records import RECORDS

    for cls in (*(kind.cls for kind in RECORDS), *BODIES.values()):
        codec._converter(False).get_unstructure_hook(cls)
        for fill in (False, True):
            codec._converter(fill).get_structure_hook(cls)


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
            wanted = lines.readline()
        if wanted:
            self._fork(json.loads(wanted), connection)
        else:
            connection.close()  # whoever it was is gone

    def _fork(self, wanted: dict[str, Any], connection: socket.socket) -> None:
        pid = os.fork()
        if pid == 0:
            self._become(wanted)
        handle = os.pidfd_open(pid)
        self._selector.register(handle, selectors.EVENT_READ, lambda _: self._ended(pid, handle, connection))
        self._selector.register(connection, selectors.EVENT_READ, lambda _: self._let_go(pid, connection))
        _tell(connection, pid)

    def _ended(self, pid: int, handle: int, connection: socket.socket) -> None:
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(handle)
        os.close(handle)
        if connection in self._selector.get_map():
            self._selector.unregister(connection)
        _tell(connection, os.waitstatus_to_exitcode(status))
        connection.close()

    def _let_go(self, pid: int, connection: socket.socket) -> None:
        # Both ends may come in one batch: then the child was waited for a moment ago, and its id is nobody's.
        if connection.fileno() < 0:
            return
        self._selector.unregister(connection)
        os.kill(pid, signal.SIGKILL)

    def _become(self, wanted: dict[str, Any]) -> None:
        status = 1
        try:
            gc.disable()  # a life is short, and a collection would touch every page that it shares
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


def _tell(connection: socket.socket, number: int) -> None:
    # Whoever asked may be gone; that ends its child as well, when the connection's end is read.
    with suppress(OSError):
        connection.sendall(f"{number}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
