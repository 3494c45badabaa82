"""From ``requester.toml`` to an open requester or auditor, and from their errors to exit codes."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import click
from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.requester_store import FileRequesterStore
from compute_bridge.adapters.secrets import read_secret
from compute_bridge.cli.exits import Exit, leaves
from compute_bridge.cli.options import Decorator
from compute_bridge.cli.requester_file import RequesterFile, TrustSettings
from compute_bridge.host.audit import Auditor
from compute_bridge.host.audit_report import AuditError
from compute_bridge.host.card_checks import QuoteTrust, UntrustedError
from compute_bridge.host.market import Market
from compute_bridge.host.requester import NoLeaseError, Requester
from compute_bridge.model.coalition import Handshake
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.model.quote import INTEL_ANCHOR, QuotePolicy, TrustAnchor
from compute_bridge.ports.command import CommandContext
from compute_bridge.ports.errors import BootFileError, NetworkError
from compute_bridge.ports.requester_store import RequesterStore

T = TypeVar("T")

CONFIG_VARIABLE = "COMPUTE_BRIDGE_REQUESTER_CONFIG"
DEFAULT_CONFIG = "requester.toml"
SEED_BYTES = 32

requester_option: Decorator = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG),
    show_default=f"{CONFIG_VARIABLE}, or {DEFAULT_CONFIG}",
    help="The requester's file.",
)


@frozen
class Setup:
    """What ``requester.toml`` names, read and checked; nothing is opened yet."""

    context: CommandContext
    file: RequesterFile
    folder: Path
    handshake: Handshake
    policy: QuotePolicy

    @classmethod
    def read(cls, context: CommandContext, path: Path) -> "Setup":
        """Return what the file at ``path`` names.

        :raises BootFileError: naming every fault of the file, or of one that it names.
        """
        from compute_bridge.adapters.boot_inputs import read_handshake

        file: RequesterFile = context.load(path, RequesterFile)
        handshake = read_handshake(Path(file.coalition.handshake), file.coalition.fingerprint)
        return cls(context, file, path.absolute().parent, handshake, quote_policy(file.attestation))

    @property
    def store(self) -> RequesterStore:
        """Where requests are kept.

        :raises BootFileError: if the file does not say.
        """
        if self.file.store is None:
            raise BootFileError("store.dir: must be given; name a folder of yours, such as requests")
        return FileRequesterStore(Path(self.file.store.dir))

    def account(self) -> Ed25519PrivateKey:
        """Return the key of the account that pays.

        :raises BootFileError: if the file names none, or it holds no key.
        """
        if self.file.account is None:
            raise BootFileError("account.key: must be given; make one with 'compute-bridge request new-key'")
        ref = self.file.account.key
        try:
            raw = read_secret(ref, base_dir=self.folder)
        except BootFileError as error:
            raise BootFileError(f"account.key: {error}") from error
        try:
            seed = bytes.fromhex(raw.decode())
        except ValueError:
            seed = b""
        if len(seed) != SEED_BYTES:
            raise BootFileError(
                f"account.key {ref}: holds no key of {2 * SEED_BYTES} hex digits; "
                "make one with 'compute-bridge request new-key'"
            )
        return Ed25519PrivateKey.from_private_bytes(seed)

    @asynccontextmanager
    async def requester(self, store: RequesterStore, account: Ed25519PrivateKey) -> AsyncIterator[Requester]:
        """Open network and shuffle, and yield the requester."""
        context, network_table = self.context, self.file.network
        shuffle_table = {"kind": self.file.shuffle.kind, **self.file.shuffle.settings}
        async with (
            context.open_network({"kind": network_table.kind, **network_table.settings}, self.folder) as network,
            context.open_shuffle(shuffle_table, self.folder, network) as shuffle,
        ):
            yield Requester(
                network=network,
                shuffle=shuffle,
                handshake=self.handshake,
                verifier=context.quote_verifier(),
                policy=self.policy,
                account=account,
                store=store,
                clock=context.clock,
            )

    @asynccontextmanager
    async def auditor(self) -> AsyncIterator[Auditor]:
        """Open the network and yield the auditor."""
        table = self.file.network
        async with self.context.open_network({"kind": table.kind, **table.settings}, self.folder) as network:
            trust = QuoteTrust(self.context.quote_verifier(), self.policy, self.context.clock)
            yield Auditor(Market(network, self.handshake), trust)


def quote_policy(settings: TrustSettings) -> QuotePolicy:
    """Return the policy that a file's ``[attestation]`` table states, its anchors read from disk.

    :raises BootFileError: if an anchor cannot be read or is none.
    """
    named = tuple(_anchor(one.name, Path(one.file), development=one.development) for one in settings.anchors)
    try:
        return QuotePolicy(
            anchors=(INTEL_ANCHOR, *named),
            allow_development=settings.allows_development,
            allowed_tcb_statuses=settings.tcb_statuses,
            rejected_advisories=settings.rejected_advisories,
            allowed_measurements=settings.measurements or None,
        )
    except ValueError as error:
        raise BootFileError(f"attestation: {error}; correct it") from error


def _anchor(name: str, path: Path, *, development: bool) -> TrustAnchor:
    try:
        return TrustAnchor(name, path.read_bytes(), development)
    except (OSError, ValueError) as error:
        raise BootFileError(
            f"attestation.anchors {name}: {path}: {error}; put the root's DER certificate there"
        ) from error


# --- running ------------------------------------------------------------------------------------

# More telling than the code of the class above them; the first that fits decides.
_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (NoLeaseError, Exit.NO_CAPACITY),
    (UntrustedError, Exit.UNVERIFIED),
    (AuditError, Exit.UNVERIFIED),
)


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` on an event loop and return its result.

    :raises click.exceptions.Exit: with a code of its own for an error that a script should tell apart.
    """
    try:
        return anyio.run(work)
    except (ComputeBridgeError, BaseExceptionGroup) as error:
        for leaf in leaves(error):
            for cls, code in _CODES:
                if isinstance(leaf, cls):
                    sys.stderr.write(f"compute-bridge: {leaf}\n")
                    raise click.exceptions.Exit(int(code)) from error
        raise


async def within(seconds: float, work: Callable[[], Awaitable[T]], waiting_for: str) -> T:
    """Return what ``work`` returns.

    :raises NetworkError: if that takes longer, saying what was waited for.
    """
    with anyio.move_on_after(seconds):
        return await work()
    raise NetworkError(f"no {waiting_for} within {seconds:g} s; nothing is lost, ask again: is the market running?")
