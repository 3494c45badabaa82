"""What must hold of a card before anything is sealed to its keys; each check raises with its reason."""

from functools import partial

import anyio.to_thread
from attrs import frozen

from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.card import BootCertificate, EpochClaim, ProviderCard, RosterEntry
from compute_bridge.model.ids import Fingerprint, ProviderId, provider_id, short
from compute_bridge.model.quote import AttestationReason, QuotePolicy, VerifiedQuote
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Tick
from compute_bridge.ports.attestation import QuoteVerifier
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import AttestationError, MarketError, RecordError
from compute_bridge.wire.commitment import report_data
from compute_bridge.wire.signing import Domain, Signed, fingerprint, open_self_signed


class UntrustedError(MarketError):
    """A record of the market or of a provider does not hold; send it nothing. ``reason`` is the stable code."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@frozen
class QuoteTrust:
    """By whom and under which policy quotes are verified."""

    verifier: QuoteVerifier
    policy: QuotePolicy
    clock: Clock


@frozen
class AdmittedCard:
    """A card as the module admitted it: signed by its own boot key, and the module's entry for it."""

    entry: Signed[RosterEntry]
    signed: Signed[ProviderCard]

    @property
    def card(self) -> ProviderCard:
        """The card itself."""
        return self.signed.value

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"card {short(self.signed.hash)} of provider {short(self.card.provider_id)}"


async def find_card(market: Market, card_hash: Fingerprint) -> AdmittedCard:
    """Return the card with this hash.

    :raises UntrustedError: if the module has admitted no such card, or it is not what its hash names.
    """
    try:
        return AdmittedCard(*await market.card(card_hash))
    except RecordError as error:
        raise UntrustedError(f"card {short(card_hash)}: {error}", reason=Reason.CARD_SIGNATURE) from error


def check_provider(found: AdmittedCard, provider: ProviderId) -> None:
    """Return if it is ``provider``'s card."""
    if found.card.provider_id != provider:
        raise UntrustedError(
            f"{found.name} is not by the provider {short(provider)} that was awarded", reason=Reason.GRANT_CARD_UNKNOWN
        )


def check_certificate(found: AdmittedCard, domain: Domain) -> BootCertificate:
    """Return the root key's certificate for this boot; the provider id follows from that root key."""
    card = found.card
    try:
        signed = open_self_signed(card.certificate, BootCertificate, domain, signer=lambda one: one.root_key)
    except RecordError as error:
        raise UntrustedError(f"{found.name}: certificate: {error}", reason=Reason.CARD_CERTIFICATE) from error
    certificate = signed.value
    right = (provider_id(domain.coalition, certificate.root_key), card.epoch, card.binding.keys)
    if (card.provider_id, certificate.epoch, certificate.keys) != right or certificate.provider_id != right[0]:
        raise UntrustedError(
            f"{found.name}: its certificate is for another provider, epoch or boot", reason=Reason.CARD_CERTIFICATE
        )
    return certificate


async def check_epoch(found: AdmittedCard, certificate: BootCertificate, market: Market) -> EpochClaim:
    """Return the provider's current claim: this epoch, or a later one by the same root key.

    A provider may have booted again since the card was cleared; it then finishes what it promised.
    """
    held = await market.network.get(channels.EPOCHS, found.card.provider_id)
    if held is None:
        raise UntrustedError(f"{found.name}: its provider has claimed no epoch", reason=Reason.CARD_EPOCH)
    try:
        claim = open_self_signed(held.value, EpochClaim, market.domain, signer=lambda one: one.root_key).value
    except RecordError as error:
        raise UntrustedError(f"{found.name}: epoch claim: {error}", reason=Reason.CARD_EPOCH) from error
    same_root = (claim.provider_id, claim.root_key) == (certificate.provider_id, certificate.root_key)
    same_boot = claim.epoch > certificate.epoch or claim.signing_key == certificate.keys.signing
    if not same_root or not same_boot or claim.epoch < certificate.epoch:
        raise UntrustedError(
            f"{found.name}: epoch {certificate.epoch} with these keys was never claimed", reason=Reason.CARD_EPOCH
        )
    return claim


def check_binding(found: AdmittedCard, domain: Domain) -> None:
    """Return if the quote's binding and the rates are of this coalition and of themselves."""
    binding, rates = found.card.binding, found.card.rates
    if (binding.coalition, binding.module) != (domain.coalition, domain.module):
        raise UntrustedError(f"{found.name}: its quote is bound to another coalition", reason=Reason.CARD_BINDING)
    if found.card.rate_fingerprint != fingerprint(rates):
        raise UntrustedError(f"{found.name}: its rate table is not the one it names", reason=Reason.CARD_FINGERPRINT)


async def check_challenge(found: AdmittedCard, market: Market, at: Tick) -> None:
    """Return if the quote's challenge is a tick of the almanac that was young enough at tick ``at``."""
    binding, oldest = found.card.binding, at - market.config.quote_max_age_ticks
    try:
        tick = await market.find_tick(binding.challenge_tick)
    except MarketError as error:
        raise UntrustedError(f"{found.name}: challenge: {error}", reason=Reason.CARD_BINDING) from error
    if tick.hash != binding.challenge:
        raise UntrustedError(
            f"{found.name}: its challenge is not the hash of tick {binding.challenge_tick}", reason=Reason.CARD_BINDING
        )
    if not oldest <= binding.challenge_tick <= at:
        raise UntrustedError(
            f"{found.name}: its quote answers tick {binding.challenge_tick}, which at tick {at} is too old",
            reason=Reason.CARD_STALE,
        )


async def check_quote(found: AdmittedCard, trust: QuoteTrust) -> VerifiedQuote:
    """Return what the card's quote proves of the keys that the card carries.

    :raises AttestationError: if it does not prove what the policy demands.
    :raises UntrustedError: if a development quote is not marked as one.
    """
    if found.card.development_attestation and not trust.policy.allow_development:
        raise AttestationError(
            f"{found.name}: its quote comes from a development attester, which proves nothing about hardware; "
            "ask where hardware attests, or allow it in words by attestation.development and name its root among "
            "attestation.anchors",
            reason=AttestationReason.DEVELOPMENT,
        )
    verify = partial(
        trust.verifier.verify,
        found.card.evidence,
        report_data=report_data(found.card.binding),
        now_s=trust.clock.utc_ms() // 1000,
        policy=trust.policy,
    )
    # In a worker thread: the first quote loads the library, which reads files.
    verified = await anyio.to_thread.run_sync(verify)
    marks = (found.card.development_attestation, found.entry.value.development_attestation)
    if marks != (verified.development, verified.development):
        raise UntrustedError(
            f"{found.name}: its development mark is wrong in the card or in the roster",
            reason=Reason.CARD_DEVELOPMENT,
        )
    return verified
