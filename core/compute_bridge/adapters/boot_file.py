"""The boot file and other TOML files of ours: read strictly, every fault told at once."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from enum import Enum
from os import environ as process_environ
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import field, frozen

from compute_bridge.adapters import boot_overrides
from compute_bridge.adapters.secrets import read_secret
from compute_bridge.adapters.strict_toml import structure
from compute_bridge.adapters.toml_scalars import FaultyError, Given
from compute_bridge.adapters.toml_tables import fields_of, joined, key_of
from compute_bridge.model.boot import BootFile, Choice, SecretRef
from compute_bridge.model.ids import Fingerprint, digest
from compute_bridge.ports.errors import BootFileError, Fault, PluginError
from compute_bridge.wire import codec

#: No file of ours comes near this; a larger one is another file.
MAX_FILE_BYTES: Final = 2**20


@frozen
class LoadedBoot:
    """A boot file with flags and environment applied, and where each of its values came from.

    ``origins`` maps the path of each key that was given to ``flag ...``, ``environment ...`` or the file's
    name. ``as_written`` is ``boot`` with its paths as the operator wrote them.
    """

    boot: BootFile
    path: Path
    origins: Mapping[str, str]
    as_written: BootFile = field(repr=False)

    @property
    def folder(self) -> Path:
        """The folder from which relative paths are taken."""
        return self.path.parent

    @property
    def named_at(self) -> dict[tuple[str, str], str]:
        """File and key path at which each kind is first named, by group and word."""
        choices = reversed(self.boot.choices)
        return {(choice.group, choice.kind): f"{self.path}: {choice.named_at}" for choice in choices}

    def origin_of(self, key: str) -> str:
        """Return where the value at ``key`` came from; ``default`` where nobody gave it."""
        return self.origins.get(key, "default")

    def configs(self, class_of: Callable[[Choice], type[Any]]) -> dict[str, Any]:
        """Return the config of every kind that the file names, by the key of its table.

        :raises BootFileError: naming every fault of every table at once.
        """
        faults: list[Fault] = []
        configs: dict[str, Any] = {}
        for choice in self.boot.choices:
            try:
                configs[choice.key] = structure(choice.settings, class_of(choice), key=choice.key, folder=self.folder)
            except FaultyError as error:
                faults += error.faults
            except TypeError as error:
                raise PluginError(f"kind {choice.kind!r} of {choice.group}: its config class: {error}") from error
        if faults:
            raise _error(self.path, _with_origins(faults, self.origins, self.path.name))
        return configs


def load_boot(
    path: Path, *, flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> LoadedBoot:
    """Return the boot file at ``path`` with ``flags`` (key path to text) and environment over it.

    Precedence: flag, then ``COMPUTE_BRIDGE_*`` variable, then file, then default.

    :raises BootFileError: naming every fault at once.
    """
    path = Path(path).absolute()
    table = read_toml(path)
    origins = {key: path.name for key, _ in _leaves("", table)}
    faults = _override(table, origins, flags or {}, process_environ if environ is None else environ)
    values = []
    for folder in (path.parent, None):
        try:
            values.append(structure(table, BootFile, key="", folder=folder))
        except FaultyError as error:
            faults += error.faults
            break
    if faults:
        raise _error(path, _with_origins(faults, origins, path.name))
    return LoadedBoot(values[0], path, origins, values[1])


def load_table(path: Path, cls: type[Any]) -> Any:
    """Return the TOML file at ``path`` as a ``cls``; relative paths are taken from its folder.

    :raises BootFileError: naming every fault at once.
    """
    path = Path(path).absolute()
    table = read_toml(path)
    try:
        return structure(table, cls, key="", folder=path.parent)
    except FaultyError as error:
        raise _error(path, list(error.faults)) from None


def structure_table(table: dict[str, Any], cls: type[Any], key: str, *, folder: Path | None = None) -> Any:
    """Return a table that was already read as a ``cls``; ``key`` is where it stood.

    Relative paths are taken from ``folder``, or the working folder.

    :raises BootFileError: naming every fault at once.
    """
    try:
        return structure(table, cls, key=key, folder=folder or Path.cwd())
    except FaultyError as error:
        raise _error(None, list(error.faults)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the plain tables of the TOML file at ``path``.

    :raises BootFileError: if it is not there, too large, or not TOML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BootFileError(f"{path}: {error.strerror}; name a file that can be read by --config") from error
    if len(raw) > MAX_FILE_BYTES:
        raise BootFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes, so no file of ours; name another")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise BootFileError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise BootFileError(f"{path}: not TOML: {error}; mend that line") from error
    except RecursionError:
        raise BootFileError(f"{path}: not TOML that we read: nested too deep; flatten it") from None


def resolved_digest(loaded: LoadedBoot, *, measured: Mapping[str, bytes] | None = None) -> Fingerprint:
    """Return the fingerprint of the resolved configuration: file, environment, flags and defaults.

    Secrets stand in it as their references and paths as they were written, so it says nothing secret and
    does not depend on the folder. ``measured`` adds the digest of each plugin's distribution.
    """
    plain = {"boot": _plain(loaded.as_written), "measured": dict(sorted((measured or {}).items()))}
    return Fingerprint(digest("compute-bridge/boot-config/v1", codec.dump(plain)))


def secret_refs(value: object, *, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield key path and reference of every secret that a config names; one that is left out is none."""
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from secret_refs(item, key=f"{key}[{index}]")
    elif attrs.has(type(value)):
        for attribute in fields_of(type(value)):
            inner = getattr(value, attribute.name)
            path = joined(key, key_of(attribute))
            if isinstance(inner, str) and attribute.type in (SecretRef, SecretRef | None):
                if inner:
                    yield path, inner
            else:
                yield from secret_refs(inner, key=path)


