"""The context that every command is called with: doors to the outside, each opened when it is used."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from compute_bridge import builtin
from compute_bridge.adapters.boot_file import load_table, structure_table
from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.secrets import read_secret
from compute_bridge.host.plugins import Plugins, load
from compute_bridge.ports.attestation import QuoteVerifier
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.command import CommandContext
from compute_bridge.ports.errors import BootFileError, Fault
from compute_bridge.ports.hookspecs import OpenContext
from compute_bridge.ports.network import Network
from compute_bridge.ports.shuffle import Shuffle


def make_command_context(arguments: Sequence[str]) -> CommandContext:
    """Return what a command is called with; nothing is opened and no plugin imported yet."""
    clock = SystemClock()
    return CommandContext(
        arguments=tuple(arguments),
        clock=clock,
        load=load_table,
        kind=load_kind,
        structure=structure_table,
        open_network=partial(_open_network, clock),
        open_shuffle=partial(_open_shuffle, clock),
        quote_verifier=_quote_verifier,
        read_secret=read_secret,
        say=say,
    )


def say(line: str) -> None:
    """Print one line at once, so that a reader sees progress through a pipe too."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def load_plugins(
    wanted: Sequence[tuple[str, str]],
    *,
    pins: Mapping[str, str] | None = None,
    named_at: Mapping[tuple[str, str], str] | None = None,
) -> Plugins:
    """Return the ``wanted`` kinds of this environment, the built-in ones among them.

    ``named_at`` says for messages where a file names a kind.

    :raises PluginError: if one is missing, doubled, broken or not as pinned.
    """
    return load(wanted, builtins=(builtin,), pins=pins, named_at=named_at)


def load_kind(group: str, name: str) -> Any:
    """Return one installed kind.

    :raises PluginError: if it is missing, doubled or broken.
    """
    return load_plugins([(group, name)]).kind(group, name)


@asynccontextmanager
async def _open_network(clock: Clock, table: dict[str, Any], base_dir: Path) -> AsyncIterator[Network]:
    # In a thread: metadata and modules are read from the disk.
    kind, config = await anyio.to_thread.run_sync(_choice, "networks", "network", table, base_dir)
    async with kind.open(_open_context(clock, base_dir), config) as network:
        yield network


@asynccontextmanager
async def _open_shuffle(
    clock: Clock, table: dict[str, Any], base_dir: Path, network: Network
) -> AsyncIterator[Shuffle]:
    kind, config = await anyio.to_thread.run_sync(_choice, "shuffles", "shuffle", table, base_dir)
    async with kind.open(_open_context(clock, base_dir), config, network) as shuffle:
        yield shuffle


def _open_context(clock: Clock, base_dir: Path) -> OpenContext:
    return OpenContext(clock, partial(read_secret, base_dir=base_dir), base_dir)


def _choice(group: str, key: str, table: dict[str, Any], base_dir: Path) -> tuple[Any, Any]:
    """Return the kind that a table names by its ``kind``, and the table's other keys as its config."""
    word = table.get("kind")
    if not isinstance(word, str):
        fault = Fault(f"{key}.kind", "must be given, text", "nothing" if word is None else "no text", "name a kind")
        raise BootFileError(str(fault), faults=(fault,))
    kind = load_plugins([(group, word)], named_at={(group, word): f"{key}.kind"}).kind(group, word)
    rest = {name: value for name, value in table.items() if name != "kind"}
    return kind, structure_table(rest, kind.config, key, folder=base_dir)


def _quote_verifier() -> QuoteVerifier:
    from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier

    return DcapQuoteVerifier()
