"""Flags and environment over the boot file: which key each one sets, and which set none."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import attrs
from attrs import field, frozen

from compute_bridge.adapters.toml_scalars import Given
from compute_bridge.adapters.toml_tables import fields_of, key_of, takes_rest
from compute_bridge.model.boot import BootFile
from compute_bridge.ports.errors import Fault

PREFIX: Final = "COMPUTE_BRIDGE_"
#: Variables with our prefix that set no key of the boot file, and what they are for.
RESERVED: Final = {
    "COMPUTE_BRIDGE_CONFIG": "the boot file, where no --config names one",
    "COMPUTE_BRIDGE_FIXTURES": "where the tests find recorded quotes",
    "COMPUTE_BRIDGE_REQUIRE_COMPONENTS": "1 makes a missing component of the machine fail a test",
    "COMPUTE_BRIDGE_TRACE": "1 prints hook calls and the traceback of an error",
}

_NAME = re.compile(rf"{PREFIX}([A-Z0-9]+(?:_[A-Z0-9]+)*)((?:__[A-Z0-9]+(?:_[A-Z0-9]+)*)+)")


@frozen
class Override:
    """One key given outside of the file: its path, its text, and which flag or variable gave it."""

    path: tuple[str, ...]
    text: str = field(repr=False)
    origin: str

    @property
    def key(self) -> str:
        """The key path as messages spell it."""
        return ".".join(self.path)


def variable_of(key: str) -> str:
    """Return the environment variable that sets ``key``: ``COMPUTE_BRIDGE_NETWORK__PATH``."""
    return PREFIX + key.replace(".", "__").upper()


def sections() -> "dict[str, attrs.Attribute[Any]]":
    """Return the tables of the boot file that stand once, whose single values can be overridden."""
    return {key_of(found): found for found in fields_of(BootFile) if found.type and attrs.has(found.type)}


def from_environment(environ: Mapping[str, str], *, secrets: set[str]) -> tuple[list[Override], list[Fault]]:
    """Return what the environment sets, and a fault for each variable of ours that sets nothing.

    ``secrets`` names the variables that the boot file refers to by ``env:NAME``.
    """
    overrides: list[Override] = []
    faults: list[Fault] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in RESERVED or name in secrets:
            continue
        path = _path_of(name)
        if path is None:
            faults.append(_unknown_variable(name))
        else:
            overrides.append(Override(path, environ[name], f"environment {name}"))
    return overrides, faults


def from_flags(flags: Mapping[str, str]) -> tuple[list[Override], list[Fault]]:
    """Return what ``--set KEY=VALUE`` sets, and a fault for each key that cannot be set."""
    overrides: list[Override] = []
    faults: list[Fault] = []
    for key, text in flags.items():
        path = tuple(key.split("."))
        if len(path) < 2 or path[0] not in sections():
            faults.append(_unknown_flag(key))
        else:
            overrides.append(Override(path, text, f"flag --set {key}"))
    return overrides, faults


def apply(table: dict[str, Any], overrides: list[Override]) -> dict[str, str]:
    """Set every override in ``table`` and return the origin of each key that was set.

    A later override of one key wins. Where the file has something other than a table on the way, the
    file's own fault is left to be found.
    """
    origins: dict[str, str] = {}
    for override in overrides:
        inner: Any = table
        for word in override.path[:-1]:
            inner = inner.setdefault(word, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[override.path[-1]] = Given(override.text)
            origins[override.key] = override.origin
    return origins


def known_keys() -> Iterator[str]:
    """Yield the path of every key of the host's own that a flag or a variable may set."""
    for section, attribute in sections().items():
        for inner in fields_of(attribute.type or object):
            if not takes_rest(inner) and not str(inner.type).startswith(("tuple", "dict")):
                yield f"{section}.{key_of(inner)}"


def _path_of(name: str) -> tuple[str, ...] | None:
    if _NAME.fullmatch(name) is None:
        return None
    path = tuple(name.removeprefix(PREFIX).lower().split("__"))
    return path if path[0] in sections() else None


def _unknown_variable(name: str) -> Fault:
    word = name.removeprefix(PREFIX)
    section, _, rest = word.partition("__")
    nearest = [variable_of(f"{found}.{rest}") for found in get_close_matches(section.lower(), sections(), n=1) if rest]
    known = {each.removeprefix(PREFIX): each for each in [*RESERVED, *map(variable_of, known_keys())]}
    close = nearest or [known[found] for found in get_close_matches(word, known, n=1)]
    mend = f"did you mean {close[0]}?" if close else "unset it"
    return Fault(name, f"no key of the boot file has this variable: {PREFIX}SECTION__KEY", "text", mend)


def _unknown_flag(key: str) -> Fault:
    close = get_close_matches(key, list(known_keys()), n=1)
    mend = f"did you mean --set {close[0]}=...?" if close else "write --set section.key=value"
    return Fault(f"--set {key}", "no key of the boot file that a flag can set", "text", mend)
