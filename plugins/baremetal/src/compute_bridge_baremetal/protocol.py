"""The agent's language: lines of ``key value``, ended by a dot, so that what was cut short is never read."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources

from attrs import frozen

_MARKER = "compute-bridge-agent 1"
_END = "."
_KEY = re.compile(r"[a-z_]+")


class CutShortError(Exception):
    """A reply ended before its end."""


class RefusedError(Exception):
    """The agent refused: ``code`` is its stable word, the text its reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@frozen
class Script:
    """The agent as sent to a rack host, named by its own bytes."""

    text: bytes
    digest: str

    @property
    def name(self) -> str:
        """The file's name; other bytes have another name, so two versions never meet."""
        return f"agent-{self.digest[:16]}.sh"


@cache
def script() -> Script:
    """Return the agent, put together from its parts in order."""
    folder = resources.files("compute_bridge_baremetal").joinpath("agent")
    parts = sorted((part for part in folder.iterdir() if part.name.endswith(".sh")), key=lambda part: part.name)
    text = b"".join(part.read_bytes() for part in parts)
    return Script(text, hashlib.sha256(text).hexdigest())


# --- commands ---------------------------------------------------------------------------------


def call_command(folder: str, operation: str) -> str:
    """Return the command line that runs one operation on the state in ``folder``, with a clean environment."""
    search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"exec env -i PATH={search} LC_ALL=C HOME={folder} sh {folder}/{script().name} {folder} {operation}"


def install_command(folder: str) -> str:
    """Return the command line that stores the agent from stdin in ``folder``, whole or not at all."""
    agent = script()
    steps = (
        "umask 077",
        f"mkdir -p {folder}",
        f"cat >{folder}/{agent.name}.$$",
        f"echo {agent.digest} {folder}/{agent.name}.$$ | sha256sum -c >/dev/null",
        f"mv -f {folder}/{agent.name}.$$ {folder}/{agent.name}",
    )
    # In single quotes, since the login shell need not be one of ours.
    return f"exec sh -c '{' && '.join(steps)}'"


# --- requests and replies -----------------------------------------------------------------------


def encode(values: Mapping[str, str | int], *, watch: tuple[str, ...] = ()) -> bytes:
    """Return a request.

    :raises ValueError: if a value does not fit on a line.
    """
    lines = [*values.items(), *(("watch", token) for token in watch)]
    for key, value in lines:
        if not _KEY.fullmatch(key) or not str(value).isprintable() or not str(value).isascii():
            raise ValueError(f"the value of {key} does not fit on a line")
    return "".join(f"{key} {value}\n" for key, value in [*lines]).encode() + f"{_END}\n".encode()


def folded(text: str) -> str:
    """Return text of several lines as one value."""
    return base64.b64encode(text.encode()).decode()


def is_reply(output: bytes) -> bool:
    """Return whether the agent answered at all; before its mark a login shell may say anything."""
    return _MARKER.encode() in output.splitlines()


def decode(output: bytes) -> tuple[tuple[str, str], ...]:
    """Return the lines of a reply.

    :raises CutShortError: if the reply has no mark or no end.
    :raises RefusedError: if the agent refused.
    """
    lines = output.decode("utf-8", "replace").splitlines()
    if _MARKER not in lines or lines[-1] != _END:
        raise CutShortError("the reply was cut short")
    body = lines[lines.index(_MARKER) + 1 : -1]
    pairs = tuple((key, value) for key, _, value in (line.partition(" ") for line in body))
    for key, value in pairs:
        if key == "error":
            code, _, reason = value.partition(" ")
            raise RefusedError(code, reason)
    return pairs


def sections(pairs: tuple[tuple[str, str], ...], *heads: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the head's key and value and the lines of each section; ``""`` heads what comes before the first."""
    head, name, lines = "", "", dict[str, str]()
    for key, value in pairs:
        if key in heads:
            yield head, name, lines
            head, name, lines = key, value, {}
        else:
            lines[key] = value
    yield head, name, lines
