"""What a command is called with: everything from the outside that it may need."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from attrs import field, frozen

from compute_bridge.ports.attestation import QuoteVerifier
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.network import Network
from compute_bridge.ports.shuffle import Shuffle


@frozen
class CommandContext:
    """Doors to the outside for a plugin's command, so that it imports no adapter.

    ``load(path, cls)`` reads a TOML file strictly into an attrs class, every fault at once;
    ``structure(table, cls, key)`` does the same for a table already read, ``key`` being where it stood.
    ``kind(group, name)`` returns an installed kind, ``group`` being the hook's noun
    (``clearing_rules``). ``open_network(table, base_dir)`` opens the network that a ``[network]`` table
    names, ``open_shuffle(table, base_dir, network)`` likewise. ``say`` prints one line.
    """

    arguments: Sequence[str]
    clock: Clock
    load: Callable[[Path, type[Any]], Any]
    kind: Callable[[str, str], Any]
    structure: Callable[[dict[str, Any], type[Any], str], Any]
    open_network: Callable[[dict[str, Any], Path], AbstractAsyncContextManager[Network]]
    open_shuffle: Callable[[dict[str, Any], Path, Network], AbstractAsyncContextManager[Shuffle]]
    quote_verifier: Callable[[], QuoteVerifier]
    read_secret: Callable[[str], bytes] = field(repr=False)
    say: Callable[[str], None]


Command = Callable[[CommandContext], int]
"""A command: takes the context, returns the exit code. Its entry point in the group
``compute_bridge.commands`` names it."""
