"""Run one command; when whoever holds the other end of a pipe is gone, end it and all that it ever started.

``python -m compute_bridge_demo.leash FDS GRACE_MS -- COMMAND...``: the first of the comma-separated
descriptors is the pipe, the others are only held until nothing lives any more. Standard library
alone, so that it starts at once; Linux alone, since orphans must come back to it.
"""

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
KILL_WITHIN_S = 10.0
_KILL_PAUSE_S = 0.01
_PROC = Path("/proc")


def hold(pipe: int, command: list[str], *, grace_s: float) -> int:
    """Run ``command`` until it ends or ``pipe`` does, and return its exit status.

    With the pipe's end it gets SIGTERM and ``grace_s`` seconds. What it leaves behind is killed either way,
    in whatever session it hides.

    :raises OSError: if the command cannot be started.
    """
    _adopt_orphans()
    bell = _bell()
    # Python ignores SIGPIPE, and a shell would inherit that.
    child = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGPIPE])
    status = _await_end(child, [pipe, bell], until=None)
    if status is None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        status = _await_end(child, [bell], until=time.monotonic() + grace_s)
    _kill_all(bell)
    return -signal.SIGKILL if status is None else status


def descendants(root: int) -> list[int]:
    """Return the process ids of everything below ``root``, the dead that nobody has buried yet included."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            # It may be gone by the time it is read.
            with suppress(OSError):
                children.setdefault(_parent(entry), []).append(int(entry.name))
    found = list(children.get(root, []))
    for pid in found:
        found += children.get(pid, [])
    return found


def _parent(entry: Path) -> int:
    # The name in brackets may hold anything.
    return int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def _adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, in its own session or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed; the demo needs Linux")


def _bell() -> int:
    """Return a descriptor from which a byte comes for each SIGCHLD and SIGTERM."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for one in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(one, lambda _number, _frame: None)
    return reading


def _await_end(child: int, sources: Sequence[int], *, until: float | None) -> int | None:
    """Return the exit status of ``child``, or None when told to end it or at ``until``."""
    pipe, bell = sources[0], sources[-1]
    while True:
        wait_s = None if until is None else max(0.0, until - time.monotonic())
        ready, _, _ = select.select(sources, [], [], wait_s)
        told = _rung(bell)
        status = _buried().get(child)
        if status is not None:
            return status
        if not ready or (until is None and (pipe in ready or signal.SIGTERM in told)):
            return None


def _rung(bell: int) -> bytes:
    try:
        return os.read(bell, 4096)
    except BlockingIOError:
        return b""


def _buried() -> dict[int, int]:
    """Bury the dead; return their exit statuses by process id."""
    ended: dict[int, int] = {}
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    return ended


def _kill_all(bell: int) -> None:
    until = time.monotonic() + KILL_WITHIN_S
    while (left := descendants(os.getpid())) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _buried()
        select.select([bell], [], [], _KILL_PAUSE_S)


def main(arguments: Sequence[str]) -> int:
    """Hold the command on the command line; return what a shell would call its exit status."""
    held, grace_ms, dashes, *command = arguments
    if dashes != "--" or not command:
        raise SystemExit("usage: python -m compute_bridge_demo.leash FDS GRACE_MS -- COMMAND...")
    descriptors = [int(word) for word in held.split(",")]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    status = hold(descriptors[0], command, grace_s=int(grace_ms) / 1000)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
