"""What a requester keeps, as files of its own: one folder for each request, mode 0700, files 0600."""

import os
import stat
from pathlib import Path

from anyio import to_thread

from compute_bridge.adapters.whole_file import write_whole
from compute_bridge.model.ids import RequestId
from compute_bridge.ports.requester_store import MAX_PIECE_BYTES, RequesterStore, StoreError, check_piece

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ID_DIGITS = 64


class FileRequesterStore(RequesterStore):
    """Pieces as ``<folder>/<request id in hex>/<name>``; all file work runs in worker threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, request: RequestId, name: str, data: bytes) -> Path:
        """Write beside the piece, sync, rename over it, sync the folder."""
        path = self._path(request, name)
        # Not abandoned on cancel: a half-known write of a private key is no state to leave.
        await to_thread.run_sync(_write, path, data)
        return path

    async def read(self, request: RequestId, name: str) -> bytes | None:
        """Read the file, unless others may."""
        return await to_thread.run_sync(_read, self._path(request, name))

    async def requests(self) -> tuple[RequestId, ...]:
        """List the folders."""
        return await to_thread.run_sync(_requests, self._folder)

    def _path(self, request: RequestId, name: str) -> Path:
        return self._folder / request.hex() / check_piece(name)


def _write(path: Path, data: bytes) -> None:
    if len(data) > MAX_PIECE_BYTES:
        raise StoreError(f"{path}: {len(data)} bytes are more than the {MAX_PIECE_BYTES} of a piece")
    try:
        write_whole(path, data)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; make its folder writable, with room on the disk") from error


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; it must be readable by you alone") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & _OTHERS:
            raise StoreError(f"{path}: others may read this key material; chmod 600 it, and trust it no more")
        data = file.read(MAX_PIECE_BYTES + 1)
    if len(data) > MAX_PIECE_BYTES:
        raise StoreError(f"{path}: larger than {MAX_PIECE_BYTES} bytes, so no piece of ours; remove it")
    return data


def _requests(folder: Path) -> tuple[RequestId, ...]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}; name a folder that you can read") from error
    return tuple(RequestId(bytes.fromhex(name)) for name in names if _is_id(name))


def _is_id(name: str) -> bool:
    return len(name) == _ID_DIGITS and set(name) <= set("0123456789abcdef")
