"""One process a file: an advisory lock on a side file, which the kernel gives back when the process dies."""

import fcntl
import os
from pathlib import Path


class FileHeldError(Exception):
    """Another process holds the file; end it or use another file. ``pid`` is ``None`` when it did not say."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(f"{path} is held by {f'process {pid}' if pid else 'another process'}")
        self.pid = pid


class FileLock:
    """A held lock on ``<path>.lock``. The side file stays: removing it would let two processes lock two files.

    It locks against every other opening, also one of this process. It works on a local disk.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock at once.

        :raises FileHeldError: if it is taken.
        :raises OSError: if the side file cannot be made or locked.
        """
        self._descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError as error:
            said = os.pread(self._descriptor, 20, 0).strip()
            os.close(self._descriptor)
            raise FileHeldError(path, int(said) if said.isdigit() else None) from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)
