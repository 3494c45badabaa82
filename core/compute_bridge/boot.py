"""The one place that names concrete classes: a boot file in, a running bridge out.

Each step of a boot fails loudly, before the next one, with its number, its name and the mend.
"""

import logging
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from attrs import asdict, define, field

from compute_bridge import __version__, builtin
from compute_bridge.adapters.boot_file import LoadedBoot, load_boot, read_named_secret, resolved_digest
from compute_bridge.adapters.boot_inputs import prepare_folder, read_handshake, read_seed
from compute_bridge.adapters.catalog_file import CATALOG_FOLDER, FileCatalogStore
from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.leash import Leash
from compute_bridge.adapters.sqlite_journal import JOURNAL, open_sqlite_journal
from compute_bridge.adapters.status_socket import SOCKET, NotRunningError, ask, serve_status
from compute_bridge.host import plugins as plugin_host
from compute_bridge.host.boots import boot_keys, known_boots
from compute_bridge.host.bridge import Bridge, BridgeParts
from compute_bridge.host.catalogs import Catalogs
from compute_bridge.host.costs import CostBook, CostLimits
from compute_bridge.host.explain import explain as tell
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.identity import BootSecrets, Identity
from compute_bridge.host.journal_check import require_current
from compute_bridge.host.ledger import Ledger
from compute_bridge.host.market import Market, market_domain
from compute_bridge.host.outbox import send
from compute_bridge.host.plugin_call import PluginResultError
from compute_bridge.host.plugins import Plugins
from compute_bridge.host.rates import RateBook
from compute_bridge.host.routing import Router
from compute_bridge.host.status import answer
from compute_bridge.model import channels
from compute_bridge.model.coalition import Handshake
from compute_bridge.model.ids import Fingerprint, digest
from compute_bridge.model.settlement import Claim
from compute_bridge.ports.attestation import QuoteSource
from compute_bridge.ports.backend import Backend, BackendContext
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BootError, ComputeBridgeError, NoQuoteError
from compute_bridge.ports.hookspecs import OpenContext
from compute_bridge.ports.journal import Journal
from compute_bridge.ports.strategy import Settlement, SettlementContext
from compute_bridge.wire.signing import sign

logger = logging.getLogger(__name__)

FIRST_TICK_S = 60
EXPLAIN_S = 60
REMIND_MS = 15_000

STEPS = (
    "load the boot file",
    "find, measure and import the plugins",
    "resolve the Compute module",
    "open the journal and find the keys of every boot",
    "open the network and the shuffle",
    "prove the platform with a quote",
    "build the fleet",
    "reconcile with reality",
    "open the control socket",
    "raise the epoch and submit the card",
    "serve",
)


@contextmanager
def step(name: str, *, ahead: bool = False) -> Iterator[None]:
    """Say which step of the boot is taken, unless something is only opened ``ahead`` of it, and which one failed.

    :raises BootError: in place of any error of ours, with the step's number and name before its message.
    """
    number = STEPS.index(name) + 1
    if not ahead:
        logger.info("boot %d/%d: %s", number, len(STEPS), name)
    try:
        yield
    except ComputeBridgeError as error:
        raise BootError(f"boot step {number} ({name}): {error}") from error


def run(path: Path, overrides: Mapping[str, str]) -> int:
    """Run the bridge of the boot file at ``path`` until it is told to stop; return the exit code.

    The first SIGTERM or SIGINT drains for ``bridge.drain_s``; a second one stops at once. Leases that are
    still open go on in the next start.

    :raises BootError: if a step of the boot fails.
    """
    anyio.run(serve, path, dict(overrides))
    return 0


def explain(path: Path, prefix: str, overrides: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the stories of the leases whose grant or request id begins with ``prefix``.

    The running bridge is asked; where none runs, its journal is read.

    :raises ComputeBridgeError: if there is no such lease, or neither bridge nor journal can be read.
    """
    loaded = load_boot(path, flags=overrides)
    state_dir = Path(loaded.boot.bridge.state_dir)
    try:
        stories: list[dict[str, Any]] = ask(state_dir / SOCKET, {"ask": "explain", "id": prefix}, timeout_s=EXPLAIN_S)[
            "stories"
        ]
    except NotRunningError:
        return anyio.run(_explain_journal, loaded, prefix)
    return stories


async def _explain_journal(loaded: LoadedBoot, prefix: str) -> list[dict[str, Any]]:
    coalition = loaded.boot.coalition
    handshake = read_handshake(Path(coalition.handshake), coalition.fingerprint)
    path = Path(loaded.boot.bridge.state_dir) / JOURNAL
    async with open_sqlite_journal(path, SystemClock()) as journal:
        stories = await tell(
            journal,
            prefix,
            domain=market_domain(handshake),
            module_key=handshake.compute.signing_key,
            provider_fee=handshake.compute.provider_fee,
        )
    return [asdict(story) for story in stories]


async def serve(path: Path, overrides: Mapping[str, str]) -> None:
    """Boot, serve until a signal, and close everything in reverse order.

    :raises BootError: if a step of the boot fails.
    """
    with step("load the boot file"):
        loaded = await anyio.to_thread.run_sync(partial(load_boot, path, flags=overrides))
    try:
        async with AsyncExitStack() as stack:
            opened = await Opening(loaded, stack).parts()
            await serve_bridge(Bridge(opened))
    except BaseExceptionGroup as group:
        raise _leaf(group) from group


async def serve_bridge(bridge: Bridge) -> None:
    """Take the steps of the boot that need the market's clock, then serve until a signal."""
    leash = Leash()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.parts.market.follow_almanac)
        await _prepare(bridge)
        with step("open the control socket"):
            socket = Path(bridge.parts.boot.bridge.state_dir) / SOCKET
        async with serve_status(socket, partial(answer, bridge)):
            with step("raise the epoch and submit the card"):
                await bridge.enter()
            # From here on open leases are served, whether or not the market is there to admit a card.
            tasks.start_soon(bridge.serve)
            tasks.start_soon(_await_market, bridge)
            await _until_stopped(bridge)
            logger.info("stopped; %d leases stay open for the next start", bridge.open_leases)
            leash.start()
        tasks.cancel_scope.cancel()
    leash.cancel()


