"""OCI archives at the bridge: found, checked against their digest, and streamed to a rack host.

The rack host hashes every blob again before anything runs; here only the manifest is read.
"""

import hashlib
import json
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
from anyio import to_thread
from attrs import frozen

from compute_bridge.ports.errors import UnservableError

_MANIFEST_BYTES = 4 << 20
_CHUNK = 1 << 18
_HEX = "0123456789abcdef"


@frozen
class Archive:
    """An OCI archive that holds the manifest ``digest``; ``config`` is the SHA-256 of its image config."""

    path: Path
    size: int
    digest: str
    config: str

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the archive's bytes."""
        async with await anyio.open_file(self.path, "rb") as file:
            while chunk := await file.read(_CHUNK):
                yield chunk


async def open_archive(path: Path, digest: str, *, place: str) -> Archive:
    """Return the archive at ``path``, once its manifest hashes to ``digest``.

    :raises UnservableError: if it cannot be read, or holds another image.
    """
    return await to_thread.run_sync(_read_archive, path, digest, place)


def _read_archive(path: Path, digest: str, place: str) -> Archive:
    try:
        with tarfile.open(path, "r:") as archive:
            manifest = _read_manifest(archive, digest)
        size = path.stat().st_size
    except (OSError, tarfile.TarError) as error:
        raise UnservableError(f"{place}: image {path} cannot be read as an OCI archive; make it anew") from error
    if manifest is None or hashlib.sha256(manifest).hexdigest() != digest:
        raise UnservableError(f"{place}: image {path} does not hold the manifest sha256:{digest}; correct its digest")
    return Archive(path, size, digest, _config_of(manifest, f"{place}: image {path}"))


def _read_manifest(archive: tarfile.TarFile, digest: str) -> bytes | None:
    wanted = f"blobs/sha256/{digest}"
    member = next((one for one in archive if one.name.removeprefix("./") == wanted), None)
    file = None if member is None or member.size > _MANIFEST_BYTES else archive.extractfile(member)
    return None if file is None else file.read()


def _config_of(manifest: bytes, where: str) -> str:
    try:
        algorithm, _, config = json.loads(manifest)["config"]["digest"].partition(":")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnservableError(
            f"{where} names no image config: the digest may be that of an index; give the manifest's own"
        ) from error
    if algorithm != "sha256" or len(config) != 64 or set(config) - set(_HEX):
        raise UnservableError(f"{where} names its config by something else than SHA-256")
    return str(config)
