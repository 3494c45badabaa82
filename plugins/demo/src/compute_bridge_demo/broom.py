"""Make a folder, tell its path, and remove it when nobody holds the other end of standard input any more.

``python -m compute_bridge_demo.broom``: everyone who works in the folder holds the pipe's writing end, so
the folder goes last, even when all of them were killed. A byte sent through the pipe keeps it.
"""

import os
import shutil
import signal
import sys
import tempfile

PREFIX = "compute-bridge-demo-"


def main() -> int:
    """Wait for the end of standard input, then sweep."""
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    folder = tempfile.mkdtemp(prefix=PREFIX)
    try:
        _tell(folder)
        kept = bool(sys.stdin.buffer.read())
    except BrokenPipeError:
        kept = False
    if not kept:
        shutil.rmtree(folder)
    return 0


def _tell(folder: str) -> None:
    os.write(sys.stdout.fileno(), os.fsencode(folder))
    # The reader waits for the end, and must not hold us back either.
    os.close(sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