async def _await_market(bridge: Bridge) -> None:
    with step("raise the epoch and submit the card", ahead=True):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_remind, bridge.parts.clock)
            await bridge.admitted()
            tasks.cancel_scope.cancel()
    with step("serve"):
        logger.info("serving as provider %s", bridge.parts.identity.provider.hex())


async def _remind(clock: Clock) -> None:
    """Say now and then that the market has not answered, for it may be away for as long as it likes."""
    while True:
        await clock.sleep_ms(REMIND_MS)
        logger.warning("the market has not answered our card yet: is it running, and is [network] its network?")


async def _prepare(bridge: Bridge) -> None:
    with step("prove the platform with a quote"):
        with anyio.move_on_after(FIRST_TICK_S) as patience:
            await bridge.prove()
        if patience.cancelled_caught:
            told = f"no almanac tick within {FIRST_TICK_S} s to bind a quote to"
            mend = "is the market running, and is [network] its network?"
            if not await bridge.has_open_leases():
                raise NoQuoteError(f"{told}: {mend}")
            logger.error("%s: %s Open leases are served, and nothing is sold before one comes", told, mend)
    with step("build the fleet"):
        await bridge.stock()
        try:
            await bridge.look()
        except PluginResultError as error:
            if not await bridge.has_open_leases():
                raise
            logger.error("open leases are served, and nothing is sold before this is mended: %s", error)  # noqa: TRY400
    with step("reconcile with reality"):
        await bridge.reconcile()


async def _until_stopped(bridge: Bridge) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for first in signals:
            logger.info("draining after %s", first.name)
            break
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, bridge, tasks.cancel_scope)
            async for second in signals:
                logger.info("stopping at once after %s; open leases go on in the next start", second.name)
                break
            tasks.cancel_scope.cancel()


