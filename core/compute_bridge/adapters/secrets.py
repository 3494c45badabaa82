"""Secrets by reference: ``env:NAME`` or ``file:PATH``. What they hold is never printed."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from compute_bridge.ports.errors import BootFileError

#: The largest secret: a key with its certificate chain is far smaller.
MAX_SECRET_BYTES: Final = 65_536

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def is_reference(text: str) -> bool:
    """Return whether ``text`` says where a secret lies, rather than being one."""
    scheme, _, rest = text.partition(":")
    return (scheme == "env" and _ENV_NAME.fullmatch(rest) is not None) or (scheme == "file" and bool(rest))


def read_secret(ref: str, *, base_dir: Path | None = None, environ: Mapping[str, str] | None = None) -> bytes:
    """Return the secret that ``ref`` points at; a relative path is taken from ``base_dir``.

    The line end that closes a text file is not part of its secret; other bytes come as they are.

    :raises BootFileError: if ``ref`` is no reference, or nothing usable lies there.
    """
    if not is_reference(ref):
        raise BootFileError(
            f'a secret must be a reference, "env:NAME" or "file:PATH"; got text of {len(ref)} characters '
            "(not shown); move the secret into a file and name that"
        )
    scheme, _, rest = ref.partition(":")
    if scheme == "env":
        return _from_environment(ref, rest, os.environ if environ is None else environ)
    return _from_file(ref, (base_dir or Path.cwd()) / rest)


def write_secret(path: Path, raw: bytes) -> None:
    """Write a new secret file that only this user can read.

    :raises BootFileError: if it exists, for a key once used must not be lost, or cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
    except FileExistsError as error:
        raise BootFileError(f"{path}: is there already and is not overwritten; name another file") from error
    except OSError as error:
        raise BootFileError(f"{path}: {error.strerror}; name a file in a folder of yours") from error


def _from_environment(ref: str, name: str, environ: Mapping[str, str]) -> bytes:
    value = environ.get(name, "")
    if not value:
        raise BootFileError(f"secret {ref}: the environment has no {name}; export it, or use file:PATH")
    return value.encode()


def _from_file(ref: str, path: Path) -> bytes:
    try:
        with open(path, "rb", opener=_at_once) as file:
            _require_private(ref, path, os.fstat(file.fileno()))
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise BootFileError(f"secret {ref}: {path}: {error.strerror}; put the secret there, mode 0600") from error
    if not 0 < len(raw) <= MAX_SECRET_BYTES:
        size = "empty" if not raw else f"larger than {MAX_SECRET_BYTES} bytes"
        raise BootFileError(f"secret {ref}: {path} is {size}; put the secret there, and nothing else")
    return _without_line_end(raw)


def _at_once(path: str, flags: int) -> int:
    """Open without waiting, so that a pipe put there by mistake is refused instead."""
    return os.open(path, flags | os.O_NONBLOCK)


def _require_private(ref: str, path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BootFileError(f"secret {ref}: {path} is not a regular file; name one")
    if found.st_mode & _OTHERS:
        raise BootFileError(
            f"secret {ref}: {path} may be read by others (mode {stat.S_IMODE(found.st_mode):04o}); chmod 600 {path}"
        )
    if found.st_uid not in (0, os.geteuid()):
        raise BootFileError(f"secret {ref}: {path} belongs to user {found.st_uid}; chown {os.geteuid()} {path}")


def _without_line_end(raw: bytes) -> bytes:
    """Return ``raw`` without its last line end if it is text: 32 random bytes may end in 0x0a."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw
    if all(character.isprintable() or character in "\r\n\t" for character in text):
        return raw.removesuffix(b"\n").removesuffix(b"\r")
    return raw
