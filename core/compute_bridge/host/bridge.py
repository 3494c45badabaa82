"""The running bridge: proof of platform, epoch, card and rates kept true beside the grant loop."""

import logging
from functools import partial
from typing import TypeVar

import anyio
from attrs import define, field, frozen

from compute_bridge.host.card import BootFacts, CardPublisher, Holding, raise_epoch
from compute_bridge.host.catalogs import Catalogs
from compute_bridge.host.epoch import Epoch, require_last
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.identity import BootSecrets, Identity
from compute_bridge.host.lease_state import LeaseState
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.host.market import Market
from compute_bridge.host.nudge import Nudge
from compute_bridge.host.outbox import Outbox
from compute_bridge.host.plugin_call import PluginResultError
from compute_bridge.host.provider import Provider
from compute_bridge.host.rates import RateBook
from compute_bridge.host.reconcile import Findings, Reconciler
from compute_bridge.host.routing import Router
from compute_bridge.model.boot import BootFile
from compute_bridge.model.card import QuoteBinding
from compute_bridge.model.ids import Fingerprint, GrantId, PublicKey
from compute_bridge.model.quote import Evidence
from compute_bridge.model.reason import Reason
from compute_bridge.ports.attestation import QuoteSource
from compute_bridge.ports.catalog import CatalogError
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BootError, JournalError, NetworkError, RecordError
from compute_bridge.ports.journal import Journal
from compute_bridge.ports.shuffle import Shuffle
from compute_bridge.ports.strategy import MarketView, RateQuestion, Settlement
from compute_bridge.wire.commitment import post_hash, report_data
from compute_bridge.wire.quote import parse_quote

logger = logging.getLogger(__name__)

T = TypeVar("T")

LAST_CARD_S = 10.0
"""How long a bridge that is to stop waits for the market to admit that it sells nothing, in real seconds."""


@frozen
class BridgeParts:
    """Everything that a bridge is made of, opened by the boot.

    ``boots`` are the keys of every boot in the journal, by their signing key. ``config`` is the digest of
    the resolved configuration and ``image`` the pre-hash of the bridge's own software.
    """

    boot: BootFile
    identity: Identity
    current: BootSecrets = field(repr=False)
    boots: dict[PublicKey, BootSecrets] = field(repr=False)
    market: Market
    journal: Journal
    shuffle: Shuffle
    quotes: QuoteSource
    fleet: Fleet
    catalogs: Catalogs
    rates: RateBook
    router: Router
    settlement: Settlement
    clock: Clock
    config: Fingerprint
    image: Fingerprint
    software: str


@frozen
class Proof:
    """A quote over the keys of this boot and a fresh challenge."""

    binding: QuoteBinding
    evidence: Evidence
    post_hash: Fingerprint


