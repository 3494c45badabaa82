"""From ``market.toml`` to the market that it describes: file, keys, rule, anchors, handshake."""

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from compute_bridge.api import CommandContext
from compute_bridge_market.config import MarketFile
from compute_bridge_market.module import (
    Module,
    ModuleSecrets,
    make_module,
    read_anchors,
    read_seed,
    require_same_handshake,
    write_handshake,
)


@frozen
class OpenedFile:
    """A market's file, where it lies, and the module it describes."""

    path: Path
    file: MarketFile
    module: Module

    @property
    def handshake_path(self) -> Path:
        """Where the page for participants lies."""
        return Path(self.file.coalition.handshake)

    @property
    def book_path(self) -> Path:
        """Where the books lie."""
        return Path(self.file.ledger.file)


def open_file(context: CommandContext, path: Path) -> OpenedFile:
    """Return the market that the file at ``path`` describes; nothing is opened or written.

    :raises BootError: if the file, a key, the rule or an anchor is not what it should be.
    """
    path = path.absolute()
    file: MarketFile = context.load(path, MarketFile)
    kind = context.kind("clearing_rules", file.clearing.rule)
    rule = kind.open(context.structure(file.clearing.settings, kind.config, "clearing"))
    read = _secret_reader(context, path.parent)
    secrets = ModuleSecrets.from_seeds(
        read_seed("keys.signing", read(file.keys.signing)), read_seed("keys.sealing", read(file.keys.sealing))
    )
    return OpenedFile(path, file, make_module(file, secrets, rule, read_anchors(file.attestation)))


def _secret_reader(context: CommandContext, folder: Path) -> Callable[[str], bytes]:
    def read(reference: str) -> bytes:
        scheme, _, rest = reference.partition(":")
        return context.read_secret(f"file:{folder / rest}" if scheme == "file" else reference)

    return read


def settle_handshake(opened: OpenedFile) -> bool:
    """Write the handshake file if there is none; return whether it was written.

    :raises BootError: if there is one and it says otherwise.
    """
    path = opened.handshake_path
    if path.exists():
        require_same_handshake(path, opened.module.handshake)
        return False
    write_handshake(path, opened.module.handshake)
    return True
