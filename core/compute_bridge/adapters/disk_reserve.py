"""A little room on the disk, held in a file: where the disk is full, it is what a file can still be opened with."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

#: How much is held.
RESERVE_BYTES: Final = 1024 * 1024

# Below this SQLite cannot even make the side files that it opens a journal with.
_LOW_BYTES: Final = 256 * 1024


def free_bytes(folder: Path) -> int:
    """Return the room on the folder's disk for this user."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def release_when_low(path: Path) -> bool:
    """Give up the reserve beside ``path`` if the disk is full; return whether it is."""
    is_low = free_bytes(path.parent) < _LOW_BYTES
    if is_low:
        _file(path).unlink(missing_ok=True)
    return is_low


def hold(path: Path) -> bool:
    """Hold the reserve beside ``path``; return whether it is held, or there is so much room that it could be."""
    target = _file(path)
    if target.exists():
        return True
    if free_bytes(path.parent) < 4 * RESERVE_BYTES:
        return False
    with suppress(OSError):  # a reserve is a help; that there is none stops nobody
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Not zeros: some file systems hold no room for those.
            os.write(descriptor, secrets.token_bytes(RESERVE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return True


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.reserve")
