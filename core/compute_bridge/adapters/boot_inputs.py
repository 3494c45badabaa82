"""What a boot file points to: the handshake page, the root key's seed, and the bridge's own folder."""

import re
from pathlib import Path

from compute_bridge.adapters.catalog_file import CATALOG_FOLDER
from compute_bridge.model.coalition import Handshake
from compute_bridge.ports.errors import BootError, RecordError
from compute_bridge.wire import codec
from compute_bridge.wire.records import kind_of
from compute_bridge.wire.signing import fingerprint

SEED_BYTES = 32

# What create_file names a file before it is whole, and what SQLite puts beside it.
_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}\.new(-wal|-shm|-journal)?")


def prepare_folder(folder: Path) -> bool:
    """Make ``folder`` for the operator's eyes only where it is missing; return whether nothing was ever kept in it.

    The draft of a file that a killed start had not finished is nothing yet, and offer catalogs know of no lease.

    :raises BootError: if it cannot be made or read.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return is_untouched(folder)
    except OSError as error:
        raise BootError(f"bridge.state_dir {folder}: {error.strerror}; name a folder that can be written") from error


def is_untouched(folder: Path) -> bool:
    """Return whether nothing was ever kept in ``folder``, which is there.

    :raises OSError: if it cannot be read.
    """
    return all(_DRAFT.fullmatch(path.name) or path.name == CATALOG_FOLDER for path in folder.iterdir())


def read_handshake(path: Path, expected: bytes) -> Handshake:
    """Return the handshake in the file at ``path``, for the coalition with this fingerprint.

    :raises BootError: if it cannot be read, is no handshake, or is another coalition's.
    """
    mend = "ask the coalition operator for its handshake file and fingerprint"
    limit = kind_of(Handshake).max_bytes
    try:
        with path.open("rb") as file:
            handshake = codec.decode(file.read(limit + 1), Handshake, max_bytes=limit)
    except (OSError, RecordError) as error:
        raise BootError(f"coalition.handshake {path}: {error}; {mend}") from error
    found = fingerprint(handshake.coalition)
    if found != expected:
        raise BootError(
            f"coalition.handshake {path}: its fingerprint is {found.hex()}, but coalition.fingerprint says "
            f"{expected.hex()}; {mend}"
        )
    return handshake


def read_seed(key: str, raw: bytes) -> bytes:
    """Return the 32-byte seed in a secret: 64 hex digits, or the bytes themselves.

    :raises BootError: if it is neither; ``key`` says where it is named.
    """
    if len(raw) == SEED_BYTES:
        return raw
    try:
        return bytes.fromhex(raw.decode("ascii").strip())
    except ValueError:
        raise BootError(
            f"{key}: is no Ed25519 seed of 64 hex digits; 'compute-bridge config new-key' makes one"
        ) from None
