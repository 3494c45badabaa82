"""A small guest image, made of this machine's own OpenSSH server and a few tools, as an OCI archive."""

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from attrs import frozen

_TOOLS = ("sh", "bash", "cat", "head", "id", "ls", "sleep", "tail", "true", "wc")
_ACCOUNTS = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "sshd:x:101:65534::/run/sshd:/bin/false\n"
        "guest:x:1000:1000::/home/guest:/bin/sh\n"
    ),
    "etc/group": "root:x:0:\nnogroup:x:65534:\nguest:x:1000:\n",
}
_FOLDERS = ("dev", "etc", "home/guest", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "var/empty")


@frozen
class GuestImage:
    """An OCI archive, and the SHA-256 of its manifest in hex."""

    archive: Path
    digest: str


def build_image(folder: Path, *, server: bool = True, accounts: Mapping[str, str] = MappingProxyType({})) -> GuestImage:
    """Write an image to ``folder``; without ``server`` it has no SSH server and serves no login."""
    layer = _layer([*_tools(), *(_server() if server else [])], {**_ACCOUNTS, **accounts})
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
        }
    )
    described = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    index = _json({"schemaVersion": 2, "manifests": [described]})
    archive = folder / "guest.tar"
    write_archive(archive, index, [packed, config, manifest])
    return GuestImage(archive, hashlib.sha256(manifest).hexdigest())


def write_archive(path: Path, index: bytes, blobs: list[bytes]) -> None:
    """Write an OCI archive of ``blobs``, each under its digest."""
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", index)
        for blob in blobs:
            _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)


# --- the root file system ---------------------------------------------------------------------


def _tools() -> Iterator[tuple[str, Path]]:
    for tool in _TOOLS:
        if found := shutil.which(tool):
            yield f"bin/{tool}", Path(found)


def _server() -> Iterator[tuple[str, Path]]:
    yield "usr/sbin/sshd", Path(shutil.which("sshd") or "/usr/sbin/sshd")
    # Newer OpenSSH serves each connection by a program of its own.
    for part in ("sshd-session", "sshd-auth"):
        for folder in ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec"):
            if (path := Path(folder, part)).exists():
                yield str(path).lstrip("/"), path


def _libraries(program: Path) -> Iterator[Path]:
    command = [shutil.which("ldd") or "ldd", str(program)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - every word is ours
    yield from (Path(found) for found in re.findall(r"(/[^ ]+) \(0x", said))


def _layer(programs: list[tuple[str, Path]], texts: Mapping[str, str]) -> bytes:
    files = {name: path.resolve() for name, path in programs}
    for program in list(files.values()):
        files |= {str(library).lstrip("/"): library.resolve() for library in _libraries(program)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
        for name, path in sorted(files.items()):
            _add(layer, name, path.read_bytes(), mode=0o755)
        for name, text in texts.items():
            _add(layer, name, text.encode())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


# --- OCI --------------------------------------------------------------------------------------


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
