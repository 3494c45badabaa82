"""The roles of the demo: starts each as its own process and waits until it can be seen to play."""

import json
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from attrs import define, field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.api import CommandContext, OpenContext
from compute_bridge.model.card import ProviderCard
from compute_bridge.model.coalition import Handshake
from compute_bridge.model.ids import ProviderId, provider_id, short
from compute_bridge.ports.clock import poll
from compute_bridge.wire.signing import Domain, public_key
from compute_bridge_demo import scene
from compute_bridge_demo.child import Finished, Theatre, last_lines
from compute_bridge_demo.errors import DemoError
from compute_bridge_demo.market_view import MarketView, read_handshake
from compute_bridge_demo.scene import Rack

SSHD = Path("/usr/sbin/sshd")
# Where an sshd that root runs wants to find an empty directory; it is not ours to make.
SSHD_ROOT_DIRECTORY = Path("/run/sshd")
PATIENCE_S = 60
LOOK_EVERY_MS = 50


@frozen
class SshPrograms:
    """Which SSH server and client the demo uses; an empty path means the one in Python."""

    server: str
    client: str


def find_ssh_programs(*, builtin: bool) -> SshPrograms:
    """Return OpenSSH's where this user can run them, unless ``builtin`` forbids it."""
    is_usable = os.access(SSHD, os.X_OK) and (os.geteuid() != 0 or SSHD_ROOT_DIRECTORY.is_dir())
    server = str(SSHD) if is_usable and not builtin else ""
    return SshPrograms(server, "" if builtin else shutil.which("ssh") or "")


def our(*arguments: str | Path) -> list[str]:
    """Return the command line of one of this project's own commands."""
    return [sys.executable, "-m", "compute_bridge", *map(str, arguments)]


def parsed(name: str, finished: Finished) -> Any:
    """Return the JSON that a command printed.

    :raises DemoError: if it printed none.
    """
    try:
        return json.loads(finished.output)
    except ValueError as error:
        raise DemoError(f"{name} printed no JSON but {finished.output[:200]!r}") from error


