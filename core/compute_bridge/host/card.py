"""The card: the fleet, the rates and the quote folded into one standing offer, kept fresh at the market."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import anyio
from attrs import evolve, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.host.epoch import Epoch, hold_epoch
from compute_bridge.host.epoch import SupersededError as SupersededError
from compute_bridge.host.epoch import raise_epoch as raise_epoch
from compute_bridge.host.nudge import Nudge
from compute_bridge.model.card import BootCertificate, CardVerdict, Custody, ProviderCard, QuoteBinding
from compute_bridge.model.channels import CARD_SUBMISSIONS, CARD_VERDICTS
from compute_bridge.model.coalition import BridgeConfig
from compute_bridge.model.ids import Fingerprint, PublicKey, digest
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import RateTable
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Capability, CapacityBand
from compute_bridge.model.units import Tick
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import AdmissionError, ComputeBridgeError, MarketError, RecordError
from compute_bridge.ports.network import Network
from compute_bridge.wire import codec
from compute_bridge.wire.signing import Domain, Signed, fingerprint, open_signed, sign

logger = logging.getLogger(__name__)

_RAREST = 6


@frozen
class BootFacts:
    """What a card says of this boot: who sells, under which keys, on which image, proven by which quote.

    ``post_hash`` is of the bridge's own image. A new challenge makes new facts of the same epoch.
    """

    certificate: Signed[BootCertificate]
    binding: QuoteBinding
    evidence: Evidence
    pre_hash: Fingerprint
    post_hash: Fingerprint
    custody: Custody
    development_attestation: bool


@frozen
class Holding:
    """What a card says of the fleet: what can be served, in which bands, how much at once, and at what rates."""

    capabilities: tuple[Capability, ...]
    bands: tuple[CapacityBand, ...]
    max_leases: int
    rates: RateTable
    retirement: bytes = b""


def fold_card(facts: BootFacts, holding: Holding, *, version: int, tick: Tick) -> ProviderCard:
    """Return the card of ``version`` that says all this as of ``tick``.

    :raises MarketError: if it is more than a card can say.
    """
    try:
        return _folded(facts, holding, version, tick)
    except ValueError as error:
        raise MarketError(f"our card cannot be made: {error}; offer less, or from several bridges") from error


def _folded(facts: BootFacts, holding: Holding, version: int, tick: Tick) -> ProviderCard:
    certificate = facts.certificate.value
    return ProviderCard(
        provider_id=certificate.provider_id,
        epoch=certificate.epoch,
        version=version,
        certificate=facts.certificate.raw,
        capabilities=holding.capabilities,
        bands=tuple(sorted(holding.bands, key=lambda band: band.name)),
        max_leases=holding.max_leases,
        rates=holding.rates,
        rate_fingerprint=Fingerprint(fingerprint(holding.rates)),
        organism=organism_of(holding.capabilities, holding.rates, facts.post_hash),
        binding=facts.binding,
        evidence=facts.evidence,
        pre_hash=facts.pre_hash,
        post_hash=facts.post_hash,
        custody=facts.custody,
        retirement=holding.retirement,
        refreshed_at=tick,
        development_attestation=facts.development_attestation,
    )


def organism_of(capabilities: tuple[Capability, ...], rates: RateTable, post_hash: Fingerprint) -> Fingerprint:
    """Return the fingerprint of the bridge as an organism: capability union, rate table and image post-hash."""
    union = digest("compute-bridge/capabilities/v1", *(codec.encode(one) for one in capabilities))
    return Fingerprint(fingerprint(BridgeConfig(Fingerprint(union), Fingerprint(fingerprint(rates)), post_hash)))


class CardPublisher:
    """Keeps the market's roster at what the bridge offers now: one card at a time, versions rising.

    ``facts`` and ``holding`` are asked for each card; ``facts`` may make a new quote when the last one ages.
    ``tick`` is the latest tick seen. ``patience_s`` is how long one verdict may take, in real seconds.
    """

    def __init__(
        self,
        network: Network,
        domain: Domain,
        *,
        module_key: PublicKey,
        signing: Ed25519PrivateKey,
        epoch: Epoch,
        facts: Callable[[], Awaitable[BootFacts]],
        holding: Callable[[], Holding],
        tick: Callable[[], Tick],
        card_max_age_ticks: int,
        clock: Clock,
        patience_s: float = 60.0,
    ) -> None:
        self._network = network
        self._domain = domain
        self._module_key = module_key
        self._signing = signing
        self._epoch = epoch
        self._facts = facts
        self._holding = holding
        self._tick = tick
        # Half of the age that it may have: one verdict may be lost, and the roster never shows a stale card.
        self._refresh_ticks = max(1, card_max_age_ticks // 2)
        self._clock = clock
        self._patience_s = patience_s
        self._version = 0
        self._nudge = Nudge()
        self._card: Signed[ProviderCard] | None = None
        self._refusal: AdmissionError | None = None
        self._told = anyio.Event()
        self._admitted = anyio.Event()

    @property
    def card(self) -> Signed[ProviderCard] | None:
        """The last card that the market admitted, if any."""
        return self._card

    @property
    def refusal(self) -> AdmissionError | None:
        """Why the market refused the latest card; ``None`` when it did not."""
        return self._refusal

    async def first_verdict(self) -> None:
        """Return once the market has spoken of a card of this publisher; needs :meth:`run` to run."""
        await self._told.wait()

    async def withdrawn(self) -> None:
        """Return once the last card that the market admitted sells nothing; needs :meth:`run` to run."""
        while self._card is not None and self._card.value.max_leases:
            await self._admitted.wait()

    def changed(self) -> None:
        """Let :meth:`run` look at once whether the card still tells the truth."""
        self._nudge.nudge()

    async def publish(self) -> Signed[ProviderCard]:
        """Submit a card of the next version and return it once the market has admitted it.

        :raises AdmissionError: if the market refuses it; ``reason`` is the market's code.
        :raises MarketError: if there is no verdict in time, or one that the module did not sign.
        :raises NetworkError: if the network cannot be reached.
        """
        self._version += 1
        folded = fold_card(await self._facts(), self._holding(), version=self._version, tick=self._tick())
        card = sign(folded, self._signing, domain=self._domain)
        seen = await self._network.tail(CARD_VERDICTS)
        await self._network.append(CARD_SUBMISSIONS, card.hash, card.raw)
        self._take(card, await self._verdict(card, after=seen))
        return card

    async def run(self, *, every_ms: int) -> None:
        """Publish whenever the card no longer tells the truth or ages, looking every ``every_ms`` and when nudged.

        A refused or unanswered card is told and tried again: at a nudge at once, else ever more rarely, down to
        one look in 64.

        :raises SupersededError: when another bridge with this identity has raised the epoch.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep, every_ms)
            try:
                await hold_epoch(self._network, self._domain, self._epoch)
            except MarketError as error:
                # Raised outside the group, which would wrap it.
                lost = error
            tasks.cancel_scope.cancel()
        raise lost

    async def _keep(self, every_ms: int) -> None:
        failures = 0
        while True:
            try:
                if await self._is_due():
                    await self.publish()
                failures = 0
            except AdmissionError as error:
                failures += 1
                logger.error("the market refuses our card: %s", error)  # noqa: TRY400 - the message says it all
            except ComputeBridgeError as error:
                # Also a quote that is not to be had now: open leases go on without a new card.
                failures += 1
                logger.warning("our card is not published, trying again: %s", error)
            await self._nudge.wait(self._clock, every_ms << min(failures, _RAREST))

    async def _is_due(self) -> bool:
        card = self._card
        if card is None or self._tick() - card.value.refreshed_at >= self._refresh_ticks:
            return True
        now = fold_card(await self._facts(), self._holding(), version=1, tick=card.value.refreshed_at)
        return evolve(card.value, version=1) != now

    async def _verdict(self, card: Signed[ProviderCard], *, after: int) -> CardVerdict:
        with anyio.move_on_after(self._patience_s):
            async with aclosing(self._network.follow(CARD_VERDICTS, after=after)) as entries:
                async for entry in entries:
                    if entry.record_id == card.hash:
                        return self._opened(card, entry.record)
        raise MarketError(
            f"card {card.hash.hex()[:12]}: no verdict within {self._patience_s} s; is the market running?"
        )

    def _opened(self, card: Signed[ProviderCard], raw: bytes) -> CardVerdict:
        try:
            verdict = open_signed(raw, CardVerdict, self._domain, by=self._module_key).value
        except RecordError as error:
            raise MarketError(f"card {card.hash.hex()[:12]}: its verdict is not the module's: {error}") from error
        if (verdict.submission, verdict.provider_id) != (card.hash, card.value.provider_id):
            raise MarketError(f"card {card.hash.hex()[:12]}: the verdict under its id is on another card")
        return verdict

    def _take(self, card: Signed[ProviderCard], verdict: CardVerdict) -> None:
        self._told.set()
        if verdict.reason is not Reason.ADMITTED:
            self._refusal = AdmissionError(
                f"card {card.hash.hex()[:12]}, version {card.value.version}: {verdict.reason}: {verdict.detail}",
                reason=verdict.reason,
            )
            raise self._refusal
        self._card, self._refusal = card, None
        admitted, self._admitted = self._admitted, anyio.Event()
        admitted.set()