async def _drain(bridge: Bridge, scope: anyio.CancelScope) -> None:
    with anyio.move_on_after(bridge.parts.boot.bridge.drain_s):
        await bridge.drain()
    scope.cancel()


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that a task group wrapped, or the group where there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@define
class Opening:
    """The steps of a boot that open something; ``stack`` closes it all again in reverse order."""

    loaded: LoadedBoot
    stack: AsyncExitStack
    clock: Clock = field(factory=SystemClock)
    plugins: Plugins = field(init=False)
    configs: dict[str, Any] = field(init=False, repr=False)

    async def parts(self) -> BridgeParts:
        """Return everything that a bridge is made of, opened.

        :raises BootError: naming the step that failed.
        """
        with step("find, measure and import the plugins"):
            await anyio.to_thread.run_sync(self._load_plugins)
        with step("resolve the Compute module"):
            handshake = await anyio.to_thread.run_sync(self._handshake)
        with step("open the journal and find the keys of every boot"):
            identity = Identity.from_root_seed(
                await anyio.to_thread.run_sync(self._root_seed), market_domain(handshake)
            )
            journal = await self._journal()
            known = await known_boots(journal, identity)
        with step("open the network and the shuffle"):
            network = await self._open("networks", "network", self._context())
            shuffle = await self._open("shuffles", "shuffle", self._context(), network)
            market = Market(network, handshake)
            await require_current(market, journal, identity, known)
            current, boots = await boot_keys(journal, identity)
        with step("prove the platform with a quote", ahead=True):
            quotes = await self._quote_source()
        with step("build the fleet", ahead=True):
            costs = CostBook(self.clock, CostLimits.of(self.loaded.boot.rate), Ledger())
            await costs.restore(journal)
            fleet = Fleet(await self._backends(), self.clock, currency=market.config.currency, costs=costs)
            await fleet.benches.restore(journal, [backend.name for backend in fleet.backends])
            settlement = await self._settlement(market, current)
        return BridgeParts(
            boot=self.loaded.boot,
            identity=identity,
            current=current,
            boots=boots,
            market=market,
            journal=journal,
            shuffle=shuffle,
            quotes=quotes,
            fleet=fleet,
            catalogs=self._catalogs(fleet, market),
            rates=self._rate_book(market),
            router=self._router(fleet, market),
            settlement=settlement,
            clock=self.clock,
            config=resolved_digest(self.loaded, measured=self.plugins.measured),
            image=self._image(),
            software=f"compute-bridge {__version__}",
        )

    # --- one step each ------------------------------------------------------------------------

    def _load_plugins(self) -> None:
        boot = self.loaded.boot
        wanted = [(choice.group, choice.kind) for choice in boot.choices]
        self.plugins = plugin_host.load(wanted, builtins=(builtin,), pins=boot.plugins, named_at=self.loaded.named_at)
        self.configs = self.loaded.configs(lambda choice: self._kind(choice.group, choice.kind).config)

    def _handshake(self) -> Handshake:
        coalition = self.loaded.boot.coalition
        return read_handshake(Path(coalition.handshake), coalition.fingerprint)

    def _root_seed(self) -> bytes:
        return read_seed("bridge.root_key", self._read_secret(self.loaded.boot.bridge.root_key))

    async def _journal(self) -> Journal:
        folder = Path(self.loaded.boot.bridge.state_dir)
        # A journal that is gone from a folder in use is lost, and nobody may begin a new one in silence.
        is_first = await anyio.to_thread.run_sync(prepare_folder, folder)
        opening = open_sqlite_journal(folder / JOURNAL, self.clock, create=is_first)
        journal = await self.stack.enter_async_context(opening)
        await journal.verify()
        return journal

    async def _quote_source(self) -> QuoteSource:
        source: QuoteSource = await self._open("quote_sources", "attestation", self._context())
        if source.development and not self.loaded.boot.attestation.allows_development:
            raise NoQuoteError(
                f"attestation.source {source.name!r} is a development attester; "
                "allow it in words by attestation.development, or attest with real hardware"
            )
        return source

    async def _backends(self) -> list[Backend]:
        backends = []
        for index, settings in enumerate(self.loaded.boot.backends):
            context = BackendContext(settings.name, self.clock, self._read_secret)
            backends.append(await self._open_kind("backends", settings.kind, f"backend[{index}]", context))
        return backends

    def _catalogs(self, fleet: Fleet, market: Market) -> Catalogs:
        boot, currency = self.loaded.boot, market.config.currency
        store = FileCatalogStore(Path(boot.bridge.state_dir) / CATALOG_FOLDER)
        backends = list(zip(boot.backends, fleet.backends, strict=True))
        return Catalogs(backends, store, self.clock, settings=boot.catalog, currency=currency)

    async def _settlement(self, market: Market, current: BootSecrets) -> Settlement:
        folder = Path(self.loaded.boot.bridge.state_dir) / "settlement"
        await anyio.to_thread.run_sync(prepare_folder, folder)
        publish = partial(publish_claim, market, current, self.clock)
        context = SettlementContext(folder, self.clock, publish, self._read_secret)
        settlement: Settlement = await self._open("settlements", "settlement", context)
        return settlement

    def _rate_book(self, market: Market) -> RateBook:
        settings, config = self.loaded.boot.rate, market.config
        policy = self._kind("rate_policies", settings.policy).open(self.configs["rate"])
        return RateBook(
            policy, currency=config.currency, provider_fee=config.provider_fee, below_cost=settings.below_cost
        )

    def _router(self, fleet: Fleet, market: Market) -> Router:
        policy = self._kind("routing_policies", self.loaded.boot.routing.policy).open(self.configs["routing"])
        below_cost = self.loaded.boot.rate.below_cost
        return Router(fleet, policy, self.clock, market.config.provider_fee, below_cost=below_cost)

    def _image(self) -> Fingerprint:
        measured = [name.encode() + value for name, value in sorted(self.plugins.measured.items())]
        return Fingerprint(digest("compute-bridge/bridge-image/v1", __version__.encode(), *measured))

    # --- opening kinds --------------------------------------------------------------------------

    async def _open(self, group: str, key: str, *context: Any) -> Any:
        choice = next(one for one in self.loaded.boot.choices if one.key == key)
        return await self._open_kind(group, choice.kind, key, context[0], *context[1:])

    async def _open_kind(self, group: str, kind: str, key: str, context: Any, *more: Any) -> Any:
        opening = self._kind(group, kind).open(context, self.configs[key], *more)
        return await self.stack.enter_async_context(opening)

    def _kind(self, group: str, kind: str) -> Any:
        return self.plugins.kind(group, kind)

    def _context(self) -> OpenContext:
        return OpenContext(self.clock, self._read_secret, self.loaded.folder)

    def _read_secret(self, ref: str) -> bytes:
        return read_named_secret(self.loaded, self.configs, ref)


async def publish_claim(market: Market, current: BootSecrets, clock: Clock, claim: Claim) -> None:
    """Sign a claim with the boot key and put it on the network; twice is once, whichever boot did it first."""
    signed = sign(claim, current.signing, domain=market.domain)
    record_id = claim.key.grant_id + channels.number(claim.key.sequence)
    if await market.network.find(channels.CLAIMS, record_id) is None:
        await send(market.network, channels.CLAIMS, record_id, signed.raw, clock=clock)