@define
class Bridge:
    """One provider in one market. The boot calls the steps in order, then :meth:`serve`."""

    parts: BridgeParts
    proof: Proof | None = field(default=None, init=False)
    stopping: bool = field(default=False, init=False)
    reconciler: Reconciler = field(init=False)
    epoch: Epoch | None = field(default=None, init=False)
    publisher: CardPublisher | None = field(default=None, init=False)
    provider: Provider | None = field(default=None, init=False)
    _looks: Nudge = field(factory=Nudge, init=False)

    def __attrs_post_init__(self) -> None:
        parts = self.parts
        self.reconciler = Reconciler(
            parts.fleet,
            parts.journal,
            parts.identity,
            parts.market,
            parts.clock,
            parts.boot.lease,
            end_lease=self._machine_is_gone,
        )

    # --- the steps of a boot ------------------------------------------------------------------

    async def prove(self) -> Proof:
        """Return a quote that binds this boot's keys to the latest tick, and keep it.

        :raises NoQuoteError: if the platform gives none.
        :raises BootError: if what it gives is no quote over what was asked.
        """
        parts, tick = self.parts, await self.parts.market.tick()
        domain = parts.identity.domain
        binding = QuoteBinding(
            keys=parts.current.keys,
            coalition=domain.coalition,
            module=domain.module,
            challenge=tick.hash,
            challenge_tick=tick.value.tick,
            config=parts.config,
            software=parts.software,
        )
        wanted = report_data(binding)
        evidence = await parts.quotes.quote(wanted)
        try:
            quote = parse_quote(evidence.quote)
        except RecordError as error:
            raise BootError(f"quote source {parts.quotes.name} gave no quote: {error}") from error
        if quote.report_data != wanted:
            raise BootError(f"quote source {parts.quotes.name} quoted other report data than it was given")
        self.proof = Proof(binding, evidence, post_hash(parts.image, b"", quote.mr_td))
        return self.proof

    async def stock(self) -> None:
        """Hand each backend its catalog: the stored one or, where leases need not wait for that, one fetched now.

        :raises CatalogError: if a stored one cannot be used, unless leases are open: they are served to their end.
        """
        has_open_leases = await self.has_open_leases()
        try:
            await self.parts.catalogs.load()
        except CatalogError as error:
            if not has_open_leases:
                raise
            logger.error("open leases are served, and nothing is sold on what cannot be read: %s", error)  # noqa: TRY400
        if not has_open_leases:
            await self.parts.catalogs.fetch_missing()

    async def look(self) -> None:
        """Ask every backend for its offers and the rate policy for its rates."""
        parts = self.parts
        await parts.fleet.refresh()
        try:
            await parts.rates.update(await self._question(), held=parts.fleet.costs.quarantined)
        finally:
            for ledger in (parts.fleet.costs.ledger, parts.rates.ledger):
                await ledger.write(parts.journal, now_ms=parts.clock.monotonic_ms())
            await parts.fleet.benches.write(parts.journal)

    async def reconcile(self) -> Findings:
        """Compare the journal with the backends, both ways, and touch nothing: another epoch may still be ours."""
        return await self.reconciler.sweep(act=False)

    @property
    def findings(self) -> Findings | None:
        """What the last sweep found; ``None`` before the first."""
        return self.reconciler.findings

    async def enter(self) -> None:
        """Raise the epoch, so that :meth:`serve` may begin; open leases need no card, and wait for none."""
        parts = self.parts
        domain = parts.identity.domain
        self.epoch = await raise_epoch(parts.market.network, domain, parts.identity.root, parts.current.keys.signing)
        self.publisher = CardPublisher(
            parts.market.network,
            domain,
            module_key=parts.market.config.signing_key,
            signing=parts.current.signing,
            epoch=self.epoch,
            facts=self._facts,
            holding=self._holding,
            tick=lambda: parts.market.now,
            card_max_age_ticks=parts.market.config.card_max_age_ticks,
            clock=parts.clock,
        )
        self.provider = Provider(self._lease_tools(self.epoch), parts.boots)

    async def admitted(self) -> None:
        """Return once the market has admitted a card of this boot; needs :meth:`serve` to run.

        :raises AdmissionError: if it refuses the first one, unless leases are open: they are served to their end.
        """
        publisher = _given(self.publisher)
        await publisher.first_verdict()
        if publisher.refusal is not None and not self.open_leases:
            raise publisher.refusal

    async def serve(self) -> None:
        """Resume open leases, serve grants, and keep offers, rates and card true, until cancelled.

        :raises SupersededError: when another bridge with this identity has started.
        """
        publisher, provider = _given(self.publisher), _given(self.provider)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_looking)
            tasks.start_soon(self._keep_benches)
            tasks.start_soon(self.parts.catalogs.run, self._looks.nudge)
            tasks.start_soon(self.reconciler.run)
            tasks.start_soon(partial(publisher.run, every_ms=1000 * self.parts.boot.bridge.refresh_s))
            await provider.run()

    def stop_selling(self, *, stop: bool = True) -> None:
        """Take no new grants and say so on the card; or take them again."""
        _given(self.provider).draining = stop
        _given(self.publisher).changed()

    async def drain(self, *, card_s: float = LAST_CARD_S) -> None:
        """Take no new grants, and return when no lease is open and the card says so; the bridge is to stop then.

        A market that is away, and has not admitted such a card within ``card_s``, is not waited for.
        """
        self.stopping = True
        self.stop_selling()
        await _given(self.provider).idle()
        # Else the market goes on awarding grants to a bridge that is gone, and each of them is a no-show.
        with anyio.move_on_after(card_s):
            await _given(self.publisher).withdrawn()
        # What was awarded until then is refused, and that is logged.
        await _given(self.provider).idle()

    async def has_open_leases(self) -> bool:
        """Return whether the journal has leases that are not settled yet."""
        return bool(await self.parts.journal.lease_states(excluding=[LeaseState.SETTLED]))

    @property
    def open_leases(self) -> int:
        """How many leases are not settled yet."""
        return len(self.provider.leases) if self.provider else 0

    # --- what is kept true ----------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await self._looks.wait(self.parts.clock, 1000 * self.parts.boot.bridge.refresh_s)
            try:
                await self.parts.journal.probe()
                await self.look()
            except (PluginResultError, NetworkError, JournalError) as error:
                logger.error("the last offers and rates stand: %s", error)  # noqa: TRY400 - the message says it all
            _given(self.publisher).changed()

    async def _keep_benches(self) -> None:
        benches = self.parts.fleet.benches
        while True:
            await benches.changed()
            try:
                await benches.write(self.parts.journal)
            except JournalError as error:
                logger.warning("a restart may forget what is benched now: %s", error)

    def _machine_is_gone(self, grant: GrantId) -> None:
        lease = self.provider.leases.get(grant) if self.provider else None
        if lease is not None:
            lease.conclude(Reason.LOST)

    async def _question(self) -> RateQuestion:
        parts = self.parts
        cards = [card.value for _, card in await parts.market.roster()]
        others = tuple(card for card in cards if card.provider_id != parts.identity.provider)
        return RateQuestion(parts.market.config.currency, parts.fleet.offers(), parts.boot.bands, MarketView(others))

    async def _facts(self) -> BootFacts:
        parts, proof = self.parts, self.proof
        half_life = parts.market.config.quote_max_age_ticks // 2
        if proof is None or parts.market.now - proof.binding.challenge_tick > half_life:
            proof = await self.prove()
        epoch = _given(self.epoch)
        return BootFacts(
            certificate=parts.identity.certify(parts.current.keys, epoch.number),
            binding=proof.binding,
            evidence=proof.evidence,
            pre_hash=parts.image,
            post_hash=proof.post_hash,
            custody=parts.boot.bridge.custody,
            development_attestation=parts.quotes.development,
        )

    def _holding(self) -> Holding:
        parts = self.parts
        draining = self.provider is not None and self.provider.draining
        # What cannot be journalled is not sold: a grant that stands nowhere would be lost with this process.
        sells = parts.journal.health.is_writable and not draining
        return Holding(
            capabilities=parts.fleet.capabilities(),
            bands=parts.boot.bands,
            max_leases=parts.boot.bridge.max_leases if sells else 0,
            rates=parts.rates.rates.table,
        )

    def _lease_tools(self, epoch: Epoch) -> LeaseTools:
        parts = self.parts
        return LeaseTools(
            identity=parts.identity,
            current=parts.current,
            epoch=epoch.number,
            development_attestation=parts.quotes.development,
            market=parts.market,
            journal=parts.journal,
            shuffle=parts.shuffle,
            fleet=parts.fleet,
            router=parts.router,
            settlement=parts.settlement,
            outbox=Outbox(parts.market.network, parts.clock),
            fence=partial(require_last, parts.market.network, parts.identity.domain, epoch),
            clock=parts.clock,
            settings=parts.boot.lease,
        )


def _given(part: T | None) -> T:
    if part is None:
        raise BootError("the boot's steps were called out of order")
    return part
