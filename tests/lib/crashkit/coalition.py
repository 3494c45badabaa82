"""A whole coalition in one process, of real parts: the market plugin, bridges, requesters, one network."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.catalog_file import FileCatalogStore
from compute_bridge.adapters.direct_shuffle import DirectShuffle
from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier
from compute_bridge.adapters.requester_store import FileRequesterStore
from compute_bridge.adapters.software_quotes import SoftwareQuoteSource
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.boot import publish_claim
from compute_bridge.host.attempt import AttemptLimits
from compute_bridge.host.boots import boot_keys, known_boots
from compute_bridge.host.bridge import Bridge, BridgeParts
from compute_bridge.host.catalogs import Catalogs
from compute_bridge.host.envelopes import await_envelope, open_envelope
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.identity import Identity
from compute_bridge.host.journal_check import require_current
from compute_bridge.host.market import Market
from compute_bridge.host.orders import make_order
from compute_bridge.host.rates import RateBook
from compute_bridge.host.requester import NoLeaseError, Requester
from compute_bridge.host.requester_state import RequestHandle
from compute_bridge.host.routing import Router
from compute_bridge.model import boot as boot_model
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import BackendName, BandName, Fingerprint, digest
from compute_bridge.model.manifest import ComputeManifest, SourceRef
from compute_bridge.model.quote import INTEL_ANCHOR, QuotePolicy, TrustAnchor
from compute_bridge.model.resources import CapacityBand, Requirements, Resources
from compute_bridge.model.settlement import Claim
from compute_bridge.model.units import BasisPoints, Micros, Milliseconds, UtcMs
from compute_bridge.ports.backend import Backend, Instance
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.network import Network
from compute_bridge.ports.strategy import SettlementContext
from compute_bridge.wire.signing import Signed, public_key
from compute_bridge_ledger.ledger import LedgerConfig, open_ledger
from compute_bridge_market import config as market_config
from compute_bridge_market import market as market_plugin
from compute_bridge_market.book import Book, open_book
from compute_bridge_market.market import make_market
from compute_bridge_market.module import Module, ModuleSecrets, make_module
from compute_bridge_market.rule import LowestRate
from compute_bridge_market.serve import Server
from compute_bridge_rates.cost_plus import CostPlus, CostPlusConfig
from compute_bridge_routing.policies import FirstFit, FirstFitConfig

ACCOUNT = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
BAND = CapacityBand(BandName("standard"), Resources(1, 1), Resources(16_000, 65_536, 100, 0), 4)
ROOT = "development"
BOOK = "market.db"

C = TypeVar("C", bound="Coalition")
Wrap = Callable[[BridgeParts], BridgeParts]


@define
class Coalition:
    """A coalition ``bridge-β`` on one network; ``cloud`` is what its bridges sell.

    ``attester`` is the folder of the development root that all its bridges quote under.
    """

    folder: Path
    attester: Path
    cloud: Any
    network: Network
    module: Module
    verifier: DcapQuoteVerifier
    policy: QuotePolicy
    bridges: list[Bridge] = field(factory=list)
    leader: market_plugin.Market | None = None
    """The market that runs now, or ran last."""

    @property
    def clock(self) -> Clock:
        """The clock of the market, the requesters, and of the bridges unless a test gives them another."""
        clock: Clock = self.cloud.clock
        return clock

    @property
    def bridge_clock(self) -> Clock:
        """The clock of the bridges."""
        return self.clock

    def requester(self, name: str = "requester") -> Requester:
        """Return a requester with a store of its own on the one account."""
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return Requester(
            network=self.network,
            shuffle=DirectShuffle(self.network),
            handshake=self.module.handshake,
            verifier=self.verifier,
            policy=self.policy,
            account=ACCOUNT,
            store=FileRequesterStore(folder),
            clock=self.clock,
        )

    def manifest(self, *, duration_ms: int = 120_000, cpu_millis: int = 1000) -> ComputeManifest:
        """Return what is asked for, unless a test asks for something else."""
        needs = Requirements(Resources(cpu_millis, 1024), Milliseconds(duration_ms))
        return ComputeManifest(SourceRef("hello", "1", "0123abc"), self.cloud.image(), needs)

    @asynccontextmanager
    async def bridge(
        self, name: str, *, margin_bps: int = 2000, seed: int = 1, wrap: Wrap = lambda parts: parts, **settings: Any
    ) -> AsyncIterator[Bridge]:
        """Run a bridge over the one cloud until the context ends, as a kill would end it.

        Unless a test says otherwise it waits long for an envelope: in hurried time a busy machine misses a minute.
        """
        settings.setdefault("envelope_wait_s", 3600)
        async with AsyncExitStack() as stack:
            parts = wrap(await self.parts(stack, name, margin_bps=margin_bps, seed=seed, **settings))
            bridge = Bridge(parts)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(parts.market.follow_almanac)
                await bridge.prove()
                await bridge.stock()
                await bridge.look()
                await bridge.reconcile()
                await bridge.enter()
                tasks.start_soon(bridge.serve)
                await bridge.admitted()
                self.bridges.append(bridge)
                yield bridge
                tasks.cancel_scope.cancel()

    async def open_backends(self, stack: AsyncExitStack) -> list[Backend]:
        """Open what a bridge sells."""
        return [await stack.enter_async_context(self.cloud.open())]

    def kind_of(self, backend: Backend) -> str:
        """Return the kind that a boot file would name a backend by."""
        return "memory"

    async def parts(
        self, stack: AsyncExitStack, name: str, *, margin_bps: int = 2000, seed: int = 1, **settings: Any
    ) -> BridgeParts:
        """Return the opened parts of a bridge with a folder of its own; ``stack`` closes them."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        clock = self.bridge_clock
        market = Market(self.network, self.module.handshake)
        identity = Identity.from_root_seed(bytes([seed]) * 32, market.domain)
        journal = await stack.enter_async_context(
            open_sqlite_journal(
                folder / "journal",
                clock,
                create=not (folder / "journal").exists(),
                max_bytes=settings.pop("journal_bytes", None),
            )
        )
        await require_current(market, journal, identity, await known_boots(journal, identity))
        current, boots = await boot_keys(journal, identity)
        backends = await self.open_backends(stack)
        fleet = Fleet(backends, clock, currency=market.config.currency)
        await fleet.benches.restore(journal, [backend.name for backend in backends])

        async def publish(claim: Claim) -> None:
            await publish_claim(market, current, clock, claim)

        context = SettlementContext(folder, clock, publish, lambda _ref: b"")
        settlement = await stack.enter_async_context(open_ledger(context, LedgerConfig()))
        boot = _boot_file(folder, name, {backend.name: self.kind_of(backend) for backend in backends}, settings)
        return BridgeParts(
            boot=boot,
            identity=identity,
            current=current,
            boots=boots,
            market=market,
            journal=journal,
            shuffle=DirectShuffle(self.network),
            quotes=SoftwareQuoteSource(self.attester, ROOT, now_s=self.clock.utc_ms() // 1000),
            fleet=fleet,
            catalogs=Catalogs(
                list(zip(boot.backends, backends, strict=True)),
                FileCatalogStore(folder / "catalog"),
                clock,
                settings=boot.catalog,
                currency=market.config.currency,
            ),
            rates=RateBook(
                CostPlus(CostPlusConfig(margin_bps=BasisPoints(margin_bps))),
                currency=market.config.currency,
                provider_fee=market.config.provider_fee,
                below_cost=boot.rate.below_cost,
            ),
            router=Router(
                fleet,
                FirstFit(FirstFitConfig()),
                clock,
                market.config.provider_fee,
                limits=AttemptLimits(first_pause_ms=100, undo_s=5),
            ),
            settlement=settlement,
            clock=clock,
            config=Fingerprint(digest("test", b"config")),
            image=Fingerprint(digest("test", b"image")),
            software="compute-bridge test",
        )

    @asynccontextmanager
    async def market(self) -> AsyncIterator[Book]:
        """Run the market on the coalition's book until the context ends, as a kill would end it."""
        async with open_book(self.folder / BOOK, self.module.domain.coalition) as book:
            market = make_market(self.module, self.network, book, verifier=self.verifier, clock=self.clock)
            self.leader = market
            ready = anyio.Event()
            async with anyio.create_task_group() as tasks:
                server = Server(market, self.clock)

                async def serve() -> None:
                    await server.run(ready=ready.set)

                tasks.start_soon(serve)
                await ready.wait()
                yield book
                tasks.cancel_scope.cancel()


async def serve_or_not(requester: Requester, handle: RequestHandle) -> None:
    """Wait for the receipt of a lease that ends without one: that this is said at all depends on who is first."""
    with suppress(NoLeaseError):
        await requester.serve_until_receipt(handle)


async def found(
    folder: Path,
    cloud: Any,
    *,
    made: Callable[..., C],
    cadence_ms: int = 2000,
    limits: market_config.LimitSettings | None = None,
    attester: Path | None = None,
    currency: str = "EUR",
) -> C:
    """Return a new coalition, its market not running yet; an ``attester`` that is there is used again."""
    attester = attester or folder / "attester"
    source = SoftwareQuoteSource(attester, ROOT, now_s=cloud.clock.utc_ms() // 1000)
    await source.quote(bytes(64))
    root = attester / f"{ROOT}.root.der"
    anchor = TrustAnchor(ROOT, root.read_bytes(), development=True)
    file = _market_file(folder, root, cadence_ms, limits or market_config.LimitSettings(), currency)
    secrets = ModuleSecrets.from_seeds(b"\1" * 32, b"\2" * 32)
    module = make_module(file, secrets, LowestRate(), (anchor,))
    verifier = DcapQuoteVerifier()
    await anyio.to_thread.run_sync(verifier.load)
    policy = QuotePolicy(anchors=(INTEL_ANCHOR, anchor), allow_development=True)
    return made(folder, attester, cloud, MemoryNetwork(), module, verifier, policy)


async def late_machine(world: Any, bridge: Bridge, grant: Signed[ComputeGrant], *, attempt: int = 7) -> Instance:
    """Make the machine of an attempt that the journal has not: as a create does that outlives its caller."""
    parts = bridge.parts
    sealed, _ = await await_envelope(parts.shuffle, grant, parts.current.sealing, parts.identity.domain)
    body = open_envelope(sealed, grant, parts.current.sealing, parts.identity.domain)
    async with world.open() as backend:
        offer = next(one for one in await backend.offers() if one.serves(grant.value.requirements))
        ends_at = UtcMs(parts.clock.utc_ms() + 36_000_000)
        order = make_order(parts.identity, grant, body, offer=offer, attempt=attempt, ends_at=ends_at)
        made: Instance = await backend.provision(order)
        return made


def _boot_file(
    folder: Path, name: str, backends: dict[BackendName, str], settings: dict[str, Any]
) -> boot_model.BootFile:
    return boot_model.BootFile(
        bridge=boot_model.BridgeSettings(
            name=name,
            state_dir=boot_model.FilePath(str(folder)),
            root_key=boot_model.SecretRef("env:ROOT"),
            max_leases=settings.pop("max_leases", 4),
        ),
        coalition=boot_model.CoalitionSettings(
            handshake=boot_model.FilePath("/handshake"), fingerprint=Fingerprint(bytes(32))
        ),
        network=boot_model.NetworkSettings(kind="memory"),
        attestation=boot_model.AttestationSettings(source="software", development=boot_model.ALLOW_DEVELOPMENT),
        rate=boot_model.RateSettings(policy="cost-plus"),
        routing=boot_model.RoutingSettings(policy="first-fit"),
        settlement=boot_model.SettlementSettings(kind="ledger"),
        lease=boot_model.LeaseSettings(**settings),
        bands=(BAND,),
        backends=tuple(boot_model.BackendSettings(name=name_, kind=kind) for name_, kind in backends.items()),
    )


def _market_file(
    folder: Path, anchor: Path, cadence_ms: int, limits: market_config.LimitSettings, currency: str
) -> market_config.MarketFile:
    return market_config.MarketFile(
        coalition=market_config.CoalitionSettings(
            name="bridge-β", seed=bytes(32), handshake=boot_model.FilePath(str(folder / "handshake")), currency=currency
        ),
        keys=market_config.KeySettings(signing=boot_model.SecretRef("env:A"), sealing=boot_model.SecretRef("env:B")),
        network=market_config.NetworkSettings(kind="memory"),
        ledger=market_config.LedgerSettings(file=boot_model.FilePath(str(folder / BOOK))),
        almanac=market_config.AlmanacSettings(cadence_ms=cadence_ms),
        fees=market_config.FeeSettings(requester_bps=BasisPoints(100), provider_bps=BasisPoints(50)),
        limits=limits,
        attestation=market_config.AttestationSettings(
            development=boot_model.ALLOW_DEVELOPMENT,
            anchors=(boot_model.AnchorSettings(name=ROOT, file=boot_model.FilePath(str(anchor)), development=True),),
        ),
        accounts=(market_config.AccountSettings(name="alice", key=public_key(ACCOUNT), credit_micros=Micros(10**9)),),
    )
