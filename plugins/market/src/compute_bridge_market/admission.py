"""Admission of cards: who may bid, checked from the size down to the quote."""

import logging
from functools import partial

import anyio.to_thread
from attrs import define

from compute_bridge.model import channels
from compute_bridge.model.card import BootCertificate, CardVerdict, ProviderCard, RosterEntry
from compute_bridge.model.ids import Fingerprint, ProviderId, digest, provider_id
from compute_bridge.model.quote import AttestationReason, VerifiedQuote
from compute_bridge.model.reason import Reason
from compute_bridge.ports.attestation import QuoteVerifier
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import AdmissionError, AttestationError, RecordError, SignatureError
from compute_bridge.ports.network import Entry
from compute_bridge.wire.commitment import report_data
from compute_bridge.wire.signing import Signed, fingerprint, open_self_signed
from compute_bridge_market.almanac import Almanac
from compute_bridge_market.book import Effects
from compute_bridge_market.publishing import Publisher
from compute_bridge_market.roster import Admitted, Roster, book_card

logger = logging.getLogger(__name__)

NOBODY = ProviderId(bytes(32))
"""Stands in the verdict on what is no card, and so has no provider."""

_DETAIL = 500


@define
class Admission:
    """Judges each card submission once, and says so; admitted cards go to the roster."""

    publisher: Publisher
    roster: Roster
    almanac: Almanac
    verifier: QuoteVerifier
    clock: Clock

    async def take(self, entry: Entry) -> Effects | None:
        """Return what an admitted card changes in the book; a refused one changes nothing.

        What was said before a crash is not judged again: time has passed, and might judge otherwise.
        """
        submission = Fingerprint(entry.record_id if len(entry.record_id) == 32 else digest("card", entry.record))
        told = await self.publisher.find(channels.CARD_VERDICTS, submission, CardVerdict)
        if told is not None and told.value.reason is not Reason.ADMITTED:
            return None
        admitted = await self.publisher.find(channels.CARDS, submission, RosterEntry)
        if admitted is None:
            admitted = await self._decide(entry, submission)
        if admitted is None:
            return None
        card = self.roster.open_card(admitted.value.card).value
        await self._publish(card, submission, admitted)
        self.roster.note(Admitted(card, submission))
        return partial(book_card, card=card, card_hash=submission)

    async def _decide(self, entry: Entry, submission: Fingerprint) -> Signed[RosterEntry] | None:
        provider = NOBODY
        try:
            card = self._open(entry.record, submission)
            provider = card.value.provider_id
            verified = await self._judge(card)
        except AdmissionError as error:
            logger.info("card %s refused: %s", submission.hex()[:12], error)
            await self._tell(provider, submission, Reason(error.reason), str(error))
            return None
        roster_entry = RosterEntry(
            card=card.raw,
            card_hash=card.hash,
            admitted_at=self.almanac.now,
            anchor=verified.anchor,
            tcb_status=verified.tcb_status,
            development_attestation=verified.development,
        )
        return await self.publisher.once(channels.CARDS, card.hash, roster_entry)

    async def _publish(self, card: ProviderCard, submission: Fingerprint, entry: Signed[RosterEntry]) -> None:
        def stands(current: RosterEntry) -> bool:
            latest = self.roster.open_card(current.card).value
            return (latest.epoch, latest.version) >= (card.epoch, card.version)

        await self.publisher.put(channels.ROSTER, card.provider_id, entry, stands=stands)
        await self._tell(card.provider_id, submission, Reason.ADMITTED, "")

    async def _tell(self, provider: ProviderId, submission: Fingerprint, reason: Reason, detail: str) -> None:
        line = "".join(character if character.isprintable() else "?" for character in detail)[:_DETAIL]
        verdict = CardVerdict(provider, submission, reason, line, self.almanac.now)
        await self.publisher.once(channels.CARD_VERDICTS, submission, verdict)

    # --- the checks, cheapest first -------------------------------------------------------------

    def _open(self, raw: bytes, submission: Fingerprint) -> Signed[ProviderCard]:
        try:
            card = self.roster.open_card(raw)
        except SignatureError as error:
            raise AdmissionError(f"card: {error}; sign it with the boot key", reason=Reason.CARD_SIGNATURE) from error
        except RecordError as error:
            raise AdmissionError(f"card: {error}", reason=Reason.CARD_MALFORMED) from error
        if card.hash != submission:
            raise AdmissionError("card: submitted under an id that is not its hash", reason=Reason.CARD_MALFORMED)
        return card

    async def _judge(self, signed: Signed[ProviderCard]) -> VerifiedQuote:
        card = signed.value
        self._check_certificate(card)
        await self._check_epoch(card)
        self._check_rates(card)
        await self._check_binding(card)
        return await self._check_quote(card)

    def _check_certificate(self, card: ProviderCard) -> None:
        domain = self.publisher.module.domain
        try:
            certificate = open_self_signed(
                card.certificate, BootCertificate, domain, signer=lambda certificate: certificate.root_key
            ).value
        except RecordError as error:
            raise AdmissionError(f"card.certificate: {error}", reason=Reason.CARD_CERTIFICATE) from error
        if provider_id(domain.coalition, certificate.root_key) != card.provider_id:
            raise AdmissionError(
                "card.provider_id: is not that of the root key in this coalition", reason=Reason.CARD_CERTIFICATE
            )
        told = (certificate.provider_id, certificate.epoch, certificate.keys)
        if told != (card.provider_id, card.epoch, card.binding.keys):
            raise AdmissionError(
                "card.certificate: certifies another provider, epoch or keys", reason=Reason.CARD_CERTIFICATE
            )

    async def _check_epoch(self, card: ProviderCard) -> None:
        claim = await self.roster.read_claim(card.provider_id)
        claimed = (claim.epoch, claim.signing_key) if claim else (0, b"")
        if claimed != (card.epoch, card.binding.keys.signing):
            raise AdmissionError(
                f"card.epoch: {card.epoch} is not claimed by this boot's key; the latest claim is of epoch "
                f"{claimed[0]}, and a bridge whose epoch is past must stop selling",
                reason=Reason.CARD_EPOCH,
            )
        known = self.roster.current.get(card.provider_id)
        if known is not None and known.card.epoch == card.epoch and known.card.version >= card.version:
            raise AdmissionError(
                f"card.version: {card.version} is not above {known.card.version}, which is admitted",
                reason=Reason.CARD_VERSION,
            )

    def _check_rates(self, card: ProviderCard) -> None:
        config, now = self.publisher.module.config, self.almanac.now
        if card.rates.currency != config.currency:
            raise AdmissionError(
                f"card.rates: in {card.rates.currency}, this market clears in {config.currency}",
                reason=Reason.CARD_CURRENCY,
            )
        if card.rate_fingerprint != fingerprint(card.rates):
            raise AdmissionError("card.rate_fingerprint: is not that of the rates", reason=Reason.CARD_FINGERPRINT)
        if not now - config.card_max_age_ticks <= card.refreshed_at <= now:
            raise AdmissionError(
                f"card.refreshed_at: tick {card.refreshed_at}, now is {now} and a card may be "
                f"{config.card_max_age_ticks} ticks old; refresh it",
                reason=Reason.CARD_STALE,
            )

    async def _check_binding(self, card: ProviderCard) -> None:
        binding, module = card.binding, self.publisher.module
        if (binding.coalition, binding.module) != (module.domain.coalition, module.domain.module):
            raise AdmissionError("card.binding: is for another coalition or module", reason=Reason.CARD_BINDING)
        tick = await self.almanac.find(binding.challenge_tick)
        if tick is None or tick.hash != binding.challenge:
            raise AdmissionError(
                f"card.binding.challenge: is not the hash of tick {binding.challenge_tick}", reason=Reason.CARD_BINDING
            )
        if self.almanac.now - binding.challenge_tick > module.config.quote_max_age_ticks:
            raise AdmissionError(
                f"card.binding.challenge_tick: {binding.challenge_tick} is too long ago; bind a fresh quote",
                reason=Reason.CARD_STALE,
            )

    async def _check_quote(self, card: ProviderCard) -> VerifiedQuote:
        verify = partial(
            self.verifier.verify,
            card.evidence,
            report_data=report_data(card.binding),
            now_s=self.clock.utc_ms() // 1000,
            policy=self.publisher.module.policy,
        )
        try:
            verified = await anyio.to_thread.run_sync(verify)
        except AttestationError as error:
            is_development = error.reason == AttestationReason.DEVELOPMENT
            reason = Reason.CARD_DEVELOPMENT if is_development else Reason.CARD_QUOTE
            raise AdmissionError(f"card.evidence: {error.reason}: {error}", reason=reason) from error
        if verified.development != card.development_attestation:
            raise AdmissionError(
                f"card.development_attestation: says {card.development_attestation}, the quote {verified.development}",
                reason=Reason.CARD_DEVELOPMENT,
            )
        return verified
