"""What is installed, from metadata and bytes on disk: nothing here imports a plugin."""

import csv
import json
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

from attrs import field, frozen
from blake3 import blake3

from compute_bridge.model.ids import digest
from compute_bridge.ports.errors import PluginError

GROUP: Final = "compute_bridge"

# These differ from one installation of the same wheel to the next.
_INSTALLER_FILES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
_UNMEASURED_SUFFIXES = frozenset({".pyc", ".pyo"})


@frozen
class Promise:
    """A kind that an installed distribution's entry point promises; its ``target`` is not yet imported."""

    kind: str
    distribution: str
    version: str
    target: str
    entry: EntryPoint = field(repr=False, eq=False)

    @property
    def where(self) -> str:
        """The distribution and the entry point, as every error names them."""
        return f"distribution {self.distribution} {self.version}, entry point {self.kind} = {self.target}"


@frozen
class Measurement:
    """The digest over a distribution's files as they lay on the disk before any was imported."""

    distribution: str
    version: str
    digest: bytes
    files: int
    editable: bool

    @property
    def pin(self) -> str:
        """What ``[plugins]`` of the boot file holds to accept these bytes and no others."""
        return f"blake3:{self.digest.hex()}"


def promises() -> tuple[Promise, ...]:
    """Return every kind that an installed distribution promises, in order of kind and distribution."""
    found = [
        Promise(entry.name, entry.dist.name, entry.dist.version, entry.value, entry)
        for entry in entry_points(group=GROUP)
        if entry.dist is not None
    ]
    return tuple(sorted(found, key=lambda promise: (promise.kind, promise.distribution, promise.target)))


def measure(promise: Promise) -> Measurement:
    """Return the digest over the files of a promise's distribution.

    Covers the files that ``RECORD`` lists inside the installation folder; of an editable installation, the
    files of the package folder. Compiled files, and those that an installer writes for itself, are left
    out, so one wheel has one digest everywhere.

    :raises PluginError: if a file cannot be read, or there is none.
    """
    editable = _is_editable(promise)
    files = dict(_package_files(promise) if editable else _recorded_files(promise))
    if not files:
        raise PluginError(f"{promise.where}: no file of it is on the disk; pip install --force-reinstall it")
    parts: list[bytes] = [promise.distribution.encode(), promise.version.encode()]
    for name in sorted(files):
        parts += [name.encode(), _file_digest(promise, files[name])]
    value = digest("compute-bridge/distribution/v1", *parts)
    return Measurement(promise.distribution, promise.version, value, len(files), editable)


def _distribution(promise: Promise) -> Distribution:
    found = promise.entry.dist
    if found is None:
        raise PluginError(f"{promise.where}: belongs to no distribution; pip install one that carries it")
    return found


def _is_editable(promise: Promise) -> bool:
    text = _distribution(promise).read_text("direct_url.json")
    if not text:
        return False
    try:
        return bool(json.loads(text).get("dir_info", {}).get("editable", False))
    except (ValueError, AttributeError) as error:
        raise PluginError(f"{promise.where}: direct_url.json is damaged; install it again") from error


def _recorded_files(promise: Promise) -> Iterator[tuple[str, Path]]:
    distribution = _distribution(promise)
    # Not Distribution.files: from Python 3.12 on that leaves out a file which is gone.
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    for name in (row[0] for row in rows if row):
        file = PurePosixPath(name)
        is_metadata = file.parent.name.endswith(".dist-info") and file.name in _INSTALLER_FILES
        # What lies outside is a script that pip wrote, with the path of this machine's interpreter in it.
        if ".." not in file.parts and file.suffix not in _UNMEASURED_SUFFIXES and not is_metadata:
            yield name, Path(str(distribution.locate_file(name)))


def _package_files(promise: Promise) -> Iterator[tuple[str, Path]]:
    try:
        package = promise.entry.module.partition(".")[0]
        spec = find_spec(package)  # of a top-level name, so it imports nothing
    except (AttributeError, ValueError, ImportError) as error:
        raise PluginError(f'{promise.where}: its target is not a module; write kind = "package.hooks"') from error
    if spec is None:
        return
    if not spec.submodule_search_locations and spec.origin:
        yield Path(spec.origin).name, Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        for path in Path(folder).rglob("*"):
            if path.is_file() and path.suffix not in _UNMEASURED_SUFFIXES:
                yield f"{package}/{path.relative_to(folder).as_posix()}", path


def _file_digest(promise: Promise, path: Path) -> bytes:
    try:
        return blake3(path.read_bytes()).digest()
    except OSError as error:
        raise PluginError(
            f"{promise.where}: {path}: {error.strerror}; pip install --force-reinstall {promise.distribution}"
        ) from error