def require_secrets(loaded: LoadedBoot, configs: Mapping[str, Any]) -> int:
    """Read every secret that the boot file refers to, forget it, and return how many there are.

    :raises BootFileError: naming every one that cannot be read.
    """
    refs = list(_every_ref(loaded, configs))
    faults = []
    for _, ref in refs:
        try:
            read_named_secret(loaded, configs, ref)
        except BootFileError as error:
            faults.append(str(error))
    if faults:
        raise BootFileError("\n".join(dict.fromkeys(faults)))
    return len(refs)


def read_named_secret(loaded: LoadedBoot, configs: Mapping[str, Any], ref: str) -> bytes:
    """Return the secret that ``ref`` points at.

    :raises BootFileError: naming the boot file and every key that holds ``ref``, if nothing usable lies there.
    """
    try:
        return read_secret(ref, base_dir=loaded.folder)
    except BootFileError as error:
        keys = ", ".join(key for key, one in _every_ref(loaded, configs) if one == ref)
        raise BootFileError(f"{loaded.path}: {keys}: {error}" if keys else str(error)) from error


# --- parts ----------------------------------------------------------------------------------------


def _every_ref(loaded: LoadedBoot, configs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from secret_refs(loaded.boot)
    for key, config in configs.items():
        yield from secret_refs(config, key=key)


def _error(path: Path | None, faults: list[Fault]) -> BootFileError:
    count = f"{len(faults)} fault" + ("" if len(faults) == 1 else "s")
    lines = [attrs.evolve(fault, key=fault.key or "the whole file") for fault in faults]
    head = f"{path}: {count}" if path else count
    return BootFileError("\n  ".join([head, *map(str, lines)]), faults=tuple(lines))


def _with_origins(faults: list[Fault], origins: Mapping[str, str], name: str) -> list[Fault]:
    """Return the faults, each that came from a flag or the environment saying so."""
    return [
        attrs.evolve(fault, got=f"{fault.got} from {origins[fault.key]}")
        if origins.get(fault.key, name) != name
        else fault
        for fault in faults
    ]


def _override(
    table: dict[str, Any], origins: dict[str, str], flags: Mapping[str, str], environ: Mapping[str, str]
) -> list[Fault]:
    named = {*map(str, flags.values()), *environ.values(), *(value for _, value in _leaves("", table))}
    secrets = {str(value).removeprefix("env:") for value in named if str(value).startswith("env:")}
    by_variable, unknown_variables = boot_overrides.from_environment(environ, secrets=secrets)
    by_flag, unknown_flags = boot_overrides.from_flags(flags)
    origins |= boot_overrides.apply(table, [*by_variable, *by_flag])
    return unknown_flags + unknown_variables


def _leaves(key: str, value: object) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            for word, inner in value.items():
                yield from _leaves(joined(key, word), inner)
        case list():
            for index, inner in enumerate(value):
                yield from _leaves(f"{key}[{index}]", inner)
        case _:
            yield key, value


def _plain(value: object) -> Any:
    """Return ``value`` as data with one encoding; a float or a date cannot be taken for a text."""
    if attrs.has(type(value)):
        return {attribute.name: _plain(getattr(value, attribute.name)) for attribute in fields_of(type(value))}
    match value:
        case Enum():
            return value.value
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case Given():
            return _untyped(value)
        case float() | date():
            return {type(value).__name__: str(value)}
        case _:
            return value


def _untyped(text: Given) -> Any:
    """Return what a file would hold for ``text``, as far as its looks tell, so that both give one digest."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?[0-9]{1,19}", text):
        return int(text)
    return _plain(float(text)) if re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,15}", text) else str(text)