@define
class Cast:
    """The running roles. ``watchers`` end everything when one of them ends too early."""

    theatre: Theatre
    context: CommandContext
    programs: SshPrograms
    watchers: TaskGroup
    tell: Callable[[str], None]
    account_seed: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)
    ssh_seed: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)
    providers: dict[ProviderId, Rack] = field(factory=dict, init=False)

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.theatre.folder

    # --- rack hosts -----------------------------------------------------------------------------

    async def start_rack_host(self, rack: Rack) -> None:
        """Start a rack host's SSH server and wait until it greets."""
        settings = await anyio.to_thread.run_sync(scene.write_rack_host, self.folder, rack)
        server = self.programs.server or await self._guest_server()
        await self._start(rack.host, [server, "-D", "-e", "-f", str(settings)])
        async with self.patience(f"{rack.host} to greet"):
            greeting = await poll(self.context.clock, LOOK_EVERY_MS, lambda: _greeting(rack.port))
        self.tell(f"{rack.host} answers on {scene.LOOPBACK}:{rack.port} as {greeting}")

    # --- market ---------------------------------------------------------------------------------

    async def make_attester(self) -> None:
        """Make the development root that both bridges' quotes stand on."""
        kind = self.context.kind("quote_sources", "software")
        table = {"directory": str(self.folder / "attester"), "root": scene.ROOT}
        config = self.context.structure(table, kind.config, "attestation")
        opened = OpenContext(self.context.clock, self.context.read_secret, self.folder)
        async with kind.open(opened, config) as source:
            await source.quote(bytes(64))

    async def found_market(self) -> Handshake:
        """Found the market in its own folder and return the handshake that it hands out."""
        account = public_key(Ed25519PrivateKey.from_private_bytes(self.account_seed)).hex()
        terms = {
            "--name": (scene.COALITION,),
            "--currency": (scene.CURRENCY,),
            "--cadence-ms": (scene.CADENCE_MS,),
            "--requester-bps": (scene.REQUESTER_FEE_BPS,),
            "--provider-bps": (scene.PROVIDER_FEE_BPS,),
            "--development-root": (scene.ROOT, self.folder / "attester" / f"{scene.ROOT}.root.der"),
            "--account": ("requester", account, scene.CREDIT_MICROS),
        }
        options = [str(word) for name, values in terms.items() for word in (name, *values)]
        await self.succeed("market", "market", "init", self.folder / "market", *options)
        return read_handshake(await anyio.Path(self.folder / "market" / "handshake.cbor").read_bytes())

    async def start_market(self) -> None:
        """Start the market; its almanac tells when it is open."""
        await self._start("market", our("market", "serve", "--config", self.market_file))

    @property
    def market_file(self) -> Path:
        """The market's file."""
        return self.folder / "market" / "market.toml"

    async def await_market(self, view: MarketView) -> None:
        """Return once the almanac ticks."""
        async with self.patience("the market's first tick"):
            tick = await view.first_tick()
        self.tell(f"the market of {scene.COALITION} is open at tick {tick.tick}")

    # --- bridges --------------------------------------------------------------------------------

    async def start_bridge(self, rack: Rack, domain: Domain) -> None:
        """Start a bridge; its card in the roster tells when it sells."""
        write = partial(scene.write_bridge, fingerprint=domain.coalition.hex(), guest_sshd=await self._guest_server())
        file, root_key = await anyio.to_thread.run_sync(write, self.folder, rack)
        self.providers[provider_id(domain.coalition, root_key)] = rack
        await self._start(rack.bridge, our("run", "--config", file))

    async def await_bridges(self, view: MarketView) -> None:
        """Return once every bridge that was started has a card with rates in the roster."""
        missing = set(self.providers)
        async with self.patience("both bridges' cards"), aclosing(view.cards()) as cards:
            async for card in cards:
                # A card may be admitted before the offers have been seen that its rates follow from.
                if card.rates.rows and card.provider_id in missing:
                    missing.discard(card.provider_id)
                    self.tell(f"{self.name(card.provider_id)} sells in {_shown(card)}")
                if not missing:
                    return

    def name(self, provider: ProviderId) -> str:
        """Return what a provider's bridge is called here."""
        return self.providers[provider].bridge if provider in self.providers else short(provider)

    def name_of(self, provider_hex: str) -> str:
        """Return the same for a provider id in hex."""
        return self.name(ProviderId(bytes.fromhex(provider_hex)))

    # --- requester ------------------------------------------------------------------------------

    async def write_requester(self, domain: Domain) -> Path:
        """Write the requester's files and return its TOML."""
        write = partial(scene.write_requester, fingerprint=domain.coalition.hex())
        return await anyio.to_thread.run_sync(write, self.folder, self.account_seed, self.ssh_seed)

    async def run(self, name: str, *arguments: str | Path) -> Finished:
        """Run one of our own commands to its end, as the process ``name``.

        :raises DemoError: if it takes too long.
        """
        async with self.patience(f"'compute-bridge {' '.join(map(str, arguments[:2]))}'"):
            return await self.theatre.run(name, our(*arguments))

    async def succeed(self, name: str, *arguments: str | Path) -> Finished:
        """Run one of our own commands to its end, as the process ``name``.

        :raises DemoError: if it fails.
        """
        finished = await self.run(name, *arguments)
        if finished.status != 0:
            raise DemoError(
                f"'compute-bridge {' '.join(map(str, arguments))}' ended with status {finished.status}: "
                f"{finished.output.strip()[:500]}\n{await last_lines(self.folder / f'{name}.log')}"
            )
        return finished

    async def ask(self, name: str, *arguments: str | Path) -> Any:
        """Return the JSON that one of our own commands prints.

        :raises DemoError: if it fails.
        """
        return parsed(name, await self.succeed(name, *arguments, "--json"))

    # --- parts ----------------------------------------------------------------------------------

    async def _guest_server(self) -> str:
        """Return the command of the SSH server in Python where there is no other, else nothing."""
        if self.programs.server:
            return ""
        return str(await anyio.to_thread.run_sync(scene.write_guest_sshd, self.folder, sys.executable))

    async def _start(self, name: str, command: Sequence[str]) -> None:
        child = await self.theatre.start(name, command)
        self.watchers.start_soon(child.must_live)

    @asynccontextmanager
    async def patience(self, what: str) -> AsyncIterator[None]:
        """Turn a wait that takes too long into an error that says for what, and what the roles said last."""
        try:
            with anyio.fail_after(PATIENCE_S):
                yield
        except TimeoutError as error:
            words = [f"last words of {child.name}:\n{await child.last_words()}" for child in self.theatre.children]
            raise DemoError("\n".join([f"waited {PATIENCE_S} s for {what}", *words])) from error


async def _greeting(port: int) -> str | None:
    """Return what an SSH server says first, or None while none listens."""
    try:
        async with await anyio.connect_tcp(scene.LOOPBACK, port) as stream:
            greeting = await stream.receive(256)
    except (OSError, anyio.EndOfStream):
        return None
    return greeting.decode(errors="replace").strip() or None


def _shown(card: ProviderCard) -> str:
    regions = ", ".join(sorted({row.region for row in card.rates.rows}))
    vcpu = max(row.units.vcpu for row in card.rates.rows)
    mark = ", on a development attester" if card.development_attestation else ""
    return f"{regions} at {vcpu} nanos a vCPU and hour{mark}"
