"""The last good catalog of each backend, one JSON file of its own each; the format is docs/operator/catalog.md."""

import json
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from anyio import to_thread

from compute_bridge.adapters.whole_file import write_whole
from compute_bridge.model.catalog import MAX_ROWS, Catalog, CatalogRow
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.catalog import CatalogError, CatalogStore
from compute_bridge.wire import codec

#: The folder of the catalogs in a bridge's ``state_dir``.
CATALOG_FOLDER: Final = "catalog"
FORMAT: Final = "compute-bridge catalog"
VERSION: Final = 1
#: ``MAX_ROWS`` rows as clouds name things have less.
MAX_FILE_BYTES: Final = 2**26

_KEYS: Final = {"format", "version", "backend", "kind", "observed_at", "rows"}
# What an earlier release did not write of a row, and what holds of it then.
_LATER: Final = {"local_disk_gib": 0}
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MEND: Final = "move it away, then run compute-bridge catalog refresh"


class FileCatalogStore(CatalogStore):
    """Catalogs as ``<folder>/<backend>.json``, mode 0600; all file work runs in worker threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, backend: BackendName) -> Path:
        """Return the file of this backend's catalog."""
        return self._folder / f"{backend}.json"

    async def load(self, backend: BackendName, kind: str) -> Catalog | None:
        """Read the file strictly, no further than a catalog may be long."""
        return await to_thread.run_sync(_load, self.path(backend), backend, kind)

    async def save(self, catalog: Catalog) -> None:
        """Write beside the file and rename over it, where what is there could be loaded."""
        # Not abandoned on cancel: nobody should find out later whether it was replaced.
        await to_thread.run_sync(_save, self.path(catalog.backend), catalog)


def encode_catalog(catalog: Catalog) -> bytes:
    """Return the file's content: one line a row, so that a line tool can compare two."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "backend": catalog.backend,
        "kind": catalog.kind,
        "observed_at": catalog.observed_at,
    }
    lines = ["{", *(f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items())]
    rows = ",\n".join(json.dumps(codec.plain(row)) for row in catalog.rows)
    return "\n".join([*lines, '"rows": [', *([rows] if rows else []), "]", "}", ""]).encode()


def decode_catalog(raw: bytes) -> Catalog:
    """Return the catalog of a file's content.

    :raises RecordError: if it is no catalog that this release reads; the message says what is wrong and the mend.
    """
    table = _table(raw)
    if table.get("format") != FORMAT:
        raise RecordError(f'is no catalog, for its "format" is not "{FORMAT}"; {_MEND}')
    _require_version(table.get("version"))
    if table.keys() != _KEYS:
        keys = ", ".join(sorted(ascii(key[:64]) for key in table.keys() ^ _KEYS))
        raise RecordError(f"is damaged: these keys are missing or unknown: {keys[:300]}; {_MEND}")
    try:
        return Catalog(table["backend"], table["kind"], table["observed_at"], tuple(_rows(table["rows"])))
    except ValueError as error:
        raise RecordError(f"is damaged: {str(error)[:300]}; {_MEND}") from error


# --- parts ----------------------------------------------------------------------------------------


def _require_version(version: object) -> None:
    if type(version) is not int or version < 1:
        raise RecordError(f'is damaged: "version" is no whole number from 1; {_MEND}')
    if version > VERSION:
        raise RecordError(
            f"is of version {version}, and this release reads up to {VERSION}; "
            "install the release that wrote it, or move it away and run compute-bridge catalog refresh"
        )


def _rows(rows: object) -> Iterator[CatalogRow]:
    if type(rows) is not list or len(rows) > MAX_ROWS:
        raise RecordError(f'is damaged: "rows" is no array of at most {MAX_ROWS}; {_MEND}')
    for index, row in enumerate(rows):
        try:
            yield codec.from_plain(_LATER | row if type(row) is dict else row, CatalogRow)
        except RecordError as error:
            raise RecordError(f"is damaged: rows[{index}] is {str(error)[:300]}; {_MEND}") from error


def _table(raw: bytes) -> dict[str, Any]:
    refuse = partial(_refuse, "a number with a point or an exponent, or none at all")
    try:
        table = json.loads(raw.decode(), object_pairs_hook=_once, parse_float=refuse, parse_constant=refuse)
    # Also UnicodeDecodeError and JSONDecodeError.
    except ValueError as error:
        raise RecordError(f"is damaged: {str(error)[:300]}; {_MEND}") from error
    except RecursionError:
        raise RecordError(f"is damaged: nested too deep; {_MEND}") from None
    if type(table) is not dict:
        raise RecordError(f"is damaged: no JSON object; {_MEND}")
    return table


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice")
    return table


def _refuse(what: str, _text: str) -> NoReturn:
    raise ValueError(f"{what}; money and times are whole numbers")


def _load(path: Path, backend: BackendName, kind: str) -> Catalog | None:
    raw = _read(path)
    if raw is None:
        return None
    try:
        catalog = decode_catalog(raw)
    except RecordError as error:
        raise CatalogError(f"catalog {path}: {error}") from error
    if (catalog.backend, catalog.kind) != (backend, kind):
        raise CatalogError(
            f"catalog {path}: is of backend {catalog.backend} of kind {catalog.kind}, "
            f"and the boot file names {backend} of kind {kind}; {_MEND}"
        )
    return catalog


def _save(path: Path, catalog: Catalog) -> None:
    # What cannot be read is somebody's to look at, not ours to replace.
    _load(path, catalog.backend, catalog.kind)
    data = encode_catalog(catalog)
    if len(data) > MAX_FILE_BYTES:
        raise CatalogError(f"catalog {path}: {len(data)} bytes are more than {MAX_FILE_BYTES}; sell fewer shapes")
    try:
        write_whole(path, data)
    except OSError as error:
        raise CatalogError(
            f"catalog {path}: {error.strerror}; make its folder writable, with room on the disk"
        ) from error


def _read(path: Path) -> bytes | None:
    try:
        with open(path, "rb", opener=_at_once) as file:
            _require_ours(path, os.fstat(file.fileno()))
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CatalogError(f"catalog {path}: {error.strerror}; make it readable, or {_MEND}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise CatalogError(f"catalog {path}: larger than {MAX_FILE_BYTES} bytes, so none of ours; {_MEND}")
    return raw


def _at_once(path: str, flags: int) -> int:
    """Open without waiting, so that a pipe put there by mistake is refused instead."""
    return os.open(path, flags | os.O_NONBLOCK)


def _require_ours(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CatalogError(f"catalog {path}: is not a regular file; {_MEND}")
    if found.st_mode & _OTHERS_WRITE:
        raise CatalogError(
            f"catalog {path}: others may write it (mode {stat.S_IMODE(found.st_mode):04o}), and it says what is sold "
            f"at what cost; chmod 600 it, or {_MEND}"
        )
